"""Tables of the risk check: each payment's decision, what a shop has set, and whom it blocks."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()


class RiskCheck(db.Base):
    """The decision about one payment, and who looked at it when it was held.

    `review`: null (nothing to decide), `later` (the customer has not authorised yet), `waiting`,
    `approved`, `refused`, or `over` (the payment went on without a decision: cancelled, lapsed).
    """

    __tablename__ = "risk_checks"

    payment_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    provider: Mapped[str] = mapped_column(String(20))  # Who was asked: rules, http.
    decision: Mapped[str] = mapped_column(String(10))  # allow hold refuse
    reasons: Mapped[list[dict[str, Any]]] = mapped_column(db.json_column_type())
    score: Mapped[float | None]
    fallback: Mapped[bool] = mapped_column(default=False)
    fallback_rule: Mapped[str | None] = mapped_column(String(40))
    failure: Mapped[str | None] = mapped_column(String(200))  # Why the provider counts as down.
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime]
    review: Mapped[str | None] = mapped_column(String(10))
    held_at: Mapped[datetime | None]  # Since when a person is waited for.
    reviewed_at: Mapped[datetime | None]
    reviewed_by: Mapped[str | None] = mapped_column(String(200))
    review_reason: Mapped[str | None] = mapped_column(String(1000))
    version: Mapped[int] = mapped_column(default=1)

    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "livemode", "payment_id"],
            ["payments.merchant_id", "payments.livemode", "payments.id"],
        ),
        Index(
            "ix_risk_checks_waiting",
            "merchant_id",
            "livemode",
            "held_at",
            postgresql_where=text("review = 'waiting'"),
            sqlite_where=text("review = 'waiting'"),
        ),
        Index(
            "ix_risk_checks_fallback",
            "asked_at",
            postgresql_where=text("fallback"),
            sqlite_where=text("fallback"),
        ),
    )


class RiskSettings(db.Base):
    """What a shop has set, for both modes; no row means the defaults of rules.py."""

    __tablename__ = "risk_settings"

    merchant_id: Mapped[str] = mapped_column(_ID, ForeignKey("merchants.id"), primary_key=True)
    terms: Mapped[dict[str, Any]]  # The shape of rules.Terms.
    updated_at: Mapped[datetime]


class RiskBlock(db.Base):
    """A customer, saved card or country that a shop does not sell to.

    `value` is a keyed hash (email, method) or two capital letters (country), never the address.
    """

    __tablename__ = "risk_blocks"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID, ForeignKey("merchants.id"))
    kind: Mapped[str] = mapped_column(String(10))  # email method country
    value: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(String(80))
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("merchant_id", "kind", "value"),)
