"""Second factors: set up, proven, replaced; each change ends the other sessions."""

import msgspec

from app.accounts import processing, queries
from app.accounts.factors import operations as factors
from app.accounts.identity import FULL, PASSWORD, CodeRefused, Identity, Opened, Origin, WrongStage
from app.runtime import Runtime


class Enrolled(msgspec.Struct, frozen=True):
    """A session under a new id, and the recovery codes, which are shown this once."""

    opened: Opened
    recovery_codes: list[str]


async def begin_enrolment(rt: Runtime, *, identity: Identity) -> str:
    """Return the seed to set up: the first one, or with fresh password and code a new one.

    Raises ConfirmationNeeded, WrongStage.
    """
    _check_may_enrol(rt, identity)
    async with rt.sessions.begin() as session:
        user = await queries.user(session, user_id=identity.user_id, lock=True)
        return await factors.pending_secret(session, ids=rt.ids, sealer=rt.sealer, user=user)


def _check_may_enrol(rt: Runtime, identity: Identity) -> None:
    if identity.stage == PASSWORD:
        raise WrongStage("This sign-in is at another step.")
    if identity.stage == FULL:
        identity.require_confirmed(rt.clock())


async def finish_enrolment(
    rt: Runtime, *, identity: Identity, code: str, origin: Origin
) -> Enrolled:
    """Make the pending seed the second factor once a code proves it; other sessions end.

    Raises CodeRefused, ConfirmationNeeded, WrongStage, SessionEnded, TooMany.
    """
    _check_may_enrol(rt, identity)
    async with rt.sessions.begin() as session:
        now = rt.clock()
        user = await processing.counted(session, identity, origin, now)
        replaces = user.totp_sealed is not None
        codes = await factors.activate(
            session,
            ids=rt.ids,
            sealer=rt.sealer,
            user=user,
            code=code.replace(" ", ""),
            now=now,
        )
        if codes is not None:
            await processing.uncounted(session, identity, origin)
            opened = await processing.renew_alone(rt, session, identity, now)
            await processing.tell(
                rt,
                session,
                user=user,
                actor=processing.actor_of(user, origin, opened.session_id),
                action="user.factor_replaced" if replaces else "user.factor_enrolled",
                what="the second factor was replaced" if replaces else "a second factor was set up",
            )
            return Enrolled(opened, codes)
    raise CodeRefused("This code does not count. Check the clock of your device.")


async def replace_recovery_codes(rt: Runtime, *, identity: Identity, origin: Origin) -> list[str]:
    """Make a new set of recovery codes, with fresh password and code; the old ones end.

    Raises ConfirmationNeeded, WrongStage.
    """
    if identity.stage != FULL:
        raise WrongStage("Finish signing in first.")
    identity.require_confirmed(rt.clock())
    async with rt.sessions.begin() as session:
        user = await queries.user(session, user_id=identity.user_id, lock=True)
        codes = await factors.replace_recovery_codes(
            session, ids=rt.ids, user_id=user.id, now=rt.clock()
        )
        await processing.tell(
            rt,
            session,
            user=user,
            actor=identity.actor(origin),
            action="user.recovery_codes_replaced",
            what="the recovery codes were replaced",
        )
    return codes
