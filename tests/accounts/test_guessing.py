"""How often an attacker who never gives up can guess a code, with the counters of the database."""

from datetime import timedelta

import pytest

from app.accounts import queries, throttling, totp
from app.accounts.identity import CodeRefused
from app.accounts.models import User
from app.errors import TooMany
from app.runtime import Runtime
from tests.accounts.conftest import Visitor
from tests.support.cast import Cast
from tests.support.runtime import Clock


async def owner_of(rt: Runtime, cast: Cast) -> User:
    async with rt.sessions.read() as session:
        return await queries.user(session, user_id=cast.alice.id)


async def test_guessing_codes_over_the_life_of_a_seed_succeeds_rarely(
    rt: Runtime, cast: Cast, clock: Clock
) -> None:
    """S06: an attacker who knows the password, has any number of addresses and never gives up.

    Each try that the counters let through could have been right with the codes that count then.
    """
    missed, compared, minutes = 1.0, 0, 0
    while minutes < 30:
        thief = Visitor(rt, f"198.51.{minutes}.9")
        opened = await thief.sign_in(cast.alice)
        for _ in range(throttling.CODES.limit + 1):
            good = {
                totp.code_at(cast.alice.totp_secret, clock() + timedelta(seconds=30 * step))
                for step in (-2, -1, 0, 1, 2)
            }
            burnt = (await owner_of(rt, cast)).totp_failures >= throttling.CODE_HARD_STOP
            guess = next(code for code in ("000000", "000001", "000002") if code not in good)
            try:
                await thief.second(opened, guess)
            except TooMany:
                break
            except CodeRefused:
                compared += not burnt
                missed *= 1 if burnt else 1 - 3 / 10**6
        clock.forward(seconds=throttling.CODES.seconds)
        minutes += 1
    assert compared == throttling.CODE_HARD_STOP
    assert 0 < 1 - missed <= 3e-4
    owner = Visitor(rt, "203.0.113.5")
    with pytest.raises(CodeRefused):
        await owner.second(await owner.sign_in(cast.alice), owner.code(cast.alice))
    led = await owner.second(await owner.sign_in(cast.alice), cast.alice.recovery_codes[0])
    assert led.stage == "enrol"
