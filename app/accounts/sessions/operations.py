"""Writes of sessions: a new random id at each step up, and an end that nothing takes back."""

from datetime import datetime, timedelta

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.identity import Opened, SessionEnded
from app.accounts.models import Session
from app.ids import Ids
from app.secrets import sha256

TOUCH_EVERY = timedelta(seconds=20)


async def open_session(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    user_id: str,
    stage: str,
    address: str | None,
    agent: str | None,
    created_at: datetime | None = None,
    confirmed_at: datetime | None = None,
) -> Opened:
    """Open a session with an id of its own; `created_at` keeps an earlier sign-in's limit."""
    opened = Opened(
        token=ids.token(32),
        session_id=ids("ses"),
        user_id=user_id,
        stage=stage,
        csrf_token=ids.token(32),
    )
    await session.execute(
        insert(Session).values(
            id=opened.session_id,
            token_hash=sha256(opened.token),
            user_id=user_id,
            stage=stage,
            csrf_token=opened.csrf_token,
            address=address and address[:60],
            agent=agent and agent[:200],
            created_at=created_at or now,
            last_seen_at=now,
            confirmed_at=confirmed_at,
        )
    )
    return opened


async def renew(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    session_id: str,
    stage: str,
    confirmed_at: datetime | None,
) -> Opened:
    """End a session and open its successor, under a new id. Raises SessionEnded."""
    ended = await session.execute(
        update(Session)
        .where(Session.id == session_id, Session.ended_at.is_(None))
        .values(ended_at=now)
        .returning(Session.user_id, Session.address, Session.agent, Session.created_at)
    )
    old = ended.first()
    if old is None:
        raise SessionEnded
    return await open_session(
        session,
        ids=ids,
        now=now,
        user_id=old.user_id,
        stage=stage,
        address=old.address,
        agent=old.agent,
        created_at=old.created_at,
        confirmed_at=confirmed_at,
    )


async def touch(session: AsyncSession, *, session_id: str, now: datetime) -> bool:
    """Note that a person did something; an ended session stays ended. Tells if it was written.

    Only for requests that a person caused; polling does not prolong a session.
    """
    changed = await session.execute(
        update(Session)
        .where(
            Session.id == session_id,
            Session.ended_at.is_(None),
            Session.last_seen_at <= now - TOUCH_EVERY,
        )
        .values(last_seen_at=now)
        .returning(Session.id)
    )
    return changed.first() is not None


async def note_confirmation(session: AsyncSession, *, session_id: str, now: datetime) -> None:
    """Note that password and code were given just now. Raises SessionEnded.

    The id stays: the rights last five minutes, and forms in other tabs hold this session's token.
    """
    changed = await session.execute(
        update(Session)
        .where(Session.id == session_id, Session.ended_at.is_(None))
        .values(confirmed_at=now, last_seen_at=now)
        .returning(Session.id)
    )
    if changed.first() is None:
        raise SessionEnded


async def end(session: AsyncSession, *, user_id: str, session_id: str, now: datetime) -> bool:
    """End one of a person's sessions; tell whether it was still open."""
    return await _end(session, now, Session.user_id == user_id, Session.id == session_id) == 1


async def end_all(
    session: AsyncSession, *, user_id: str, now: datetime, but: str | None = None
) -> int:
    """End every session of a person, `but` the one with this id; tell how many."""
    return await _end(session, now, Session.user_id == user_id, Session.id != (but or ""))


async def _end(session: AsyncSession, now: datetime, *which: object) -> int:
    ended = await session.execute(
        update(Session)
        .where(*which, Session.ended_at.is_(None))  # type: ignore[arg-type] # SQL conditions.
        .values(ended_at=now)
        .returning(Session.id)
    )
    return len(ended.all())
