"""Sign-in: the password, then the second factor; and both anew for what needs them fresh."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import letters, operations, processing, queries, throttling, totp
from app.accounts.factors import operations as factors
from app.accounts.identity import (
    ENROL,
    FULL,
    PASSWORD,
    CodeRefused,
    Identity,
    Opened,
    Origin,
    SignInFailed,
    WrongStage,
)
from app.accounts.models import User
from app.accounts.sessions import operations as sessions
from app.audit import operations as audit
from app.audit.operations import SYSTEM
from app.runtime import Runtime

_FAILED = "The e-mail address or the password is not right, or there were too many tries."
_CODE_FAILED = "This code does not count. Wait for the next one, or use a recovery code."
_NOT_CONFIRMED = "The password or the code does not count."


async def sign_in(rt: Runtime, *, email: str, password: str, origin: Origin) -> Opened:
    """Check e-mail address and password; open a session that waits for the second factor.

    Its stage is `password`, or `enrol` for somebody without a second factor. One Argon2 in every
    branch and one answer for every cause. Raises SignInFailed, TooMany, Unavailable.
    """
    address = operations.normal_email(email)
    async with rt.sessions.begin() as session:
        now = rt.clock()
        await processing.count_try(session, origin, now)
        user = await queries.user_by_email(session, email=address, lock=True)
        allowed = user is not None and operations.reserve_try(user, now=now)
    stored = user.password_hash if user is not None else None
    right = await processing.is_right(rt, stored, password)
    if user is None or not (allowed and right):
        await _note_failure(rt, user, origin, "user.sign_in_failed", compared=allowed)
        raise SignInFailed(_FAILED)
    rehash = await _rehashed(rt, stored, password)
    try:
        return await _begin(rt, user.id, stored, rehash, origin)
    except SignInFailed:
        await _note_failure(rt, user, origin, "user.sign_in_failed", compared=False)
        raise


async def _begin(
    rt: Runtime, user_id: str, stored: str | None, rehash: str | None, origin: Origin
) -> Opened:
    """Open the session of a right password. Raises SignInFailed if it counts no more."""
    async with rt.sessions.begin() as session:
        now = rt.clock()
        # Counters before people, everywhere: two sign-ins must not wait for each other.
        await processing.take_back_try(session, origin)
        user = await queries.user(session, user_id=user_id, lock=True)
        if user.password_hash != stored or user.disabled_at is not None:
            raise SignInFailed(_FAILED)
        operations.clear_failures(user)
        user.password_hash = rehash or stored
        return await sessions.open_session(
            session,
            ids=rt.ids,
            now=now,
            user_id=user.id,
            stage=PASSWORD if user.totp_sealed is not None else ENROL,
            address=origin.address,
            agent=origin.agent,
        )


async def _rehashed(rt: Runtime, stored: str | None, password: str) -> str | None:
    if stored is None or not processing.hasher(rt).is_outdated(stored):
        return None
    return await processing.hash_password(rt, password)


async def _note_failure(
    rt: Runtime, tried: User | None, origin: Origin, action: str, *, compared: bool
) -> None:
    """Write that a password did not count, and send a way around the lock it may have brought.

    One row whatever the cause, also for an address that nobody has: neither the time that this
    takes nor the log's growth tells which accounts exist.
    """
    locked = tried is not None and compared and tried.password_failures >= throttling.LOCK_AT
    async with rt.sessions.begin() as session:
        await audit.record(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=processing.stranger(origin),
            action=action,
            # What was typed is not kept: people type a password into the wrong field.
            object_id=None if tried is None else tried.id,
            merchant_id=None,
            livemode=None,
        )
        if tried is not None and locked:
            await _tell_of_lock(rt, session, tried)


async def _tell_of_lock(rt: Runtime, session: AsyncSession, tried: User) -> None:
    """Send a way around the lock to whoever just got one, by ten or more wrong passwords."""
    now = rt.clock()
    user = await queries.user(session, user_id=tried.id, lock=True)
    token = await operations.make_link(
        session, ids=rt.ids, now=now, user_id=user.id, purpose=letters.UNLOCK
    )
    letter = letters.unlock(letters.link(rt.settings.public_url, letters.UNLOCK, token))
    await operations.send_letter(
        session, ids=rt.ids, now=now, sealer=rt.sealer, to=user, letter=letter
    )
    await operations.note(
        session,
        ids=rt.ids,
        now=now,
        actor=SYSTEM,
        action="user.password_locked",
        of=user,
        after={"failures": user.password_failures},
    )


async def second_factor(rt: Runtime, *, identity: Identity, code: str, origin: Origin) -> Opened:
    """Take the code of a session at stage `password`; return the session that may do things.

    A recovery code counts too; after too many wrong codes it leads to a new second factor.
    Raises CodeRefused, WrongStage, SessionEnded, TooMany.
    """
    if identity.stage != PASSWORD:
        raise WrongStage("This sign-in is at another step.")
    async with rt.sessions.begin() as session:
        now = rt.clock()
        user = await processing.counted(session, identity, origin, now)
        took = await _take_any_code(rt, session, user, code, origin, now)
        if took is not None:
            await processing.uncounted(session, identity, origin)
            burnt = user.totp_failures >= throttling.CODE_HARD_STOP
            opened = await sessions.renew(
                session,
                ids=rt.ids,
                now=now,
                session_id=identity.session_id,
                stage=ENROL if burnt else FULL,
                confirmed_at=None if burnt else now,
            )
            await operations.note(
                session,
                ids=rt.ids,
                now=now,
                actor=processing.actor_of(user, origin, opened.session_id),
                action="user.signed_in",
                of=user,
                after={"with": took},
            )
            return opened
        await _note_code(rt, session, user, identity, origin)
    raise CodeRefused(_CODE_FAILED)


async def _note_code(
    rt: Runtime, session: AsyncSession, user: User, identity: Identity, origin: Origin
) -> None:
    # Whoever sent it knows the password, so the person must be able to see it.
    actor = processing.stranger(origin, identity.session_id)
    await operations.note(
        session, ids=rt.ids, now=rt.clock(), actor=actor, action="user.code_refused", of=user
    )


async def _take_any_code(
    rt: Runtime,
    session: AsyncSession,
    user: User,
    code: str,
    origin: Origin,
    now: datetime,
) -> str | None:
    """Take a present code or a recovery code; return which kind counted."""
    text = code.strip(" ").replace(" ", "")
    if len(text) <= totp.CODE_DIGITS:
        if await factors.take_code(session, sealer=rt.sealer, user=user, code=text, now=now):
            return "totp"
        return None
    if not await factors.take_recovery_code(session, user_id=user.id, code=code, now=now):
        return None
    left = await queries.recovery_codes_left(session, user_id=user.id)
    await operations.send_notice(
        session,
        ids=rt.ids,
        now=now,
        sealer=rt.sealer,
        to=user,
        what=f"a recovery code was used ({left} left)",
        address=origin.address,
    )
    return "recovery_code"


async def confirm(
    rt: Runtime, *, identity: Identity, password: str, code: str, origin: Origin
) -> None:
    """Check password and code anew; what needs fresh ones is open for five minutes (S11).

    Raises SignInFailed for either, WrongStage, SessionEnded, TooMany.
    """
    if identity.stage != FULL:
        raise WrongStage("Finish signing in first.")
    async with rt.sessions.begin() as session:
        now = rt.clock()
        tried = await processing.counted(session, identity, origin, now)
        allowed = operations.reserve_try(tried, now=now)
    right = await processing.is_right(rt, tried.password_hash, password)
    if not (allowed and right):
        action = "user.confirmation_failed"
        await _note_failure(rt, tried, origin, action, compared=allowed)
        raise SignInFailed(_NOT_CONFIRMED)
    async with rt.sessions.begin() as session:
        now = rt.clock()
        user = await queries.user(session, user_id=identity.user_id, lock=True)
        took = None
        if user.password_hash == tried.password_hash:
            operations.clear_failures(user)
            took = await _take_any_code(rt, session, user, code, origin, now)
        if took is not None:
            await sessions.note_confirmation(session, session_id=identity.session_id, now=now)
        else:
            await _note_code(rt, session, user, identity, origin)
    if took is None:
        raise SignInFailed(_NOT_CONFIRMED)
    # Counters are taken back apart: their rows are locked before people's, never after.
    async with rt.sessions.begin() as session:
        await processing.uncounted(session, identity, origin)
