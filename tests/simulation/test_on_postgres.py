"""Histories on PostgreSQL: its locks are real, its time is the world's."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app import db
from tests.simulation import history
from tests.simulation import process as processes
from tests.simulation.loop import unheard
from tests.simulation.postgres_store import PostgresStore
from tests.simulation.process import Process
from tests.simulation.sweep import KINDS, Cut, places
from tests.simulation.world import World

_ROW = text("SELECT id FROM installation FOR UPDATE")


def _advisory(number: int) -> Any:
    return text(f"SELECT pg_advisory_xact_lock({number})")


@pytest.fixture
def world() -> Iterator[World]:
    made = World("locks", make_store=PostgresStore)
    yield made
    made.close()
    del made
    with unheard():
        gc.collect()


def _play(world: World, play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    world.loop.run_until_complete(world.outside(play()))


async def _hold(process: Process, *statements: Any, pause: float) -> float:
    """Execute statements in one transaction, with a pause after each; return when it ended."""
    async with process.rt.sessions.begin() as session:
        for statement in statements:
            await session.execute(statement)
            await asyncio.sleep(pause)
    return process.world.loop.time()


async def _holder(world: World, *, pause: float) -> tuple[Process, "asyncio.Task[float]"]:
    """Have a process hold a row for a while; return both once it has it."""
    process = world.spawn("api")
    holds = process.start(_hold(process, _ROW, pause=pause))
    await asyncio.sleep(0.1)
    return process, holds


def _state(task: "asyncio.Task[float]") -> Any:
    error = task.exception()
    assert isinstance(error, DBAPIError)
    return getattr(error.orig, "sqlstate", None), db.is_transient(error)


def test_a_history_ends_with_every_invariant_held() -> None:
    ended = history.play(3, payments=5, make_store=PostgresStore)
    assert ended.violations == []
    assert ended.faults >= history.FEWEST_FAULTS
    assert ended.payments == 5


def test_another_process_executes_the_same_statements(elsewhere: Callable[[str], str]) -> None:
    told = (
        "from tests.simulation import history; "
        "from tests.simulation.postgres_store import PostgresStore; "
        "print(history.play(3, payments=4, make_store=PostgresStore).log)"
    )
    first = elsewhere(told)
    assert elsewhere(told) == first
    assert history.play(8, payments=3, make_store=PostgresStore).log != first


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_that_is_cut_anywhere_ends_known_and_once(kind: str) -> None:
    """Accepting is one statement here, unlike on SQLite. F01, F02, F03, F05, F06, F07."""
    for where in ("api", "worker"):
        points = places("charge", kind, where, database="postgresql")
        one = Cut("charge", kind, where, points[len(points) // 2], database="postgresql")
        assert one.run() == [], f"charge {kind} {where}"
        assert one.was_cut


def test_a_lock_is_waited_for_in_virtual_time(world: World) -> None:
    async def play() -> None:
        _, first = await _holder(world, pause=1.5)
        other = world.spawn("api")
        second = other.start(_hold(other, _ROW, pause=0.0))
        assert 1.5 < await first <= await second < 2.0

    _play(world, play)


def test_nobody_waits_for_a_lock_for_ever(world: World) -> None:
    async def play() -> None:
        _, first = await _holder(world, pause=9.0)
        other = world.spawn("api")
        second = other.start(_hold(other, _ROW, pause=0.0))
        await asyncio.wait({second})
        assert 2.0 < world.loop.time() < 3.0
        assert _state(second) == ("55P03", True)
        await first

    _play(world, play)


def test_two_that_wait_for_each_other_are_told_apart(world: World) -> None:
    async def play() -> None:
        one, two = world.spawn("api"), world.spawn("api")
        first = one.start(_hold(one, _advisory(1), _advisory(2), pause=0.5))
        await asyncio.sleep(0.1)
        second = two.start(_hold(two, _advisory(2), _advisory(1), pause=0.5))
        await asyncio.wait({first, second})
        assert _state(first) == ("40P01", True)
        await second
        assert world.loop.time() < 3.0

    _play(world, play)


def test_who_dies_lets_go_of_its_locks_and_who_waits_of_its_place(world: World) -> None:
    async def play() -> None:
        holder, _ = await _holder(world, pause=9.0)
        waits, last = world.spawn("api"), world.spawn("api")
        waits.start(_hold(waits, _ROW, pause=9.0))
        await asyncio.sleep(0.1)
        third = last.start(_hold(last, _ROW, pause=0.0))
        await asyncio.sleep(0.1)
        waits.crash()
        await asyncio.sleep(0.1)
        assert not third.done()
        holder.crash()
        assert await third < 1.0

    _play(world, play)


def test_who_is_cut_off_while_it_waits_holds_nothing(world: World) -> None:
    async def play() -> None:
        _, first = await _holder(world, pause=1.0)
        other = world.spawn("api")
        second = other.start(_hold(other, _advisory(1), _ROW, pause=0.0))
        await asyncio.sleep(0.1)
        second.cancel()
        await asyncio.wait({second})
        assert second.cancelled()
        assert await other.start(_hold(other, _advisory(1), pause=0.0)) < 1.0
        await first

    _play(world, play)


def test_a_transaction_that_stands_still_is_ended_by_the_server(world: World) -> None:
    async def play() -> None:
        holder, first = await _holder(world, pause=0.2)
        other = world.spawn("api")
        holder.freeze(60.0)
        await asyncio.sleep(9.5)
        assert await other.start(_hold(other, _ROW, pause=0.0)) < 11.0
        await asyncio.wait({first})
        assert world.loop.time() >= 60.0
        assert isinstance(first.exception(), DBAPIError)

    _play(world, play)


def test_who_waits_gets_what_a_failed_statement_has_let_go_of(world: World) -> None:
    """Before its transaction is rolled back, which may be much later."""

    async def play() -> None:
        holder, other = world.spawn("api"), world.spawn("api")

        async def fail() -> None:
            async with holder.rt.sessions.begin() as session:
                await session.execute(_ROW)
                await asyncio.sleep(0.5)
                with pytest.raises(DBAPIError):
                    await session.execute(text("SELECT 1 / 0"))
                await asyncio.sleep(5.0)

        first = holder.start(fail())
        await asyncio.sleep(0.1)
        assert 0.5 < await other.start(_hold(other, _ROW, pause=0.0)) < 1.0
        await asyncio.wait({first})

    _play(world, play)


def test_the_server_gives_up_who_waits_also_where_his_process_stands_still(world: World) -> None:
    async def play() -> None:
        _, first = await _holder(world, pause=4.0)
        frozen, other = world.spawn("api"), world.spawn("api")
        second = frozen.start(_hold(frozen, _advisory(1), _ROW, pause=0.0))
        await asyncio.sleep(0.1)
        frozen.freeze(60.0)
        await asyncio.sleep(2.5)
        assert await other.start(_hold(other, _advisory(1), pause=0.0)) < 4.0
        await asyncio.wait({first, second})
        assert world.loop.time() >= 60.0
        assert _state(second) == ("55P03", True)

    _play(world, play)


def test_a_server_that_restarts_ends_everybodys_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_SERVERS", 1.0)  # Each error is one of the whole server.

    async def play() -> None:
        _, first = await _holder(world, pause=1.0)
        other = world.spawn("api")
        world.faults.active, world.faults.rates = True, {"db.error": 1.0}
        second = other.start(_hold(other, _advisory(1), pause=0.0))
        await asyncio.wait({second})
        world.faults.active = False
        third = other.start(_hold(other, _ROW, pause=0.0))
        await asyncio.wait({first, third})
        assert isinstance(first.exception(), DBAPIError)
        assert isinstance(second.exception(), DBAPIError)
        assert isinstance(third.exception(), ConnectionRefusedError)  # It is not back yet.
        await asyncio.sleep(5.0)
        await other.start(_hold(other, _ROW, pause=0.0))

    _play(world, play)


def test_who_waits_when_the_server_restarts_hears_of_it(world: World) -> None:
    async def play() -> None:
        other = world.spawn("api")
        await other.start(_hold(other, _advisory(1), pause=0.0))  # Its connection is the older one.
        _, first = await _holder(world, pause=1.0)
        second = other.start(_hold(other, _ROW, pause=0.0))
        await asyncio.sleep(0.1)
        assert isinstance(world.store, PostgresStore)
        world.store.restart(1.0)
        await asyncio.wait({first, second})
        assert world.loop.time() < 3.0
        assert isinstance(first.exception(), DBAPIError)
        assert isinstance(second.exception(), DBAPIError)

    _play(world, play)


def test_a_lone_change_outside_of_a_transaction_is_seen(world: World) -> None:
    async def play() -> None:
        process = world.spawn("api")

        async def change() -> None:
            async with process.rt.sessions.read() as session:
                await session.execute(text("UPDATE installation SET id = 'other'"))

        await process.start(change())

    _play(world, play)
    assert world.violations == [
        "I19: a transaction opened to read has written: UPDATE installation SET id = 'other'"
    ]


def test_the_servers_clock_is_the_worlds(world: World) -> None:
    async def play() -> None:
        process = world.spawn("api")

        async def clock() -> Any:
            async with process.rt.sessions.begin() as session:
                return await session.scalar(text("SELECT statement_timestamp()"))

        for jump in (0.0, 90_000.0):
            world.loop.jump(jump)
            assert abs(await process.start(clock()) - world.now()) < timedelta(milliseconds=1)

    _play(world, play)


def test_what_is_recorded_cannot_be_changed(world: World) -> None:
    assert world.store.refuses("DELETE FROM installation WHERE id = 'nobody' AND 1 / 0 = 1")
    assert not world.store.refuses("UPDATE installation SET id = 'other'")
    assert world.rows("SELECT id, id = ? FROM installation", "sim_installation") == [
        ("sim_installation", 1)
    ]
