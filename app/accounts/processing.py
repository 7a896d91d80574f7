"""Passwords and one-time links: count (commit), hash outside of it, finish (commit)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import letters, operations, queries, throttling
from app.accounts.identity import (
    ENROL,
    FULL,
    PASSWORD,
    Identity,
    LinkRefused,
    Opened,
    Origin,
    SessionEnded,
    WrongStage,
)
from app.accounts.models import User
from app.accounts.passwords import Hasher, check_new
from app.accounts.sessions import operations as sessions
from app.audit.operations import Actor
from app.errors import Unavailable
from app.runtime import Runtime

T = TypeVar("T")

_AT_ONCE, _WAITING = 2, 40
_SALT_BYTES = 16


class _Threads:
    """A few threads for slow hashes, so that guesses can take neither all memory nor all cores."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="passwords")
        self._held = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread. Raises Unavailable when too many wait already."""
        if self._held >= _AT_ONCE + _WAITING:
            raise Unavailable("Too many people sign in right now.", retry_after=2)
        self._held += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._held -= 1


_threads = _Threads()


def hasher(rt: Runtime) -> Hasher:
    """Return the password hasher of a runtime."""
    return Hasher(rt.sealer, rt.settings.argon2_memory_kib)


async def hash_password(rt: Runtime, password: str) -> str:
    """Return the hash to store of a password, made in a thread."""
    salt = rt.ids.random_bytes(_SALT_BYTES)
    return await _threads.run(lambda: hasher(rt).hash(password, salt))


async def is_right(rt: Runtime, stored: str | None, password: str) -> bool:
    """Tell whether a password is the stored one, after one Argon2 in a thread in any case."""
    return await _threads.run(lambda: hasher(rt).verify(stored, password))


def actor_of(user: User, origin: Origin, session_id: str | None = None) -> Actor:
    """Return the actor of somebody who is about to have a session."""
    return Actor(
        kind="user",
        id=user.id,
        name=user.email,
        address=origin.address,
        session_id=session_id,
        request_id=origin.request_id,
    )


def stranger(origin: Origin, session_id: str | None = None) -> Actor:
    """Return the actor of a try that proved nobody: all that is known is from where it came."""
    return Actor(
        kind="user",
        name="somebody who did not prove it",
        address=origin.address,
        session_id=session_id,
        request_id=origin.request_id,
    )


async def count_try(session: AsyncSession, origin: Origin, now: datetime) -> None:
    """Count a try by address and by everybody, before it is looked at. Raises TooMany."""
    scope = throttling.address_scope(origin.address)
    await operations.count(session, scope=scope, window=throttling.PER_ADDRESS, now=now)
    await operations.count(session, scope="everybody", window=throttling.EVERYBODY, now=now)


async def take_back_try(session: AsyncSession, origin: Origin) -> None:
    """Take a counted try back, because it was right."""
    for scope in (throttling.address_scope(origin.address), "everybody"):
        await operations.take_back(session, scope=scope)


def _codes_scope(user_id: str) -> str:
    return f"codes:{user_id}"


async def counted(session: AsyncSession, identity: Identity, origin: Origin, now: datetime) -> User:
    """Count a code before it is looked at; return its person, locked. Raises TooMany."""
    scope = _codes_scope(identity.user_id)
    await operations.count(session, scope=scope, window=throttling.CODES, now=now)
    await count_try(session, origin, now)
    user = await queries.user(session, user_id=identity.user_id, lock=True)
    if user.disabled_at is not None:
        raise SessionEnded
    return user


async def uncounted(session: AsyncSession, identity: Identity, origin: Origin) -> None:
    """Take a counted code back, because it was right."""
    await operations.take_back(session, scope=_codes_scope(identity.user_id))
    await take_back_try(session, origin)


async def renew_alone(
    rt: Runtime, session: AsyncSession, identity: Identity, now: datetime
) -> Opened:
    """Give a session a new id and full rights, and end the person's other ones."""
    opened = await sessions.renew(
        session,
        ids=rt.ids,
        now=now,
        session_id=identity.session_id,
        stage=FULL,
        confirmed_at=now,
    )
    await sessions.end_all(session, user_id=identity.user_id, now=now, but=opened.session_id)
    return opened


async def tell(
    rt: Runtime, session: AsyncSession, *, user: User, actor: Actor, action: str, what: str
) -> None:
    """Write a change to an account into the log, and into a letter to its person."""
    now = rt.clock()
    await operations.note(session, ids=rt.ids, now=now, actor=actor, action=action, of=user)
    await operations.send_notice(
        session,
        ids=rt.ids,
        now=now,
        sealer=rt.sealer,
        to=user,
        what=what,
        address=actor.address,
    )


