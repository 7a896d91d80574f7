"""Review items: a question about money that only a person can settle, and its answer."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()


class Review(db.Base):
    """One question about an attempt at a PSP; opened in the transaction of the fact.

    kind: unknown_outcome, mismatch, unexpected_receipt. state: open, closed. stage, while a
    decision is on its way: looking (a worker asks the PSP), second (another person must agree).
    """

    __tablename__ = "reviews"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    payment_id: Mapped[str] = mapped_column(_ID)
    attempt_id: Mapped[str] = mapped_column(_ID)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(8), default="open")
    stage: Mapped[str | None] = mapped_column(String(8))
    amount: Mapped[int] = mapped_column(BigInteger)  # Minor units that are in question.
    currency: Mapped[str] = mapped_column(String(3))
    reference: Mapped[str | None] = mapped_column(String(255))  # The PSP's object, if known.
    why: Mapped[str] = mapped_column(String(500))
    suggestion: Mapped[str] = mapped_column(String(20))  # compare, refund_at_psp
    decision: Mapped[str | None] = mapped_column(String(20))  # See `desk.finding`.
    evidence: Mapped[str | None] = mapped_column(String(255))  # The PSP's id that was named.
    reason: Mapped[str | None] = mapped_column(Text)
    decided_by: Mapped[str | None] = mapped_column(_ID)
    decided_name: Mapped[str | None] = mapped_column(String(200))
    decided_at: Mapped[datetime | None]
    second_by: Mapped[str | None] = mapped_column(_ID)
    second_name: Mapped[str | None] = mapped_column(String(200))
    second_at: Mapped[datetime | None]
    finding: Mapped[str | None] = mapped_column(String(500))  # What the PSP said to the decision.
    looked_at: Mapped[datetime | None]
    closed_how: Mapped[str | None] = mapped_column(String(200))
    version: Mapped[int] = mapped_column(default=0)  # Raised by each step of a decision.
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]

    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "livemode", "attempt_id"],
            ["attempts.merchant_id", "attempts.livemode", "attempts.id"],
        ),
        # One open item an attempt and kind, whoever finds the fact first.
        Index(
            "uq_reviews_open",
            "attempt_id",
            "kind",
            unique=True,
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        Index("ix_reviews_attempt_id", "attempt_id"),
        Index("ix_reviews_payment_id", "payment_id"),
        Index("ix_reviews_state", "state", "id"),
    )
