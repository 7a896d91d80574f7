"""Sessions end by time, by their person and by an admin, and never come back (S10 to S12)."""

import asyncio
import random
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.accounts import operations as people
from app.accounts.identity import ABSOLUTE, IDLE, Opened, SessionEnded
from app.accounts.models import OneTimeLink, Session, Throttle
from app.accounts.queries import demo_users_present
from app.accounts.sessions import operations, queries
from app.audit.operations import SYSTEM
from app.runtime import Runtime
from app.secrets import sha256
from tests.accounts.conftest import Visitor
from tests.support.cast import Cast, identity_of
from tests.support.runtime import Clock


async def touch(rt: Runtime, session_id: str) -> bool:
    async with rt.sessions.begin() as session:
        return await operations.touch(session, session_id=session_id, now=rt.clock())


async def test_only_the_hash_of_a_token_is_stored(rt: Runtime, cast: Cast) -> None:
    async with rt.sessions.read() as session:
        rows = (await session.execute(select(Session.__table__))).all()
    assert cast.alice.token not in repr(rows)
    assert sha256(cast.alice.token) in {row.token_hash for row in rows}


async def test_a_quarter_of_an_hour_of_nothing_ends_a_session(
    rt: Runtime, cast: Cast, clock: Clock
) -> None:
    clock.forward(minutes=14, seconds=59)
    await identity_of(rt, cast.alice)  # Looking, as polling does, prolongs nothing.
    clock.forward(seconds=1)
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)


async def test_a_persons_own_doing_keeps_it_open_for_twelve_hours_and_no_longer(
    rt: Runtime, cast: Cast, clock: Clock
) -> None:
    session_id = cast.alice.opened.session_id
    for _ in range(72 - 1):
        clock.forward(minutes=10)
        assert await touch(rt, session_id)
        await identity_of(rt, cast.alice)
    clock.forward(minutes=10)
    await touch(rt, session_id)
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)


async def test_a_new_id_does_not_begin_the_twelve_hours_anew(
    rt: Runtime, cast: Cast, clock: Clock
) -> None:
    before = await identity_of(rt, cast.alice)
    clock.forward(minutes=10)
    async with rt.sessions.begin() as session:
        renewed = await operations.renew(
            session,
            ids=rt.ids,
            now=rt.clock(),
            session_id=before.session_id,
            stage="full",
            confirmed_at=None,
        )
    after = await Visitor(rt).identity(renewed)
    assert after.created_at == before.created_at
    assert after.ends_at == after.last_seen_at + IDLE
    assert before.created_at + ABSOLUTE > after.ends_at


async def test_before_the_second_factor_a_session_cannot_be_kept_alive(
    rt: Runtime, cast: Cast, clock: Clock
) -> None:
    visitor = Visitor(rt)
    opened = await visitor.sign_in(cast.alice)
    clock.forward(minutes=14)
    await touch(rt, opened.session_id)
    clock.forward(minutes=1)
    with pytest.raises(SessionEnded):
        await visitor.identity(opened)


async def test_a_touch_is_written_now_and_then(rt: Runtime, cast: Cast, clock: Clock) -> None:
    session_id = cast.alice.opened.session_id
    assert not await touch(rt, session_id)
    clock.forward(seconds=21)
    assert await touch(rt, session_id)
    assert not await touch(rt, session_id)


@pytest.mark.parametrize("what", ["end", "end_all", "disable"])
async def test_an_ended_session_is_over_at_once(rt: Runtime, cast: Cast, what: str) -> None:
    async with rt.sessions.begin() as session:
        if what == "end":
            assert await operations.end(
                session,
                user_id=cast.alice.id,
                session_id=cast.alice.opened.session_id,
                now=rt.clock(),
            )
        elif what == "end_all":
            assert await operations.end_all(session, user_id=cast.alice.id, now=rt.clock()) == 1
        else:
            await people.set_disabled(
                session,
                ids=rt.ids,
                now=rt.clock(),
                actor=SYSTEM,
                user_id=cast.alice.id,
                disabled=True,
            )
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)
    await identity_of(rt, cast.bob)


