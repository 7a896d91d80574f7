import asyncio
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, String, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app import db
from app.psp.models import Installation, PspConnection
from app.runtime import Runtime
from tests.support.cutting import cut


class _Own(DeclarativeBase):
    """The tables of this test alone, which no migration knows."""


class Tally(_Own):
    """A value to count up."""

    __tablename__ = "test_tally"
    id: Mapped[str] = mapped_column(String(20), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


@pytest.fixture
async def tally(rt: Runtime) -> None:
    async with rt.sessions.engine.begin() as connection:
        await connection.run_sync(Tally.__table__.create)  # type: ignore[attr-defined] # A Table.
    async with rt.sessions.begin() as session:
        session.add(Tally(id="one", value=0))


async def test_read_then_write_in_parallel_loses_no_update(rt: Runtime, tally: None) -> None:
    """Trap 0.1: the driver alone loses three in four of these, and says nothing."""

    async def add() -> None:
        for _ in range(10):
            async with rt.sessions.begin() as session:
                row = await session.get(Tally, "one", with_for_update=True)
                assert row is not None
                row.value += 1

    await asyncio.gather(*(add() for _ in range(8)))
    async with rt.sessions.read() as session:
        assert await session.scalar(select(Tally.value)) == 80


async def test_an_exception_rolls_everything_back(rt: Runtime, tally: None) -> None:
    async def fail() -> None:
        async with rt.sessions.begin() as session:
            session.add(Tally(id="two", value=2))
            await session.flush()
            _ = 1 // 0

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with rt.sessions.read() as session:
        assert await session.get(Tally, "two") is None


async def test_queues_are_rung_after_the_commit_and_not_after_a_rollback(
    rt: Runtime, tally: None
) -> None:
    rung: list[str] = []
    sessions = db.Sessions(rt.sessions.engine, rung.extend)
    async with sessions.begin() as session:
        db.wake(session, ["psp"])
        assert rung == []
    assert rung == ["psp"]

    async def fail() -> None:
        async with sessions.begin() as session:
            db.wake(session, ["ledger"])
            _ = 1 // 0

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert rung == ["psp"]


async def test_a_passing_conflict_runs_the_whole_transaction_again(rt: Runtime) -> None:
    """F43."""
    tries = 0

    async def work(_session: object) -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OperationalError("", {}, Exception("database is locked"))
        return "done"

    assert await rt.sessions.run(work) == "done"
    assert tries == 3


async def test_another_error_is_not_tried_again(rt: Runtime) -> None:
    tries = 0

    async def work(_session: object) -> None:
        nonlocal tries
        tries += 1
        raise OperationalError("", {}, Exception("no such table"))

    with pytest.raises(OperationalError):
        await rt.sessions.run(work)
    assert tries == 1


async def test_a_row_is_inserted_once(rt: Runtime) -> None:
    values = {"id": "conn_x", "psp": "x", "livemode": False, "created_at": datetime.now(UTC)}
    async with rt.sessions.begin() as session:
        assert await db.insert_once(session, PspConnection, values)
        assert not await db.insert_once(session, PspConnection, values)


async def test_rows_of_several_tables_are_inserted_together(rt: Runtime, tally: None) -> None:
    rows = [(Tally, {"id": f"n{number}", "value": number}) for number in range(5)]
    other = {"id": "conn_y", "psp": "y", "livemode": True, "created_at": datetime.now(UTC)}
    async with rt.sessions.begin() as session:
        await db.insert_all(session, [*rows, (PspConnection, other)])
    async with rt.sessions.read() as session:
        assert await session.scalar(select(func.sum(Tally.value))) == 10
        found = await session.get(PspConnection, "conn_y")
        assert found is not None
        assert found.livemode is True


async def test_moments_keep_their_microseconds_and_zone(rt: Runtime) -> None:
    moment = datetime(2026, 11, 22, 14, 40, 7, 123456, tzinfo=UTC)
    async with rt.sessions.begin() as session:
        session.add(PspConnection(id="conn_z", psp="z", livemode=False, created_at=moment))
    async with rt.sessions.read() as session:
        found = await session.scalar(
            select(PspConnection.created_at).where(PspConnection.id == "conn_z")
        )
    assert found == moment


async def test_a_moment_without_a_zone_is_refused(rt: Runtime) -> None:
    naive = datetime(2026, 11, 22)  # noqa: DTZ001 - the point of the test.
    with pytest.raises(StatementError, match="time zone"):
        async with rt.sessions.begin() as session:
            session.add(PspConnection(id="conn_n", psp="n", livemode=False, created_at=naive))


async def test_the_databases_clock_can_be_compared_and_moved(rt: Runtime) -> None:
    async with rt.sessions.read() as session:
        early, late = (await session.execute(select(db.now(-5), db.now(5)))).one()
    assert abs((late - early).total_seconds() - 10) < 0.01
    assert abs((datetime.now(UTC) - early).total_seconds() - 5) < 2


async def test_the_first_migration_names_the_installation(rt: Runtime) -> None:
    async with rt.sessions.read() as session:
        (installation,) = (await session.scalars(select(Installation))).all()
    assert len(installation.id) == 16


async def test_work_that_is_cut_at_any_await_leaves_no_lock_behind(
    rt: Runtime, tally: None
) -> None:
    """F07: a closed SQLite connection with rows still to come would hold the write lock on."""

    async def work() -> None:
        async with rt.sessions.begin() as session:
            await session.execute(update(Tally).values(value=Tally.value + 1))
            await session.execute(select(Tally))

    for n in range(1, 100):
        came_that_far = await cut(work(), n)
        async with asyncio.timeout(4), rt.sessions.begin() as session:
            await session.execute(update(Tally).values(value=0))
        if not came_that_far:
            return
    raise AssertionError("it never came to an end")


async def test_a_queue_of_writers_that_does_not_move_is_left_in_time(rt: Runtime) -> None:
    """F43, F44: the embedded database has one writer; who waits too long is told so."""
    if not rt.sessions.sqlite:
        return
    sessions = db.Sessions(rt.sessions.engine, patience=0.05)

    async def wait() -> None:
        async with sessions.begin():
            pass

    async with sessions.begin():
        with pytest.raises(PoolTimeout):
            await wait()
    await wait()


def test_a_database_that_cannot_be_opened_leaves_no_thread_behind(tmp_path: Path) -> None:
    """A command ends, and its event loop with it, as soon as it knows that it cannot go on."""
    url = f"sqlite+aiosqlite:///{tmp_path}/no/folder.db"
    before = set(threading.enumerate())

    async def open_it() -> set[threading.Thread]:
        engine = db.make_engine(url)
        with pytest.raises(OperationalError, match="unable to open database file"):
            async with engine.connect():
                pass
        still = set(threading.enumerate()) - before
        await engine.dispose()
        return {thread for thread in still if not thread.name.startswith("asyncio_")}

    for _ in range(30):
        assert asyncio.run(open_it()) == set()


@pytest.mark.parametrize("fault", [{}, {"value": None}, {"value": "a planted text"}])
async def test_an_error_names_no_value_of_the_statement(
    rt: Runtime, tally: None, fault: dict[str, Any]
) -> None:
    """S41: PostgreSQL would tell the row, its driver the argument, SQLAlchemy all of them."""
    row = {"id": "planted id", "value": 717_171_717} | fault

    async def insert_twice(session: AsyncSession) -> None:
        for _ in range(2):
            await session.execute(insert(Tally).values(**row))

    with pytest.raises(DBAPIError) as caught:
        await rt.sessions.run(insert_twice)
    story = "".join(traceback.format_exception(caught.value))
    for planted in ("planted id", "717171717", "planted text"):
        assert planted not in story
    assert "test_tally" in story


@pytest.mark.parametrize("opened", ["begin", "read", "snapshot"])
async def test_a_cut_stays_one_though_the_roll_back_fails_as_well(rt: Runtime, opened: str) -> None:
    """Seed 78 of the simulation: a worker that was told to stop tried once more, for ever."""
    cut_off = asyncio.Event()

    @event.listens_for(rt.sessions.engine.sync_engine, "rollback")
    def fails(_connection: Any) -> None:
        raise OperationalError("ROLLBACK", {}, OSError("database is locked"))

    async def work() -> None:
        async with getattr(rt.sessions, opened)() as session:
            await session.execute(select(Installation.id))
            cut_off.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await cut_off.wait()
    task.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        event.remove(rt.sessions.engine.sync_engine, "rollback", fails)


async def test_a_deadline_inside_of_a_transaction_is_no_cut(rt: Runtime) -> None:
    with pytest.raises(TimeoutError):
        async with rt.sessions.begin(), asyncio.timeout(0.01):
            await asyncio.sleep(60)
