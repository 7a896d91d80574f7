"""Tables of payments: payments, refunds, attempts, PSP calls, customers."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app import db
from app.payments.states import UNEXPECTED

_ID = db.id_column_type()


def _tenant_key(target: str, column: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["merchant_id", "livemode", column],
        [f"{target}.merchant_id", f"{target}.livemode", f"{target}.id"],
    )


class Payment(db.Base):
    """What a shop asked for. Amounts in minor units; the status graph is in states.py."""

    __tablename__ = "payments"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    connection_id: Mapped[str] = mapped_column(_ID)
    psp: Mapped[str] = mapped_column(String(20))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(20))
    status_reason: Mapped[str | None] = mapped_column(String(40))
    hosted: Mapped[bool]
    capture_method: Mapped[str] = mapped_column(String(10), default="automatic")
    amount_captured: Mapped[int] = mapped_column(BigInteger, default=0)
    # Refunds that did not fail; raised by one conditional UPDATE, which is the lock.
    amount_refunded: Mapped[int] = mapped_column(BigInteger, default=0)
    # What of this payment still lies in merchant_pending; changed with its posting rows only.
    amount_pending: Mapped[int] = mapped_column(BigInteger, default=0)
    fee: Mapped[int] = mapped_column(BigInteger, default=0)  # The platform's, as charged.
    fee_returned: Mapped[int] = mapped_column(BigInteger, default=0)
    reference: Mapped[str | None] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(String(500))
    return_url: Mapped[str | None] = mapped_column(Text)
    cancel_url: Mapped[str | None] = mapped_column(Text)
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    payment_method: Mapped[str | None] = mapped_column(String(120))  # A PSP token, never a card.
    method: Mapped[str | None] = mapped_column(String(60))  # "Visa •••• 4242".
    psp_reference: Mapped[str | None] = mapped_column(String(255))
    failure_code: Mapped[str | None] = mapped_column(String(60))
    failure_decline_code: Mapped[str | None] = mapped_column(String(60))
    failure_message: Mapped[str | None] = mapped_column(String(500))
    cancel_requested_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]  # Of the hosted page; null for off-session payments.
    captured_at: Mapped[datetime | None]
    available_on: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    event_sequence: Mapped[int] = mapped_column(default=0)
    request_id: Mapped[str | None] = mapped_column(String(80))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("merchant_id", "livemode", "id"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint(
            "amount_captured >= 0 AND amount_captured <= amount", name="captured_in_amount"
        ),
        CheckConstraint(
            "amount_refunded >= 0 AND amount_refunded <= amount_captured",
            name="refunded_in_captured",
        ),
        CheckConstraint("amount_pending >= 0", name="pending_not_negative"),
        Index(
            "uq_payments_reference",
            "merchant_id",
            "livemode",
            "reference",
            unique=True,
            postgresql_where=text("status NOT IN ('failed', 'canceled', 'expired')"),
            sqlite_where=text("status NOT IN ('failed', 'canceled', 'expired')"),
        ),
        Index("ix_payments_psp_reference", "psp_reference"),
        Index(
            "ix_payments_available_on",
            "available_on",
            postgresql_where=text("settled_at IS NULL AND available_on IS NOT NULL"),
            sqlite_where=text("settled_at IS NULL AND available_on IS NOT NULL"),
        ),
    )


class Customer(db.Base):
    """Personal data of a payment's customer, sealed with a key of its own.

    Erasing a customer = deleting this row: what else was sealed with its key is then unreadable.
    """

    __tablename__ = "customers_of_payments"

    payment_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    data_key_sealed: Mapped[str] = mapped_column(Text)
    email_sealed: Mapped[str | None] = mapped_column(Text)
    name_sealed: Mapped[str | None] = mapped_column(Text)
    email_hash: Mapped[str | None] = mapped_column(String(64))
    # Where the customer is and where the card is from, as far as the shop told: for the risk check.
    country: Mapped[str | None] = mapped_column(String(2))
    card_country: Mapped[str | None] = mapped_column(String(2))

    __table_args__ = (
        _tenant_key("payments", "payment_id"),
        # With the payment, so that the newest of a customer are found whatever their number.
        Index(
            "ix_customers_of_payments_email_hash",
            "merchant_id",
            "livemode",
            "email_hash",
            "payment_id",
        ),
    )


class Refund(db.Base):
    """Money that goes back. own = amount - fee_share, taken from pending and from available."""

    __tablename__ = "refunds"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    payment_id: Mapped[str] = mapped_column(_ID)
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(12), default="pending")  # pending succeeded failed
    source: Mapped[str] = mapped_column(String(12), default="api")  # api dashboard psp
    reason: Mapped[str | None] = mapped_column(String(40))
    fee_share: Mapped[int] = mapped_column(BigInteger, default=0)
    from_pending: Mapped[int] = mapped_column(BigInteger, default=0)
    from_available: Mapped[int] = mapped_column(BigInteger, default=0)
    psp_reference: Mapped[str | None] = mapped_column(String(255))
    failure_code: Mapped[str | None] = mapped_column(String(60))
    failure_message: Mapped[str | None] = mapped_column(String(500))
    status_reason: Mapped[str | None] = mapped_column(String(40))
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("merchant_id", "livemode", "id"),
        _tenant_key("payments", "payment_id"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint(
            "from_pending >= 0 AND from_available >= 0 AND fee_share >= 0", name="parts"
        ),
        Index("ix_refunds_payment_id", "payment_id"),
        Index("uq_refunds_psp_reference", "psp_reference", unique=True),
    )


class Attempt(db.Base):
    """One intended effect at a PSP, with frozen parameters; states in states.py."""

    __tablename__ = "attempts"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    payment_id: Mapped[str] = mapped_column(_ID)
    refund_id: Mapped[str | None] = mapped_column(_ID)
    connection_id: Mapped[str] = mapped_column(_ID)
    kind: Mapped[str] = mapped_column(String(10))
    state: Mapped[str] = mapped_column(String(14), default="created")
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    params_sealed: Mapped[str] = mapped_column(Text)  # With the payment's data key.
    step: Mapped[str | None] = mapped_column(String(20))  # The last step that was sent.
    psp_reference: Mapped[str | None] = mapped_column(String(255))
    session_reference: Mapped[str | None] = mapped_column(String(255))
    page_url: Mapped[str | None] = mapped_column(Text)
    page_expires_at: Mapped[datetime | None]
    first_sent_at: Mapped[datetime | None]
    next_check_at: Mapped[datetime | None]  # Of an unknown outcome, and of a hold.
    checks: Mapped[int] = mapped_column(default=0)
    misses: Mapped[int] = mapped_column(default=0)
    code: Mapped[str | None] = mapped_column(String(60))
    decline_code: Mapped[str | None] = mapped_column(String(60))
    message: Mapped[str | None] = mapped_column(String(500))
    version: Mapped[int] = mapped_column(default=0)
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("merchant_id", "livemode", "id"),
        _tenant_key("payments", "payment_id"),
        # At most one open question about the charge of a payment (semantics: lanes); the
        # database itself refuses a second.
        Index(
            "uq_attempts_lane",
            "payment_id",
            unique=True,
            postgresql_where=text(
                "kind IN ('charge', 'capture', 'void') AND state IN ('created', 'sent', 'unknown')"
            ),
            sqlite_where=text(
                "kind IN ('charge', 'capture', 'void') AND state IN ('created', 'sent', 'unknown')"
            ),
        ),
        Index(
            "uq_attempts_checkout",
            "payment_id",
            unique=True,
            postgresql_where=text(
                "kind = 'checkout' AND state IN ('created', 'sent', 'open', 'unknown')"
            ),
            sqlite_where=text(
                "kind = 'checkout' AND state IN ('created', 'sent', 'open', 'unknown')"
            ),
        ),
        Index("ix_attempts_payment_id", "payment_id"),
        Index("ix_attempts_refund_id", "refund_id"),
        Index("ix_attempts_psp_reference", "psp_reference"),
        Index("ix_attempts_session_reference", "session_reference"),
        Index(
            "ix_attempts_next_check_at",
            "next_check_at",
            postgresql_where=text("next_check_at IS NOT NULL"),
            sqlite_where=text("next_check_at IS NOT NULL"),
        ),
    )

    @property
    def pays(self) -> bool:
        """Whether its payment has, or holds, its money by this attempt."""
        charges = self.kind in {"checkout", "charge"} and self.state == "succeeded"
        return charges and self.code != UNEXPECTED


class PspCall(db.Base):
    """One request, replay or look-up at a PSP; written before it is sent, completed after."""

    __tablename__ = "psp_calls"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    payment_id: Mapped[str] = mapped_column(_ID)
    attempt_id: Mapped[str] = mapped_column(_ID)
    connection_id: Mapped[str] = mapped_column(_ID)
    kind: Mapped[str] = mapped_column(String(10))  # request replay lookup close fee
    step: Mapped[str] = mapped_column(String(20))
    key: Mapped[str | None] = mapped_column(String(255))
    params_hash: Mapped[str | None] = mapped_column(String(64))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]  # Null: we do not know how it ended.
    outcome: Mapped[str | None] = mapped_column(String(12))  # See Result.outcome.
    http_status: Mapped[int | None]
    duration_us: Mapped[int | None] = mapped_column(BigInteger)
    psp_request_id: Mapped[str | None] = mapped_column(String(80))
    detail: Mapped[str | None] = mapped_column(String(500))
    answer_sealed: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "livemode", "attempt_id"],
            ["attempts.merchant_id", "attempts.livemode", "attempts.id"],
        ),
        Index("ix_psp_calls_attempt_id", "attempt_id"),
        Index("ix_psp_calls_payment_id", "payment_id"),
        Index("ix_psp_calls_started_at", "started_at"),
    )
