"""PSP connections: one row for each account at a payment service provider."""

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app import db


class PspConnection(db.Base):
    """An account at a PSP: the platform's own (no merchant) or one merchant's."""

    __tablename__ = "psp_connections"

    id: Mapped[str] = mapped_column(db.id_column_type(), primary_key=True)
    psp: Mapped[str] = mapped_column(String(20))
    livemode: Mapped[bool]
    merchant_id: Mapped[str | None] = mapped_column(db.id_column_type())
    secrets_sealed: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class Installation(db.Base):
    """This database's own random id, part of every PSP key; a restore keeps it."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    created_at: Mapped[datetime]


class PspGate(db.Base):
    """The breaker of one operation at a connection; `all` holds what they share: pace and budget.

    Every worker writes what it saw about once a second and when a state changes.
    """

    __tablename__ = "psp_gates"

    connection_id: Mapped[str] = mapped_column(db.id_column_type(), primary_key=True)
    operation: Mapped[str] = mapped_column(String(20), primary_key=True)
    state: Mapped[str] = mapped_column(String(12))  # closed open half_open ramp
    since: Mapped[datetime]
    reason: Mapped[str | None] = mapped_column(String(300))
    next_probe_at: Mapped[datetime | None]
    data: Mapped[dict[str, Any]]  # As app/psp/gates.py reads and writes it.
    updated_at: Mapped[datetime]
