"""Sign-in: two factors, one answer for every failure, and limits that nobody can race past."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.accounts import operations as people
from app.accounts import processing, queries, throttling, totp
from app.accounts.identity import (
    CodeRefused,
    SecondFactorNeeded,
    SessionEnded,
    SignInFailed,
    WrongStage,
)
from app.accounts.models import User
from app.accounts.passwords import Hasher
from app.accounts.sessions import processing as signing
from app.audit import queries as audit
from app.audit.operations import SYSTEM
from app.errors import TooMany, Unavailable
from app.runtime import Runtime
from tests.accounts.conftest import Visitor
from tests.support.cast import Cast, Person
from tests.support.runtime import Clock

WRONG = "wrong velvet orbit canyon"


async def user_of(rt: Runtime, person: Person) -> User:
    async with rt.sessions.read() as session:
        return await queries.user(session, user_id=person.id)


async def test_password_and_code_open_a_session(rt: Runtime, cast: Cast, visitor: Visitor) -> None:
    first = await visitor.sign_in(cast.alice)
    assert first.stage == "password"
    second = await visitor.second(first, visitor.code(cast.alice))
    identity = await visitor.identity(second)
    assert (identity.user_id, identity.stage) == (cast.alice.id, "full")
    assert identity.is_confirmed(rt.clock())
    async with rt.sessions.read() as session:
        rows, _ = await audit.platform_page(session, limit=1)
    assert (rows[0].action, rows[0].actor_id) == ("user.signed_in", cast.alice.id)
    assert rows[0].session_id == second.session_id
    assert rows[0].address == "192.0.2.77"


async def test_each_step_has_a_new_id_and_ends_the_one_before(cast: Cast, visitor: Visitor) -> None:
    first = await visitor.sign_in(cast.alice)
    second = await visitor.second(first, visitor.code(cast.alice))
    assert first.token != second.token
    assert first.csrf_token != second.csrf_token
    with pytest.raises(SessionEnded):
        await visitor.identity(first)


async def test_an_id_that_we_did_not_give_out_is_not_adopted(
    cast: Cast, visitor: Visitor, rt: Runtime
) -> None:
    chosen = "0" * 52
    opened = await visitor.sign_in(cast.alice)
    assert opened.token != chosen
    for token in (chosen, "", "é" * 52, opened.token[:-1], opened.token.upper()):
        async with rt.sessions.read() as session:
            with pytest.raises(SessionEnded):
                await signing_identify(session, token, rt)


async def signing_identify(session: Any, token: str, rt: Runtime) -> None:
    from app.accounts.sessions.queries import identify

    await identify(session, token=token, now=rt.clock())


async def test_a_half_open_session_may_do_nothing(cast: Cast, visitor: Visitor) -> None:
    identity = await visitor.identity(await visitor.sign_in(cast.alice))
    assert identity.permissions(cast.shop.id) == identity.permissions() == frozenset()
    for permission, shop in (("payments:read", cast.shop.id), ("account:read", None)):
        with pytest.raises(SecondFactorNeeded):
            identity.require(permission, shop)


async def test_every_failure_reads_the_same(rt: Runtime, cast: Cast, visitor: Visitor) -> None:
    async with rt.sessions.begin() as session:
        made: dict[str, Any] = {"ids": rt.ids, "now": rt.clock(), "actor": SYSTEM}
        await people.create_user(session, **made, email="new@example.com")
        await people.set_disabled(session, **made, user_id=cast.bob.id, disabled=True)
    for _ in range(5):
        with pytest.raises(SignInFailed):
            await visitor.sign_in(cast.vera, WRONG)
    told = set()
    for email, password in [
        ("nobody@example.com", WRONG),
        ("new@example.com", WRONG),
        (cast.alice.email, WRONG),
        (cast.bob.email, cast.bob.password),
        (cast.vera.email, cast.vera.password),
        ("not an address", ""),
        (cast.alice.email, "x" * 5000),
    ]:
        with pytest.raises(SignInFailed) as caught:
            await signing.sign_in(rt, email=email, password=password, origin=visitor.origin)
        told.add((caught.value.status, caught.value.code, caught.value.detail, str(caught.value)))
    assert len(told) == 1
    async with rt.sessions.read() as session:
        rows, _ = await audit.platform_page(session, action="user.sign_in_failed")
    # One row a try, of an unknown address too; what was typed is in none of them.
    assert len(rows) == 5 + 7
    assert {row.object_id for row in rows} >= {None, cast.alice.id, cast.bob.id, cast.vera.id}
    assert {(row.actor_id, row.address) for row in rows} == {(None, "192.0.2.77")}
    assert {row.after for row in rows} == {row.before for row in rows} == {None}


@pytest.mark.parametrize("case", ["right", "wrong", "unknown", "no password", "locked", "disabled"])
async def test_every_branch_costs_exactly_one_argon2(
    rt: Runtime, cast: Cast, visitor: Visitor, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argon2 import low_level

    async with rt.sessions.begin() as session:
        changes: dict[str, dict[str, Any]] = {
            "no password": {"password_hash": None},
            "locked": {"locked_until": rt.clock() + timedelta(minutes=5)},
            "disabled": {"disabled_at": rt.clock()},
        }
        if case in changes:
            await session.execute(
                update(User).where(User.id == cast.alice.id).values(**changes[case])
            )
    runs: list[str] = []

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kw: Any) -> Any:
            runs.append(work.__name__)
            return work(*args, **kw)

        return run

    for name in ("hash_secret", "verify_secret"):
        monkeypatch.setattr(low_level, name, counted(getattr(low_level, name)))
    email = "nobody@example.com" if case == "unknown" else cast.alice.email
    password = WRONG if case == "wrong" else cast.alice.password
    try:
        await signing.sign_in(rt, email=email, password=password, origin=visitor.origin)
    except SignInFailed:
        assert case != "right"
    else:
        assert case == "right"
    assert len(runs) == 1


async def test_an_address_may_be_written_in_any_case(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    email = f"  {cast.alice.email.upper()} "
    opened = await signing.sign_in(
        rt, email=email, password=cast.alice.password, origin=visitor.origin
    )
    assert opened.user_id == cast.alice.id


async def test_ten_wrong_passwords_pause_the_password_and_mail_a_way_around(
    rt: Runtime, cast: Cast, visitor: Visitor, clock: Clock
) -> None:
    """F36: the ladder stands in the database; there is no Redis here."""
    for _ in range(throttling.LOCK_AT):
        clock.forward(minutes=2)
        with pytest.raises(SignInFailed):
            await visitor.sign_in(cast.alice, WRONG)
    clock.forward(minutes=2)
    with pytest.raises(SignInFailed):
        await visitor.sign_in(cast.alice)
    (letter,) = await visitor.letters(cast.alice)
    link = next(line for line in letter.text.splitlines() if "/link/unlock/" in line)
    assert link.startswith("https://localhost/link/unlock/")
    await processing.unlock(rt, token=link.rpartition("/")[2], origin=visitor.origin)
    assert (await visitor.enter(cast.alice)).stage == "full"
    async with rt.sessions.read() as session:
        rows, _ = await audit.platform_page(session, limit=5)
    assert [row.action for row in rows] == [
        "user.signed_in",
        "user.unlocked",
        "user.sign_in_failed",
        "user.password_locked",
        "user.sign_in_failed",
    ]
    assert {row.object_id for row in rows} == {cast.alice.id}


async def test_the_pause_ends_by_itself(cast: Cast, visitor: Visitor, clock: Clock) -> None:
    for _ in range(throttling.LOCK_AT):
        clock.forward(minutes=2)
        with pytest.raises(SignInFailed):
            await visitor.sign_in(cast.alice, WRONG)
    clock.forward(minutes=31)
    assert (await visitor.sign_in(cast.alice)).stage == "password"


async def test_many_tries_at_once_do_not_slip_past_the_ladder(
    rt: Runtime, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []
    verify = Hasher.verify

    def watched(self: Hasher, stored: str | None, password: str) -> bool:
        looked_at.append(password)
        return verify(self, stored, password)

    monkeypatch.setattr(Hasher, "verify", watched)
    # The right one hides among the wrong ones, behind the tries that are free.
    passwords = [f"{WRONG} {n}" for n in range(24)] + [cast.alice.password]
    visitors = [Visitor(rt, f"198.51.100.{n}") for n in range(25)]
    results = []
    for start in range(0, 25, 5):
        results += await asyncio.gather(
            *(
                visitor.sign_in(cast.alice, password)
                for visitor, password in zip(
                    visitors[start : start + 5], passwords[start : start + 5], strict=True
                )
            ),
            return_exceptions=True,
        )
    assert len(looked_at) == 25
    assert all(isinstance(result, SignInFailed) for result in results)
    assert (await user_of(rt, cast.alice)).password_failures == throttling.FREE_FAILURES + 1


async def test_one_address_is_stopped_whoever_it_asks_for(
    rt: Runtime, cast: Cast, visitor: Visitor, clock: Clock
) -> None:
    for n in range(throttling.PER_ADDRESS.limit):
        with pytest.raises(SignInFailed):
            await signing.sign_in(
                rt, email=f"n{n}@example.com", password=WRONG, origin=visitor.origin
            )
    for person in (cast.alice, cast.bob):
        with pytest.raises(TooMany) as caught:
            await visitor.sign_in(person)
        assert 0 < (caught.value.retry_after or 0) <= throttling.PER_ADDRESS.seconds
    assert (await Visitor(rt, "203.0.113.9").sign_in(cast.alice)).stage == "password"
    clock.forward(seconds=throttling.PER_ADDRESS.seconds)
    assert (await visitor.sign_in(cast.bob)).stage == "password"


async def test_right_sign_ins_use_nothing_up(cast: Cast, visitor: Visitor, clock: Clock) -> None:
    for _ in range(throttling.PER_ADDRESS.limit + 2):
        await visitor.sign_in(cast.alice)


async def test_a_code_counts_once_even_fifty_at_a_time(
    rt: Runtime, cast: Cast, clock: Clock
) -> None:
    visitors = [Visitor(rt, f"198.51.100.{n}") for n in range(50)]
    opened = [await visitor.sign_in(cast.alice) for visitor in visitors]
    code = visitors[0].code(cast.alice)
    results = await asyncio.gather(
        *(visitor.second(one, code) for visitor, one in zip(visitors, opened, strict=True)),
        return_exceptions=True,
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(r, CodeRefused | TooMany) for r in results if isinstance(r, Exception))


async def test_a_step_before_one_that_was_taken_is_refused(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    """F60."""
    await visitor.enter(cast.alice)
    earlier = totp.code_at(cast.alice.totp_secret, rt.clock() - timedelta(seconds=30))
    opened = await visitor.sign_in(cast.alice)
    with pytest.raises(CodeRefused):
        await visitor.second(opened, earlier)


async def test_five_wrong_codes_a_minute_and_no_more(
    cast: Cast, visitor: Visitor, clock: Clock
) -> None:
    opened = await visitor.sign_in(cast.alice)
    for _ in range(throttling.CODES.limit):
        with pytest.raises(CodeRefused):
            await visitor.second(opened, "000000")
    with pytest.raises(TooMany):
        await visitor.second(opened, visitor.code(cast.alice))
    clock.forward(seconds=throttling.CODES.seconds)
    assert (await visitor.second(opened, visitor.code(cast.alice))).stage == "full"


async def test_a_hundred_wrong_codes_burn_the_seed_and_the_recovery_path_stays(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    async with rt.sessions.begin() as session:
        stop = throttling.CODE_HARD_STOP - 1
        await session.execute(
            update(User).where(User.id == cast.alice.id).values(totp_failures=stop)
        )
    opened = await visitor.sign_in(cast.alice)
    for code in ("000000", visitor.code(cast.alice)):
        with pytest.raises(CodeRefused):
            await visitor.second(opened, code)
    assert (await user_of(rt, cast.alice)).totp_failures == throttling.CODE_HARD_STOP
    led = await visitor.second(opened, cast.alice.recovery_codes[0])
    assert led.stage == "enrol"
    identity = await visitor.identity(led)
    assert identity.permissions(cast.shop.id) == frozenset()


async def test_a_recovery_code_opens_once_and_is_told(cast: Cast, visitor: Visitor) -> None:
    code = cast.alice.recovery_codes[3].upper()
    opened = await visitor.second(await visitor.sign_in(cast.alice), code)
    assert opened.stage == "full"
    (letter,) = await visitor.letters(cast.alice)
    assert "9 left" in letter.text
    assert "192.0.2.77" in letter.text
    with pytest.raises(CodeRefused):
        await visitor.second(await visitor.sign_in(cast.alice), code)


async def test_a_recovery_code_opens_once_even_at_once(rt: Runtime, cast: Cast) -> None:
    """S05."""
    visitors = [Visitor(rt, f"198.51.100.{n}") for n in range(50)]
    opened = [await visitor.sign_in(cast.alice) for visitor in visitors]
    results = await asyncio.gather(
        *(
            visitor.second(one, cast.alice.recovery_codes[0])
            for visitor, one in zip(visitors, opened, strict=True)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1


async def test_somebody_elses_recovery_code_is_of_no_use(cast: Cast, visitor: Visitor) -> None:
    opened = await visitor.sign_in(cast.alice)
    with pytest.raises(CodeRefused):
        await visitor.second(opened, cast.bob.recovery_codes[0])


async def test_a_full_session_gives_no_second_code(cast: Cast, visitor: Visitor) -> None:
    opened = await visitor.enter(cast.alice)
    with pytest.raises(WrongStage):
        await visitor.second(opened, cast.alice.recovery_codes[0])


async def test_an_outdated_hash_is_renewed_at_sign_in(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    weak = Hasher(rt.sealer, 16).hash(cast.alice.password, bytes(16))
    async with rt.sessions.begin() as session:
        await session.execute(
            update(User).where(User.id == cast.alice.id).values(password_hash=weak)
        )
    await visitor.sign_in(cast.alice)
    assert "m=64," in ((await user_of(rt, cast.alice)).password_hash or "")
    await visitor.sign_in(cast.alice)


async def test_too_many_hashes_at_once_are_refused_and_not_queued_without_end(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = processing._Threads()
    monkeypatch.setattr(processing, "_threads", threads)
    gate = threading.Event()
    room = processing._AT_ONCE + processing._WAITING
    waiting = [asyncio.create_task(threads.run(gate.wait)) for _ in range(room)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await processing.hash_password(rt, WRONG)
    assert caught.value.retry_after
    gate.set()
    await asyncio.gather(*waiting)
    assert (await processing.hash_password(rt, WRONG)).startswith("$argon2id$")
