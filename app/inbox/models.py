"""Events received from PSPs: stored before anything else, applied by a worker."""

from datetime import datetime

from sqlalchemy import Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()


class ReceivedEvent(db.Base):
    """A verified event of a PSP. state: received, applied, parked, foreign, ignored."""

    __tablename__ = "psp_events"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    connection_id: Mapped[str] = mapped_column(_ID)
    psp_event_id: Mapped[str] = mapped_column(String(255))
    livemode: Mapped[bool]
    type: Mapped[str] = mapped_column(String(80))
    about: Mapped[str] = mapped_column(String(12))
    psp_reference: Mapped[str | None] = mapped_column(String(255))
    object_reference: Mapped[str | None] = mapped_column(String(255))
    attempt_id: Mapped[str | None] = mapped_column(String(255))  # As the metadata says.
    installation: Mapped[str | None] = mapped_column(String(255))
    merchant_id: Mapped[str | None] = mapped_column(_ID)
    payment_id: Mapped[str | None] = mapped_column(_ID)
    state: Mapped[str] = mapped_column(String(10), default="received")
    note: Mapped[str | None] = mapped_column(String(500))
    body_sealed: Mapped[str | None] = mapped_column(Text)
    psp_created_at: Mapped[datetime]
    received_at: Mapped[datetime]
    applied_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("connection_id", "psp_event_id"),
        Index("ix_psp_events_payment_id", "payment_id"),
        Index("ix_psp_events_received_at", "received_at"),
        Index(
            "ix_psp_events_open",
            "received_at",
            postgresql_where=text("state IN ('received', 'parked')"),
            sqlite_where=text("state IN ('received', 'parked')"),
        ),
    )
