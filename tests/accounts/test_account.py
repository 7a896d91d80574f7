"""Links, new passwords and new second factors: never past the other factor, never unseen."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.accounts import letters, processing, queries, totp
from app.accounts import operations as people
from app.accounts.factors import processing as factors
from app.accounts.identity import (
    CodeRefused,
    ConfirmationNeeded,
    LinkRefused,
    Opened,
    SessionEnded,
    SignInFailed,
    WrongStage,
)
from app.accounts.passwords import PasswordRefused
from app.accounts.sessions import processing as signing
from app.audit import queries as audit
from app.audit.operations import SYSTEM
from app.errors import Conflict, Invalid, TooMany
from app.runtime import Runtime
from tests.accounts.conftest import Visitor
from tests.support.cast import Cast, Person, identity_of
from tests.support.runtime import Clock

NEW = "lantern quarry mosaic fjord"


def token_in(letter: Any) -> str:
    line = next(line for line in letter.text.splitlines() if "/link/" in line)
    return str(line.rpartition("/")[2])


async def use(
    rt: Runtime, visitor: Visitor, purpose: str, token: str, password: str = NEW
) -> Opened:
    return await processing.use_link(
        rt, purpose=purpose, token=token, password=password, origin=visitor.origin
    )


async def reset_token(rt: Runtime, visitor: Visitor, person: Person) -> str:
    await processing.request_reset(rt, email=person.email, origin=visitor.origin)
    return token_in((await visitor.letters(person))[-1])


async def actions(rt: Runtime) -> list[str]:
    async with rt.sessions.read() as session:
        rows, _ = await audit.platform_page(session)
    return [row.action for row in rows]


# --- links ------------------------------------------------------------------------------------


async def test_an_invited_person_sets_a_password_then_a_factor(
    rt: Runtime, visitor: Visitor
) -> None:
    async with rt.sessions.begin() as session:
        made: dict[str, Any] = {"ids": rt.ids, "now": rt.clock()}
        user = await people.create_user(session, **made, actor=SYSTEM, email="dora@example.com")
        token = await people.make_link(session, **made, user_id=user.id, purpose=letters.ENROL)
    opened = await use(rt, visitor, letters.ENROL, token)
    assert opened.stage == "enrol"
    identity = await visitor.identity(opened)
    secret = await factors.begin_enrolment(rt, identity=identity)
    assert await factors.begin_enrolment(rt, identity=identity) == secret
    with pytest.raises(CodeRefused):
        await factors.finish_enrolment(rt, identity=identity, code="000000", origin=visitor.origin)
    enrolled = await factors.finish_enrolment(
        rt, identity=identity, code=totp.code_at(secret, rt.clock()), origin=visitor.origin
    )
    assert (await visitor.identity(enrolled.opened)).stage == "full"
    assert len(set(enrolled.recovery_codes)) == 10
    with pytest.raises(SessionEnded):
        await visitor.identity(opened)
    subjects = [letter.subject for letter in await visitor.letters("dora@example.com")]
    assert subjects == [
        "Your Counterfoil account: the password was set",
        "Your Counterfoil account: a second factor was set up",
    ]
    assert (await actions(rt))[:2] == ["user.factor_enrolled", "user.password_set"]


async def test_the_code_that_enrolled_opens_nothing_else(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    identity = await identity_of(rt, cast.alice)
    secret = await factors.begin_enrolment(rt, identity=identity)
    code = totp.code_at(secret, rt.clock())
    await factors.finish_enrolment(rt, identity=identity, code=code, origin=visitor.origin)
    opened = await visitor.sign_in(cast.alice)
    with pytest.raises(CodeRefused):
        await visitor.second(opened, code)


async def test_a_reset_asks_for_the_second_factor_and_ends_sessions(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    token = await reset_token(rt, visitor, cast.alice)
    opened = await use(rt, visitor, letters.RESET, token)
    assert opened.stage == "password"
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)
    with pytest.raises(SignInFailed):
        await visitor.sign_in(cast.alice)
    assert (await visitor.second(opened, visitor.code(cast.alice))).stage == "full"
    assert "password was reset" in (await visitor.letters(cast.alice))[-1].text.lower()


async def test_a_link_works_once_even_at_once(rt: Runtime, cast: Cast) -> None:
    visitors = [Visitor(rt, f"198.51.100.{n}") for n in range(10)]
    token = await reset_token(rt, visitors[0], cast.alice)
    results = await asyncio.gather(
        *(use(rt, visitor, letters.RESET, token) for visitor in visitors), return_exceptions=True
    )
    assert sum(isinstance(result, Opened) for result in results) == 1
    assert sum(isinstance(result, LinkRefused) for result in results) == 9


@pytest.mark.parametrize(("purpose", "minutes"), [("reset", 15), ("enrol", 1440), ("unlock", 30)])
async def test_a_link_lasts_as_long_as_its_letter_says(
    rt: Runtime, cast: Cast, clock: Clock, purpose: str, minutes: int
) -> None:
    async with rt.sessions.begin() as session:
        token = await people.make_link(
            session, ids=rt.ids, now=rt.clock(), user_id=cast.alice.id, purpose=purpose
        )
    clock.forward(minutes=minutes, seconds=-30)
    async with rt.sessions.read() as session:
        link = await queries.open_link(session, purpose=purpose, token=token, now=rt.clock())
    assert link.hash != token
    clock.forward(seconds=30)
    async with rt.sessions.begin() as session:
        with pytest.raises(LinkRefused):
            await queries.open_link(session, purpose=purpose, token=token, now=rt.clock())
        with pytest.raises(LinkRefused):
            await people.take_link(session, purpose=purpose, token=token, now=rt.clock())


async def test_a_link_serves_its_own_purpose_alone(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    token = await reset_token(rt, visitor, cast.alice)
    for purpose in ("enrol", "unlock", "else"):
        with pytest.raises(LinkRefused):
            await use(rt, visitor, purpose, token)
    with pytest.raises(LinkRefused):
        await processing.unlock(rt, token=token, origin=visitor.origin)


async def test_a_newer_link_replaces_an_older_one(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    old = await reset_token(rt, visitor, cast.alice)
    new = await reset_token(rt, visitor, cast.alice)
    with pytest.raises(LinkRefused):
        await use(rt, visitor, letters.RESET, old)
    assert (await use(rt, visitor, letters.RESET, new)).user_id == cast.alice.id


async def test_a_refused_password_leaves_the_link(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    token = await reset_token(rt, visitor, cast.alice)
    for weak in ("short", "alice example demo", "Alice's demo shop"):
        with pytest.raises(PasswordRefused):
            await use(rt, visitor, letters.RESET, token, weak)
    assert (await use(rt, visitor, letters.RESET, token)).stage == "password"


async def test_a_disabled_person_gets_no_link_and_no_way_in_by_an_old_one(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    token = await reset_token(rt, visitor, cast.bob)
    async with rt.sessions.begin() as session:
        await people.set_disabled(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            user_id=cast.bob.id,
            disabled=True,
        )
    with pytest.raises(LinkRefused):
        await use(rt, visitor, letters.RESET, token)
    await processing.request_reset(rt, email=cast.bob.email, origin=visitor.origin)
    assert len(await visitor.letters(cast.bob)) == 1


async def test_asking_for_a_reset_tells_nothing_and_is_limited(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    for email in (cast.alice.email, "nobody@example.com"):
        for _ in range(3):
            await processing.request_reset(rt, email=email, origin=visitor.origin)
        with pytest.raises(TooMany):
            await processing.request_reset(rt, email=email, origin=visitor.origin)
    assert len(await visitor.letters(cast.alice)) == 3
    assert await visitor.letters("nobody@example.com") == []


async def test_a_letter_in_the_queue_shows_no_link(rt: Runtime, cast: Cast) -> None:
    from sqlalchemy import select

    from app.jobs import Job

    visitor = Visitor(rt)
    token = await reset_token(rt, visitor, cast.alice)
    async with rt.sessions.read() as session:
        rows = [repr(row) for row in await session.execute(select(Job.__table__))]
    assert len(rows) == 1
    assert token not in rows[0]
    assert cast.alice.email not in rows[0]


# --- password and factor, changed by their person ---------------------------------------------


async def test_a_changed_password_ends_every_other_session(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    elsewhere = await visitor.enter(cast.alice)
    identity = await identity_of(rt, cast.alice)
    opened = await processing.change_password(
        rt, identity=identity, password=NEW, origin=visitor.origin
    )
    assert (await visitor.identity(opened)).stage == "full"
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)
    with pytest.raises(SessionEnded):
        await visitor.identity(elsewhere)
    with pytest.raises(SignInFailed):
        await visitor.sign_in(cast.alice)
    assert (await visitor.sign_in(cast.alice, NEW)).stage == "password"
    assert "password was changed" in (await visitor.letters(cast.alice))[-1].subject
    assert "user.password_changed" in await actions(rt)


async def test_changes_need_password_and_code_of_the_last_five_minutes(
    rt: Runtime, cast: Cast, visitor: Visitor, clock: Clock
) -> None:
    clock.forward(minutes=5)
    identity = await identity_of(rt, cast.alice)
    with pytest.raises(ConfirmationNeeded):
        await processing.change_password(rt, identity=identity, password=NEW, origin=visitor.origin)
    with pytest.raises(ConfirmationNeeded):
        await factors.begin_enrolment(rt, identity=identity)
    with pytest.raises(ConfirmationNeeded):
        await factors.finish_enrolment(rt, identity=identity, code="000000", origin=visitor.origin)
    with pytest.raises(ConfirmationNeeded):
        await factors.replace_recovery_codes(rt, identity=identity, origin=visitor.origin)
    await signing.confirm(
        rt,
        identity=identity,
        password=cast.alice.password,
        code=visitor.code(cast.alice),
        origin=visitor.origin,
    )
    identity = await identity_of(rt, cast.alice)
    codes = await factors.replace_recovery_codes(rt, identity=identity, origin=visitor.origin)
    opened = await visitor.sign_in(cast.alice)
    with pytest.raises(CodeRefused):
        await visitor.second(opened, cast.alice.recovery_codes[0])
    assert (await visitor.second(opened, codes[0])).stage == "full"


@pytest.mark.parametrize("wrong", ["password", "code", "both"])
async def test_a_confirmation_needs_both(
    rt: Runtime, cast: Cast, visitor: Visitor, clock: Clock, wrong: str
) -> None:
    clock.forward(minutes=6)
    identity = await identity_of(rt, cast.alice)
    with pytest.raises(SignInFailed) as caught:
        await signing.confirm(
            rt,
            identity=identity,
            password=NEW if wrong != "code" else cast.alice.password,
            code="000000" if wrong != "password" else visitor.code(cast.alice),
            origin=visitor.origin,
        )
    assert caught.value.detail == "The password or the code does not count."
    assert not (await identity_of(rt, cast.alice)).is_confirmed(rt.clock())


async def test_confirming_is_no_way_around_the_lock(
    rt: Runtime, cast: Cast, visitor: Visitor, clock: Clock
) -> None:
    identity = await identity_of(rt, cast.alice)
    for _ in range(10):
        clock.forward(minutes=2)
        with pytest.raises(SignInFailed):
            await signing.confirm(
                rt, identity=identity, password=NEW, code="000000", origin=visitor.origin
            )
    clock.forward(minutes=2)
    with pytest.raises(SignInFailed):
        await visitor.sign_in(cast.alice)
    assert "Sign-in by password is paused" in [
        letter.subject for letter in await visitor.letters(cast.alice)
    ]


async def test_a_replaced_factor_ends_the_old_one_and_is_told(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    elsewhere = await visitor.enter(cast.alice)
    identity = await identity_of(rt, cast.alice)
    secret = await factors.begin_enrolment(rt, identity=identity)
    # Until it is proven, the old one is the factor.
    assert secret != cast.alice.totp_secret
    enrolled = await factors.finish_enrolment(
        rt, identity=identity, code=totp.code_at(secret, rt.clock()), origin=visitor.origin
    )
    with pytest.raises(SessionEnded):
        await visitor.identity(elsewhere)
    opened = await visitor.sign_in(cast.alice)
    later = rt.clock() + timedelta(seconds=30)
    with pytest.raises(CodeRefused):
        await visitor.second(opened, totp.code_at(cast.alice.totp_secret, later))
    with pytest.raises(CodeRefused):
        await visitor.second(opened, cast.alice.recovery_codes[0])
    assert (await visitor.second(opened, totp.code_at(secret, later))).stage == "full"
    assert len(enrolled.recovery_codes) == 10
    assert "second factor was replaced" in (await visitor.letters(cast.alice))[-1].subject


async def test_a_half_open_session_changes_nothing(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    identity = await visitor.identity(await visitor.sign_in(cast.alice))
    origin = visitor.origin
    for attempt in (
        factors.begin_enrolment(rt, identity=identity),
        factors.finish_enrolment(rt, identity=identity, code="000000", origin=origin),
        factors.replace_recovery_codes(rt, identity=identity, origin=origin),
        processing.change_password(rt, identity=identity, password=NEW, origin=origin),
        signing.confirm(rt, identity=identity, password="x", code="0", origin=origin),
    ):
        with pytest.raises(WrongStage):
            await attempt


async def test_a_seed_moved_to_another_row_does_not_open(rt: Runtime, cast: Cast) -> None:
    from app.secrets import SealBroken

    visitor = Visitor(rt)
    async with rt.sessions.begin() as session:
        alice = await queries.user(session, user_id=cast.alice.id)
        bob = await queries.user(session, user_id=cast.bob.id)
        bob.totp_sealed = alice.totp_sealed
    opened = await visitor.sign_in(cast.bob)
    with pytest.raises(SealBroken):
        await visitor.second(opened, visitor.code(cast.alice))


@pytest.mark.parametrize(
    "email",
    ["", "no at", "a@b@c", "a@b c", "a@\n", "<a@b.example>", "a,b@c.example", "x" * 250 + "@b.cd"],
)
async def test_what_is_no_address_makes_no_account(rt: Runtime, email: str) -> None:
    async with rt.sessions.begin() as session:
        with pytest.raises(Invalid):
            await people.create_user(session, ids=rt.ids, now=rt.clock(), actor=SYSTEM, email=email)


async def test_one_address_has_one_account(rt: Runtime, cast: Cast) -> None:
    async with rt.sessions.begin() as session:
        with pytest.raises(Conflict):
            await people.create_user(
                session, ids=rt.ids, now=rt.clock(), actor=SYSTEM, email="ALICE@example.com"
            )