async def change_password(
    rt: Runtime, *, identity: Identity, password: str, origin: Origin
) -> Opened:
    """Set a new password, with fresh old one and code; return this session under a new id.

    Every other session ends. Raises ConfirmationNeeded, PasswordRefused, WrongStage.
    """
    if identity.stage != FULL:
        raise WrongStage("Finish signing in first.")
    identity.require_confirmed(rt.clock())
    hashed = await _new_hash(rt, identity.user_id, password)
    async with rt.sessions.begin() as session:
        now = rt.clock()
        user = await queries.user(session, user_id=identity.user_id, lock=True)
        opened = await renew_alone(rt, session, identity, now)
        await operations.set_password(
            session, user=user, password_hash=hashed, now=now, keep_session=opened.session_id
        )
        await tell(
            rt,
            session,
            user=user,
            actor=actor_of(user, origin, opened.session_id),
            action="user.password_changed",
            what="the password was changed",
        )
    return opened


async def _new_hash(rt: Runtime, user_id: str, password: str) -> str:
    async with rt.sessions.read() as session:
        user = await queries.user(session, user_id=user_id)
        shops = await queries.shops_of(session, user_id=user_id)
    context = [user.email, user.name or "", *(shop.name for shop in shops)]
    await _threads.run(lambda: check_new(password, context=context))
    return await hash_password(rt, password)


async def request_reset(rt: Runtime, *, email: str, origin: Origin) -> None:
    """Send a link for a new password, if there is such an account; the answer never tells.

    Raises TooMany for an address that asks too often.
    """
    address = operations.normal_email(email)
    async with rt.sessions.begin() as session:
        now = rt.clock()
        await count_try(session, origin, now)
        scope = f"reset:{rt.sealer.keyed_hash('reset', address)}"
        await operations.count(session, scope=scope, window=throttling.MAILS, now=now)
        user = await queries.user_by_email(session, email=address)
        if user is None or user.disabled_at is not None:
            return
        enrolled = user.password_hash is not None
        purpose = letters.RESET if enrolled else letters.ENROL
        token = await operations.make_link(
            session, ids=rt.ids, now=now, user_id=user.id, purpose=purpose
        )
        link = letters.link(rt.settings.public_url, purpose, token)
        letter = letters.reset(link) if enrolled else letters.invitation(link, where="your shop")
        await operations.send_letter(
            session, ids=rt.ids, now=now, sealer=rt.sealer, to=user, letter=letter
        )


async def use_link(
    rt: Runtime, *, purpose: str, token: str, password: str, origin: Origin
) -> Opened:
    """Set the password that a link allows; the second factor is asked for as always.

    Every session ends but the one that this returns, at stage `password` or `enrol`. A refused
    password leaves the link unused. Raises LinkRefused, PasswordRefused, TooMany.
    """
    if purpose not in {letters.ENROL, letters.RESET}:
        raise LinkRefused("This link has been used or is too old.")
    async with rt.sessions.begin() as session:
        await count_try(session, origin, rt.clock())
        link = await queries.open_link(session, purpose=purpose, token=token, now=rt.clock())
    hashed = await _new_hash(rt, link.user_id, password)
    async with rt.sessions.begin() as session:
        now = rt.clock()
        await take_back_try(session, origin)
        user = await operations.take_link(session, purpose=purpose, token=token, now=now)
        await operations.set_password(session, user=user, password_hash=hashed, now=now)
        opened = await sessions.open_session(
            session,
            ids=rt.ids,
            now=now,
            user_id=user.id,
            stage=PASSWORD if user.totp_sealed is not None else ENROL,
            address=origin.address,
            agent=origin.agent,
        )
        is_reset = purpose == letters.RESET
        await tell(
            rt,
            session,
            user=user,
            actor=actor_of(user, origin, opened.session_id),
            action="user.password_reset" if is_reset else "user.password_set",
            what="the password was reset" if is_reset else "the password was set",
        )
    return opened


async def unlock(rt: Runtime, *, token: str, origin: Origin) -> None:
    """Take the lock off the password of whom the link was sent to. Raises LinkRefused."""
    async with rt.sessions.begin() as session:
        now = rt.clock()
        user = await operations.take_link(session, purpose=letters.UNLOCK, token=token, now=now)
        operations.clear_failures(user)
        await operations.note(
            session,
            ids=rt.ids,
            now=now,
            actor=actor_of(user, origin),
            action="user.unlocked",
            of=user,
        )
