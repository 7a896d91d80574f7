"""Who a session's token proves to be."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.identity import ABSOLUTE, FULL, IDLE, Identity, SessionEnded
from app.accounts.models import Membership, Session, User
from app.secrets import sha256

_TOKEN_CHARS = 52


async def identify(session: AsyncSession, *, token: str, now: datetime) -> Identity:
    """Return who a token proves to be. Raises SessionEnded for an unknown or ended session.

    An id that we did not give out is never adopted (trap 0.9), and nothing is written.
    """
    if len(token) != _TOKEN_CHARS or not token.isascii():
        raise SessionEnded
    found = await session.execute(
        select(Session, User.email, User.name, User.is_admin)
        .join(User, User.id == Session.user_id)
        .where(
            Session.token_hash == sha256(token),
            Session.ended_at.is_(None),
            User.disabled_at.is_(None),
        )
    )
    row = found.first()
    if row is None:
        raise SessionEnded
    held, email, name, is_admin = row
    # Before the second factor a session is only a step of a sign-in: it cannot be kept alive.
    longest = ABSOLUTE if held.stage == FULL else IDLE
    if now >= held.last_seen_at + IDLE or now >= held.created_at + longest:
        raise SessionEnded
    memberships = await session.execute(
        select(Membership.merchant_id, Membership.role).where(Membership.user_id == held.user_id)
    )
    return Identity(
        session_id=held.id,
        user_id=held.user_id,
        email=email,
        name=name,
        is_admin=is_admin,
        stage=held.stage,
        csrf_token=held.csrf_token,
        created_at=held.created_at,
        last_seen_at=held.last_seen_at,
        confirmed_at=held.confirmed_at,
        memberships={row.merchant_id: row.role for row in memberships},
    )


async def open_sessions(session: AsyncSession, *, user_id: str, now: datetime) -> Sequence[Session]:
    """Return a person's sessions that still work, the one used last first."""
    found = await session.scalars(
        select(Session)
        .where(
            Session.user_id == user_id,
            Session.ended_at.is_(None),
            Session.last_seen_at > now - IDLE,
            Session.created_at > now - ABSOLUTE,
        )
        .order_by(Session.last_seen_at.desc())
    )
    return found.all()
