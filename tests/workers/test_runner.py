import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from app import jobs
from app.jobs import Bury, Claim, Job, Postpone
from app.runtime import Runtime
from workers.runner import Known, Queue, Runner

Work = Callable[[Runtime, Claim], Awaitable[None]]


async def _enqueue(rt: Runtime, count: int = 1, **values: Any) -> None:
    async with rt.sessions.begin() as session:
        for _ in range(count):
            await jobs.enqueue(
                session,
                **{
                    "id": rt.ids("job"),
                    "kind": "test",
                    "args": {},
                    "queue": "psp",
                    "now": datetime.now(UTC),
                }
                | values,
            )


async def _rows(rt: Runtime) -> list[Job]:
    async with rt.sessions.read() as session:
        return list(await session.scalars(select(Job).order_by(Job.id)))


def _runner(rt: Runtime, work: Work, **changes: Any) -> Runner:
    values: dict[str, Any] = {
        "kinds": {"test": Known(work)},
        "queues": [Queue("psp", 4)],
        "owner": "me",
        "lease": 15,
    }
    return Runner(rt, **(values | changes))


@asynccontextmanager
async def _running(runner: Runner, grace: float = 1.0) -> AsyncIterator[None]:
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        await runner.stop(grace)
        await task


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():  # noqa: ASYNC110 - what is awaited is in the database.
            await asyncio.sleep(0.02)


async def _settled(rt: Runtime) -> bool:
    return all(row.state != "due" for row in await _rows(rt))


async def test_due_jobs_are_run_without_any_ring(rt: Runtime) -> None:
    """F35, F36: Redis is nowhere to be seen."""
    seen: list[str] = []

    async def work(_rt: Runtime, job: Claim) -> None:
        seen.append(job.id)

    await _enqueue(rt, 10)
    async with _running(_runner(rt, work)):
        await _until(lambda: _settled(rt))
    assert len(seen) == 10


async def test_a_ring_wakes_the_queue_at_once(rt: Runtime) -> None:
    done = asyncio.Event()

    async def work(_rt: Runtime, _job: Claim) -> None:
        done.set()

    runner = _runner(rt, work)
    async with _running(runner):
        await asyncio.sleep(0.2)
        await _enqueue(rt)
        runner.ring("psp")
        runner.ring("a queue that nobody has")
        async with asyncio.timeout(5):
            await done.wait()


async def test_a_failing_job_is_buried_after_eight_failures_and_blocks_nobody(rt: Runtime) -> None:
    """F58."""
    good: list[str] = []

    async def work(_rt: Runtime, job: Claim) -> None:
        if job.args.get("poison"):
            raise ValueError("always")
        good.append(job.id)

    await _enqueue(rt, args={"poison": True})
    await _enqueue(rt, 3)
    runner = _runner(rt, work)
    for _ in range(8):
        await runner.drain()
        async with rt.sessions.begin() as session:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await session.execute(update(Job).where(Job.state == "due").values(run_at=past))
    (dead,) = [row for row in await _rows(rt) if row.state == "dead"]
    assert dead.failures == 7
    assert dead.reason == "ValueError: always"
    assert len(dead.history) == 8
    assert len(good) == 3


async def test_a_job_that_kills_its_worker_is_buried_at_the_third_crash(rt: Runtime) -> None:
    """F58."""

    async def work(_rt: Runtime, _job: Claim) -> None:
        raise AssertionError("it must not be run again")

    await _enqueue(rt)
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).values(crashes=2, owner="dead worker"))
    await _runner(rt, work).drain()
    (row,) = await _rows(rt)
    assert row.state == "dead"
    assert "died 3 times" in (row.reason or "")


async def test_a_newer_kind_is_put_back_and_buried_after_an_hour(rt: Runtime) -> None:
    """F10: a rolling deploy is no poison."""

    async def work(_rt: Runtime, _job: Claim) -> None:
        raise AssertionError("not ours")

    await _enqueue(rt, version=2)
    await _enqueue(rt, kind="of a newer release")
    runner = _runner(rt, work)
    await runner.drain()
    assert {row.state for row in await _rows(rt)} == {"due"}
    async with rt.sessions.begin() as session:
        old = datetime.now(UTC) - timedelta(hours=2)
        await session.execute(update(Job).values(created_at=old, run_at=old))
    await runner.drain()
    assert {row.state for row in await _rows(rt)} == {"dead"}