async def test_an_ended_session_takes_no_touch(rt: Runtime, cast: Cast, clock: Clock) -> None:
    async with rt.sessions.begin() as session:
        await operations.end_all(session, user_id=cast.alice.id, now=rt.clock())
    clock.forward(minutes=1)
    assert not await touch(rt, cast.alice.opened.session_id)
    assert await touch(rt, cast.bob.opened.session_id)


async def test_nobody_ends_somebody_elses_session(rt: Runtime, cast: Cast) -> None:
    async with rt.sessions.begin() as session:
        assert not await operations.end(
            session,
            user_id=cast.charlie.id,
            session_id=cast.alice.opened.session_id,
            now=rt.clock(),
        )
    await identity_of(rt, cast.alice)


@pytest.mark.parametrize("seed", range(5))
async def test_requests_in_flight_do_not_revive_an_ended_session(
    rt: Runtime, cast: Cast, clock: Clock, seed: int
) -> None:
    # Trap 0.10: twenty interleavings of requests that saw the session open, and one logout.
    chance = random.Random(seed)
    clock.forward(seconds=30)
    session_id = cast.alice.opened.session_id

    async def request() -> None:
        await asyncio.sleep(chance.random() / 50)
        try:
            await identity_of(rt, cast.alice)
        except SessionEnded:
            return
        await asyncio.sleep(chance.random() / 50)
        await touch(rt, session_id)
        async with rt.sessions.begin() as session:
            try:
                await operations.note_confirmation(session, session_id=session_id, now=rt.clock())
            except SessionEnded:
                return

    async def log_out() -> None:
        await asyncio.sleep(chance.random() / 25)
        async with rt.sessions.begin() as session:
            await operations.end(
                session, user_id=cast.alice.id, session_id=session_id, now=rt.clock()
            )

    await asyncio.gather(*(request() for _ in range(20)), log_out())
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)
    assert not await touch(rt, session_id)


async def test_an_ended_session_has_no_successor(rt: Runtime, cast: Cast) -> None:
    async def renew() -> Opened:
        async with rt.sessions.begin() as session:
            return await operations.renew(
                session,
                ids=rt.ids,
                now=rt.clock(),
                session_id=cast.alice.opened.session_id,
                stage="full",
                confirmed_at=None,
            )

    results = await asyncio.gather(*(renew() for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, Opened) for result in results) == 1


async def test_people_see_their_open_sessions(rt: Runtime, cast: Cast, clock: Clock) -> None:
    clock.forward(minutes=1)
    newer = await Visitor(rt).enter(cast.alice)
    async with rt.sessions.read() as session:
        rows = await queries.open_sessions(session, user_id=cast.alice.id, now=rt.clock())
    assert [row.id for row in rows] == [newer.session_id, cast.alice.opened.session_id]
    assert rows[0].address == "192.0.2.77"


async def test_demo_users_are_noticed(rt: Runtime, cast: Cast) -> None:
    async with rt.sessions.read() as session:
        assert not await demo_users_present(session)
    async with rt.sessions.begin() as session:
        await people.create_user(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            email="demo@example.com",
            is_demo=True,
        )
    async with rt.sessions.read() as session:
        assert await demo_users_present(session)


async def test_old_counters_links_and_sessions_are_forgotten(rt: Runtime, cast: Cast) -> None:
    visitor = Visitor(rt)
    await visitor.sign_in(cast.alice)
    async with rt.sessions.begin() as session:
        await people.make_link(
            session, ids=rt.ids, now=rt.clock(), user_id=cast.alice.id, purpose="reset"
        )
    for days, left in ((0, True), (100, False)):
        async with rt.sessions.begin() as session:
            await people.purge(session, now=rt.clock() + timedelta(days=days))
        async with rt.sessions.read() as session:
            for model in (Throttle, OneTimeLink, Session):
                found = (await session.execute(select(model.__table__).limit(1))).first()
                assert (found is not None) == left
