"""Writes about people: accounts, one-time links, passwords, and how fast they may be tried."""

import re
import unicodedata
from datetime import datetime, timedelta

from sqlalchemy import case, delete, insert, literal, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, mail
from app.accounts import letters, queries, throttling
from app.accounts.identity import LinkRefused
from app.accounts.models import OneTimeLink, Session, Throttle, User
from app.accounts.sessions import operations as sessions
from app.accounts.throttling import Window
from app.audit import operations as audit
from app.audit.operations import Actor
from app.errors import Conflict, Invalid, TooMany
from app.ids import Ids
from app.secrets import Sealer, sha256

_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]+@[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]+")


class EmailInUse(Conflict):
    """There is an account with this e-mail address."""

    code = "email_in_use"


def normal_email(email: str) -> str:
    """Return the one form of an e-mail address that accounts are found by."""
    return unicodedata.normalize("NFC", email).strip().lower()


def checked_email(email: str) -> str:
    """Return the address in its one form. Raises Invalid."""
    text = normal_email(email)
    if len(text) > 254 or not text.isprintable() or not _EMAIL.fullmatch(text):
        raise Invalid("This is no e-mail address.", param="email")
    return text


async def create_user(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    email: str,
    name: str | None = None,
    is_admin: bool = False,
    is_demo: bool = False,
) -> User:
    """Make an account that waits for its enrolment link. Raises Invalid, EmailInUse."""
    address = checked_email(email)
    if await queries.user_by_email(session, email=address) is not None:
        raise EmailInUse(f"There is an account of {address}.")
    if name is not None and (len(name) > 120 or not name.isprintable()):
        raise Invalid("name must be at most 120 printable characters", param="name")
    user = User(
        id=ids("usr"),
        email=address,
        name=name,
        is_admin=is_admin,
        is_demo=is_demo,
        created_at=now,
    )
    session.add(user)
    await session.flush()
    after = {"email": address, "is_admin": is_admin}
    await note(session, ids=ids, now=now, actor=actor, action="user.created", of=user, after=after)
    return user


async def note(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    action: str,
    of: User,
    before: object = None,
    after: object = None,
    reason: str | None = None,
) -> None:
    """Write the audit row of an action on an account, which belongs to the platform."""
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action=action,
        object_id=of.id,
        merchant_id=None,
        livemode=None,
        before=before,
        after=after,
        reason=reason,
    )


async def send_letter(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    sealer: Sealer,
    to: User,
    letter: letters.Letter,
) -> None:
    """Promise a letter to a person."""
    written = mail.Letter(to=to.email, subject=letter.subject, text=letter.text)
    await mail.enqueue(session, ids=ids, now=now, sealer=sealer, letter=written)


async def send_notice(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    sealer: Sealer,
    to: User,
    what: str,
    address: str | None,
) -> None:
    """Promise a letter that tells a person of a change to their account."""
    letter = letters.notice(what, when=f"{now:%d %B %Y, %H:%M}", address=address)
    await send_letter(session, ids=ids, now=now, sealer=sealer, to=to, letter=letter)


async def make_link(
    session: AsyncSession, *, ids: Ids, now: datetime, user_id: str, purpose: str
) -> str:
    """Make a one-time link, which replaces earlier ones of its purpose; return its token."""
    await session.execute(
        update(OneTimeLink)
        .where(
            OneTimeLink.user_id == user_id,
            OneTimeLink.purpose == purpose,
            OneTimeLink.used_at.is_(None),
        )
        .values(used_at=now)
    )
    token = ids.token(32)
    await session.execute(
        insert(OneTimeLink).values(
            id=ids("otl"),
            user_id=user_id,
            purpose=purpose,
            hash=sha256(token),
            expires_at=now + timedelta(seconds=letters.LINK_SECONDS[purpose]),
            created_at=now,
        )
    )
    return token