async def test_a_job_says_itself_when_to_come_back_or_to_stop(rt: Runtime) -> None:
    async def work(_rt: Runtime, job: Claim) -> None:
        if job.args["how"] == "later":
            raise Postpone(60, "not yet")
        raise Bury("never")

    await _enqueue(rt, args={"how": "later"})
    await _enqueue(rt, args={"how": "never"})
    await _runner(rt, work).drain()
    rows = {row.args["how"]: row for row in await _rows(rt)}
    assert (rows["later"].state, rows["later"].failures) == ("due", 0)
    assert (rows["never"].state, rows["never"].reason) == ("dead", "never")


async def test_a_stop_lets_jobs_finish_and_hands_the_rest_back(rt: Runtime) -> None:
    """F07."""
    cut: list[str] = []

    async def work(_rt: Runtime, job: Claim) -> None:
        try:
            await asyncio.sleep(0.3 if job.args["short"] else 60)
        except asyncio.CancelledError:
            cut.append(job.id)
            raise

    await _enqueue(rt, args={"short": True})
    await _enqueue(rt, args={"short": False})
    async with _running(_runner(rt, work), grace=1.0):
        await asyncio.sleep(0.5)
    rows = {row.args["short"]: row for row in await _rows(rt)}
    assert rows[True].state == "done"
    assert (rows[False].state, rows[False].owner, rows[False].crashes) == ("due", None, 0)
    assert cut == [rows[False].id]


async def test_a_long_job_keeps_its_lease(rt: Runtime) -> None:
    runs: list[str] = []

    async def work(_rt: Runtime, job: Claim) -> None:
        runs.append(job.id)
        await asyncio.sleep(1.5)

    await _enqueue(rt)
    async with _running(_runner(rt, work, lease=0.6), grace=3.0):
        await _until(lambda: _settled(rt))
    assert len(runs) == 1


async def test_a_pump_runs_before_claims_and_its_failure_stops_nothing(rt: Runtime) -> None:
    pumped = 0
    seen: list[str] = []

    async def pump(_rt: Runtime) -> int:
        nonlocal pumped
        pumped += 1
        if pumped == 1:
            raise OSError("the database is away")
        return 0

    async def work(_rt: Runtime, job: Claim) -> None:
        seen.append(job.id)

    await _enqueue(rt)
    async with _running(_runner(rt, work, queues=[Queue("psp", 2, pump)])):
        with contextlib.suppress(TimeoutError):
            await _until(lambda: _settled(rt))
    assert pumped > 1
    assert len(seen) == 1


async def test_a_stop_keeps_the_leases_of_what_may_still_finish(rt: Runtime) -> None:
    """F10: thirty seconds of grace are longer than a lease; nobody else may begin meanwhile."""
    runs: list[str] = []

    async def work(_rt: Runtime, job: Claim) -> None:
        runs.append(job.id)
        await asyncio.sleep(1.5)

    await _enqueue(rt)
    first = _runner(rt, work, lease=0.6)
    running = asyncio.create_task(first.run())
    await _until(lambda: _owned(rt))
    stopping = asyncio.create_task(first.stop(5.0))
    async with _running(_runner(rt, work, owner="another")):
        await stopping
    await running
    assert len(runs) == 1
    (row,) = await _rows(rt)
    assert (row.state, row.crashes) == ("done", 0)


async def _owned(rt: Runtime) -> bool:
    return all(row.owner is not None for row in await _rows(rt))


async def test_what_is_claimed_while_stopping_is_handed_back(rt: Runtime) -> None:
    """F07: a stop between the claim and its first step leaves nothing behind."""
    begun: list[str] = []

    async def work(_rt: Runtime, job: Claim) -> None:
        begun.append(job.id)
        await asyncio.sleep(60)

    claimed, stopped = asyncio.Event(), asyncio.Event()

    class Slow(Runner):
        async def _claim(self, queue: Queue, limit: int, taken: Counter[str]) -> list[Claim]:
            claims = await super()._claim(queue, limit, taken)
            claimed.set()
            await stopped.wait()
            return claims

    await _enqueue(rt)
    values: dict[str, Any] = {"kinds": {"test": Known(work)}, "queues": [Queue("psp", 4)]}
    runner = Slow(rt, **values, owner="me", lease=15)
    running = asyncio.create_task(runner.run())
    await claimed.wait()
    stopping = asyncio.create_task(runner.stop(0.2))
    await asyncio.sleep(0.05)
    stopped.set()
    await stopping
    await running
    (row,) = await _rows(rt)
    assert (row.state, row.owner, row.crashes) == ("due", None, 0)


