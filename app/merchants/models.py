"""Merchants (shops) and their API keys."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()


class Merchant(db.Base):
    """A shop with its terms. Fees: basis points and a fixed part in minor units."""

    __tablename__ = "merchants"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    currency: Mapped[str] = mapped_column(String(3), default="eur")  # Shown first.
    fee_basis_points: Mapped[int] = mapped_column(default=140)
    fee_fixed: Mapped[int] = mapped_column(BigInteger, default=25)
    fee_return: Mapped[bool] = mapped_column(default=True)
    settle_delay_seconds: Mapped[int] = mapped_column(default=172_800)
    overdraft_limit: Mapped[int] = mapped_column(BigInteger, default=0)
    step_up_limit: Mapped[int] = mapped_column(BigInteger, default=50_000)  # Refunds above: reauth.
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ApiKey(db.Base):
    """A credential of a shop's server; only its SHA-256 is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID, ForeignKey("merchants.id"))
    livemode: Mapped[bool]
    name: Mapped[str] = mapped_column(String(80))
    hint: Mapped[str] = mapped_column(String(24))  # "cf_test_ab…wxyz", to recognise it by.
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[Any] = mapped_column(db.json_column_type())
    api_version: Mapped[str] = mapped_column(String(12))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    replaces_id: Mapped[str | None] = mapped_column(_ID)
    created_by: Mapped[str | None] = mapped_column(_ID)
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_api_keys_merchant_id", "merchant_id", "livemode"),)
