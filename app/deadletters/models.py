"""Decisions about many dead letters that wait for a second admin."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()


class Approval(db.Base):
    """What one admin asks for and another must agree to. state: waiting, approved, refused.

    action: retry, discard. `sums` are pairs of minor units and a currency.
    """

    __tablename__ = "approvals"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    action: Mapped[str] = mapped_column(String(10))
    job_ids: Mapped[Any] = mapped_column(db.json_column_type())
    sums: Mapped[Any] = mapped_column(db.json_column_type())
    reason: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    asked_by: Mapped[str] = mapped_column(_ID)
    asked_name: Mapped[str] = mapped_column(String(200))
    asked_at: Mapped[datetime]
    decided_by: Mapped[str | None] = mapped_column(_ID)
    decided_name: Mapped[str | None] = mapped_column(String(200))
    decided_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(200))  # What came of it, in words.

    __table_args__ = (Index("ix_approvals_state", "state", "id"),)
