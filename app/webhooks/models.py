"""Events for merchants, their endpoints, and each delivery of one to the other."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    UniqueConstraint,
    column,
    table,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()

# Of the feature above this one, by name: erasing a customer deletes the row, and with it the key.
CUSTOMERS = table("customers_of_payments", column("payment_id"), column("data_key_sealed"))


class Event(db.Base):
    """Something that happened, as merchants are told; never changes (only `fanned_out`)."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    type: Mapped[str] = mapped_column(String(60))
    payment_id: Mapped[str | None] = mapped_column(_ID)
    refund_id: Mapped[str | None] = mapped_column(_ID)
    sequence: Mapped[int | None]  # Counted in the payment's row under its lock.
    body_sealed: Mapped[str] = mapped_column(Text)
    endpoint_id: Mapped[str | None] = mapped_column(_ID)  # A test event: for this endpoint alone.
    fanned_out: Mapped[bool] = mapped_column(default=False)
    api_version: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("merchant_id", "livemode", "id"),
        UniqueConstraint("payment_id", "sequence"),
        Index(
            "ix_events_not_fanned_out",
            "id",
            postgresql_where=text("fanned_out = false"),
            sqlite_where=text("fanned_out = 0"),
        ),
    )


class Endpoint(db.Base):
    """A merchant's address for events. status: active, failing, disabled."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(String(200))
    event_types: Mapped[Any] = mapped_column(db.json_column_type())  # Empty: all.
    secret_sealed: Mapped[str] = mapped_column(Text)
    old_secret_sealed: Mapped[str | None] = mapped_column(Text)
    old_secret_until: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(String(10), default="active")
    status_reason: Mapped[str | None] = mapped_column(String(200))
    failing_since: Mapped[datetime | None]
    api_version: Mapped[str] = mapped_column(String(12))
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("merchant_id", "livemode", "id"),)


class Delivery(db.Base):
    """One event to one endpoint. state: queued, delivered, retrying, exhausted."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID)
    livemode: Mapped[bool]
    endpoint_id: Mapped[str] = mapped_column(_ID)
    event_id: Mapped[str] = mapped_column(_ID)
    payment_id: Mapped[str | None] = mapped_column(_ID)
    state: Mapped[str] = mapped_column(String(10), default="queued")
    tries: Mapped[int] = mapped_column(default=0)
    log: Mapped[Any] = mapped_column(db.json_column_type(), default=list)
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(String(300))
    answer_sealed: Mapped[str | None] = mapped_column(Text)
    next_try_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "livemode", "endpoint_id"],
            ["webhook_endpoints.merchant_id", "webhook_endpoints.livemode", "webhook_endpoints.id"],
        ),
        ForeignKeyConstraint(
            ["merchant_id", "livemode", "event_id"],
            ["events.merchant_id", "events.livemode", "events.id"],
        ),
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_deliveries_event_id", "event_id"),
        Index("ix_deliveries_endpoint_id", "endpoint_id", "id"),
        Index("ix_deliveries_payment_id", "payment_id"),
    )