async def take_link(session: AsyncSession, *, purpose: str, token: str, now: datetime) -> User:
    """Use a link up and return its person, locked. Raises LinkRefused."""
    taken = await session.execute(
        update(OneTimeLink)
        .where(
            OneTimeLink.hash == sha256(token),
            OneTimeLink.purpose == purpose,
            OneTimeLink.used_at.is_(None),
            OneTimeLink.expires_at > now,
        )
        .values(used_at=now)
        .returning(OneTimeLink.user_id)
    )
    user_id = taken.scalar()
    if user_id is None:
        raise LinkRefused("This link has been used or is too old.")
    person = await queries.user(session, user_id=user_id, lock=True)
    if person.disabled_at is not None:
        raise LinkRefused("This link has been used or is too old.")
    return person


async def set_password(
    session: AsyncSession,
    *,
    user: User,
    password_hash: str,
    now: datetime,
    keep_session: str | None = None,
) -> None:
    """Store a new password, take every lock off, end every session but one. `user` is locked."""
    user.password_hash = password_hash
    user.password_changed_at = now
    clear_failures(user)
    await session.flush()
    await sessions.end_all(session, user_id=user.id, now=now, but=keep_session)
    # A link that waits in a mailbox must not undo what was just decided.
    await session.execute(
        update(OneTimeLink)
        .where(OneTimeLink.user_id == user.id, OneTimeLink.used_at.is_(None))
        .values(used_at=now)
    )


async def set_disabled(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    user_id: str,
    disabled: bool,
) -> User:
    """Switch an account off, which ends its sessions at once, or on again. Raises NotFound."""
    user = await queries.user(session, user_id=user_id, lock=True)
    if disabled == (user.disabled_at is not None):
        return user
    user.disabled_at = now if disabled else None
    await session.flush()
    await sessions.end_all(session, user_id=user.id, now=now)
    action = "user.disabled" if disabled else "user.enabled"
    await note(session, ids=ids, now=now, actor=actor, action=action, of=user)
    return user


def clear_failures(user: User) -> None:
    """Forget wrong passwords, after a right one or by an unlock link."""
    user.password_failures = 0
    user.last_failure_at = None
    user.locked_until = None


def reserve_try(user: User, *, now: datetime) -> bool:
    """Count a wrong password before it is checked; tell whether it may be checked at all.

    Counted first and taken back after a right one, so that many tries at once cannot all see
    the count before any of them. `user` is locked.
    """
    allowed = throttling.may_try(
        failures=user.password_failures,
        last_failure_at=user.last_failure_at,
        locked_until=user.locked_until,
        now=now,
    )
    if allowed:
        user.password_failures += 1
        user.last_failure_at = now
        if user.password_failures >= throttling.LOCK_AT:
            user.locked_until = now + throttling.LOCK
    return allowed


async def count(session: AsyncSession, *, scope: str, window: Window, now: datetime) -> None:
    """Count a try that may turn out wrong. Raises TooMany when the window is full."""
    await db.insert_once(
        session, Throttle, {"scope": scope, "failures": 0, "window_started_at": now}
    )
    is_over = Throttle.window_started_at <= now - timedelta(seconds=window.seconds)
    counted = await session.execute(
        update(Throttle)
        .where(Throttle.scope == scope)
        .values(
            failures=case((is_over, 1), else_=Throttle.failures + 1),
            window_started_at=case(
                (is_over, literal(now, db.Utc())), else_=Throttle.window_started_at
            ),
        )
        .returning(Throttle.failures, Throttle.window_started_at)
    )
    failures, started = counted.one()
    if failures > window.limit:
        left = int((started - now).total_seconds()) + window.seconds
        raise TooMany("Too many tries. Wait a little.", retry_after=max(1, left))


async def take_back(session: AsyncSession, *, scope: str) -> None:
    """Take a counted try back, because it was right."""
    await session.execute(
        update(Throttle)
        .where(Throttle.scope == scope, Throttle.failures > 0)
        .values(failures=Throttle.failures - 1)
    )


async def purge(session: AsyncSession, *, now: datetime, days: int = 90) -> None:
    """Forget old counters, links and ended sessions; for the workers' daily round."""
    old = now - timedelta(days=days)
    await session.execute(
        delete(Throttle).where(Throttle.window_started_at < now - timedelta(days=1))
    )
    await session.execute(delete(OneTimeLink).where(OneTimeLink.expires_at < old))
    await session.execute(delete(Session).where(Session.last_seen_at < old))
