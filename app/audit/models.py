"""The audit log: who did what, from where; one row an action, in the action's transaction."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()


class AuditRow(db.Base):
    """One state-changing action by a person, a key or a command; append-only."""

    __tablename__ = "audit_rows"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str | None] = mapped_column(_ID)  # Null: the platform's own.
    livemode: Mapped[bool | None]
    actor_kind: Mapped[str] = mapped_column(String(10))  # user key command system
    actor_id: Mapped[str | None] = mapped_column(_ID)
    actor_name: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(60))
    object_id: Mapped[str | None] = mapped_column(_ID)
    before: Mapped[Any] = mapped_column(db.json_column_type(), nullable=True)
    after: Mapped[Any] = mapped_column(db.json_column_type(), nullable=True)
    reason: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(String(60))
    session_id: Mapped[str | None] = mapped_column(_ID)
    request_id: Mapped[str | None] = mapped_column(String(80))
    created_at: Mapped[datetime]

    __table_args__ = (
        Index("ix_audit_rows_merchant_id", "merchant_id", "livemode", "id"),
        Index("ix_audit_rows_object_id", "object_id"),
    )