async def test_a_job_whose_last_transaction_was_cut_is_handed_back(rt: Runtime) -> None:
    """F07: it had said that it is done, and that was rolled back with everything else."""
    inside = asyncio.Event()

    async def work(rt: Runtime, job: Claim) -> None:
        async with rt.sessions.begin() as session:
            await jobs.finish(session, job=job, now=rt.clock())
            inside.set()
            await asyncio.sleep(60)

    await _enqueue(rt)
    runner = _runner(rt, work)
    running = asyncio.create_task(runner.run())
    await inside.wait()
    await runner.stop(0.1)
    await running
    (row,) = await _rows(rt)
    assert (row.state, row.owner, row.crashes) == ("due", None, 0)


async def test_a_statement_that_can_never_work_is_poison_too(rt: Runtime) -> None:
    """F58: a constraint that always refuses is a fault of the job, not of the database."""

    async def work(_rt: Runtime, _job: Claim) -> None:
        raise IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed"))

    await _enqueue(rt)
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).values(failures=7))
    await _runner(rt, work).drain()
    (row,) = await _rows(rt)
    assert row.state == "dead"


async def test_a_database_that_is_away_is_not_the_jobs_fault(rt: Runtime) -> None:
    async def work(_rt: Runtime, _job: Claim) -> None:
        raise OperationalError("SELECT 1", {}, Exception("connection is closed"))

    await _enqueue(rt)
    await _runner(rt, work).drain()
    (row,) = await _rows(rt)
    assert (row.state, row.failures) == ("due", 0)


async def test_a_job_that_takes_for_ever_is_buried_in_the_end(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F58."""
    monkeypatch.setattr("workers.runner._LONGEST_JOB", 0.01)

    async def work(_rt: Runtime, _job: Claim) -> None:
        await asyncio.sleep(60)

    await _enqueue(rt)
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).values(failures=7))
    await _runner(rt, work).drain()
    (row,) = await _rows(rt)
    assert row.state == "dead"
    assert "longer than" in (row.reason or "")


async def test_a_job_that_returns_without_finishing_is_finished_once(rt: Runtime) -> None:
    async def work(_rt: Runtime, job: Claim) -> None:
        assert not job.finished

    await _enqueue(rt, 3)
    await _runner(rt, work).drain()
    assert [row.state for row in await _rows(rt)] == ["done"] * 3


async def test_a_zombies_last_words_change_nothing(rt: Runtime) -> None:
    """F08: its lease ran out and somebody else has the job; whatever it says now is not heard."""
    said: list[str] = []

    async def work(rt: Runtime, job: Claim) -> None:
        async with rt.sessions.begin() as session:
            await session.execute(update(Job).values(fence=Job.fence + 1, owner="another"))
        said.append(job.args["how"])
        if job.args["how"] == "later":
            raise Postpone(0, "again")
        if job.args["how"] == "bury":
            raise Bury("over")
        if job.args["how"] == "raise":
            raise ValueError("no")
        if job.args["how"] == "finish":
            async with rt.sessions.begin() as session:
                await jobs.finish(session, job=job, now=rt.clock())

    for how in ("later", "bury", "raise", "finish", "return"):
        await _enqueue(rt, args={"how": how})
        await _runner(rt, work).drain()
        rows = [row for row in await _rows(rt) if row.args["how"] == how]
        assert [(row.state, row.owner) for row in rows] == [("due", "another")]
        async with rt.sessions.begin() as session:
            await session.execute(delete(Job))
    assert said == ["later", "bury", "raise", "finish", "return"]


async def test_a_pump_with_a_fault_of_ours_stops_no_queue(rt: Runtime) -> None:
    seen: list[str] = []

    async def pump(_rt: Runtime) -> int:
        raise KeyError("our own bug")

    async def work(_rt: Runtime, job: Claim) -> None:
        seen.append(job.id)

    await _enqueue(rt, queue="mail")
    queues = [Queue("psp", 2, pump), Queue("mail", 2)]
    async with _running(_runner(rt, work, queues=queues)):
        await _until(lambda: _settled(rt))
    assert len(seen) == 1
