"""People: users, memberships in shops, sessions, second factors, one-time links."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()


class User(db.Base):
    """A person. The password hash is null until the enrolment link was used."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)  # Lower case.
    name: Mapped[str | None] = mapped_column(String(120))
    is_admin: Mapped[bool] = mapped_column(default=False)
    is_demo: Mapped[bool] = mapped_column(default=False)
    password_hash: Mapped[str | None] = mapped_column(Text)
    password_changed_at: Mapped[datetime | None]
    totp_sealed: Mapped[str | None] = mapped_column(Text)
    totp_pending_sealed: Mapped[str | None] = mapped_column(Text)
    totp_last_step: Mapped[int] = mapped_column(default=0)
    totp_enrolled_at: Mapped[datetime | None]
    totp_failures: Mapped[int] = mapped_column(default=0)  # Cumulative: hard stop at 100.
    password_failures: Mapped[int] = mapped_column(default=0)
    last_failure_at: Mapped[datetime | None]
    locked_until: Mapped[datetime | None]  # The password path only.
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Membership(db.Base):
    """What a person may do in a shop. role: owner, operator, viewer."""

    __tablename__ = "memberships"

    user_id: Mapped[str] = mapped_column(_ID, ForeignKey("users.id"), primary_key=True)
    merchant_id: Mapped[str] = mapped_column(_ID, ForeignKey("merchants.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_memberships_merchant_id", "merchant_id"),)


class Session(db.Base):
    """A sign-in. Only the SHA-256 of its token is stored; a revoked row never comes back.

    stage: password (waits for the second factor), enrol (must set one up), full.
    """

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str] = mapped_column(_ID, ForeignKey("users.id"))
    stage: Mapped[str] = mapped_column(String(10))
    csrf_token: Mapped[str] = mapped_column(String(64))
    address: Mapped[str | None] = mapped_column(String(60))
    agent: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]  # Last time password and code were given.
    ended_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_sessions_user_id", "user_id"),)


class RecoveryCode(db.Base):
    """A way in without the second factor, once; stored as a hash."""

    __tablename__ = "recovery_codes"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    user_id: Mapped[str] = mapped_column(_ID, ForeignKey("users.id"))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_recovery_codes_user_id", "user_id"),)


class OneTimeLink(db.Base):
    """A link by mail or from a command: enrol, reset or unlock; single use, short-lived."""

    __tablename__ = "one_time_links"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    user_id: Mapped[str] = mapped_column(_ID, ForeignKey("users.id"))
    purpose: Mapped[str] = mapped_column(String(10))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Throttle(db.Base):
    """Failures by something other than a known account: an address, or an unknown e-mail."""

    __tablename__ = "throttles"

    scope: Mapped[str] = mapped_column(String(100), primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    window_started_at: Mapped[datetime]
    locked_until: Mapped[datetime | None]
