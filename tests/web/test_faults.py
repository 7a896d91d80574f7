"""Connections that are cut, clients that go away, clocks that disagree, floods: around one API."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.db import Lone, Sessions
from app.jobs import Job
from app.payments.models import Payment
from app.runtime import Runtime
from app.webhooks.models import Event
from tests.support.cutting import cut
from tests.support.gates import OpenGates
from tests.support.invariants import check_invariants
from tests.support.psp import BookPsp
from tests.support.runtime import Clock
from tests.web.api.shop import Api, problem
from web.limits import Limiter

PATH = "/v1/payments"
BODY = {"amount": 10_000, "currency": "eur", "payment_method": "pm_card_visa"}


class Cutting(Sessions):
    """Loses the connection at the n-th commit from now: before it, or after it was done."""

    def __init__(self, other: Sessions) -> None:
        super().__init__(other.engine)
        self.left = 0
        self.done = True

    def cut_at(self, n: int, *, done: bool) -> None:
        """Cut at the n-th commit; `done`: the database has carried it out."""
        self.left, self.done = n, done

    def _lost(self) -> bool:
        self.left -= 1
        return self.left == 0

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        async with super().begin() as session:
            yield session
            lost = self._lost()
            if lost and not self.done:
                raise _gone()
        if lost:
            raise _gone()

    @asynccontextmanager
    async def at_once(self) -> AsyncIterator[Lone]:
        async with super().at_once() as lone:
            yield lone
            lost = self._lost()
        if lost:
            raise _gone()


def _gone() -> OperationalError:
    return OperationalError("COMMIT", {}, Exception("connection was closed"))


async def count(rt: Runtime, table: Any) -> int:
    async with rt.sessions.read() as session:
        return int(await session.scalar(select(func.count()).select_from(table)) or 0)


@pytest.mark.parametrize("done", [True, False])
async def test_a_commit_of_unknown_outcome_is_read_by_its_key(
    api: Api, rt: Runtime, psp: BookPsp, done: bool
) -> None:
    """F40, F01, F02: the client hears of no success; its retry finds what is so, or makes it."""
    await api.get(PATH)  # The key's use is noted once a minute, in a transaction of its own.
    rt.sessions = cutting = Cutting(rt.sessions)
    cutting.cut_at(1, done=done)
    first = await api.post(PATH, BODY, key="k")
    assert first.status_code in {500, 503}, first.text
    if first.status_code == 503:
        told = problem(first, 503, "database_unavailable")["detail"]
        assert told == "It may or may not have happened: repeat it with the same Idempotency-Key."
    second = await api.post(PATH, BODY, key="k")
    assert second.status_code == 201
    kept = done or not rt.sessions.sqlite  # On PostgreSQL accepting is one statement: no commit.
    assert ("idempotent-replayed" in second.headers) == kept
    await api.runner.drain()
    assert (await count(rt, Payment), psp.total()) == (1, 10_000)
    await check_invariants(rt)


@pytest.mark.parametrize("done", [True, False])
async def test_a_worker_whose_commit_is_cut_charges_once(
    api: Api, rt: Runtime, psp: BookPsp, done: bool
) -> None:
    """F40, F05, F06: at each commit of a charge's whole way, one after the other."""
    calm = rt.sessions
    # So many retries within a second are more than a PSP's gate lets pass.
    rt.made_gates = OpenGates(rt)
    rt.sessions = cutting = Cutting(calm)
    for n in range(1, 13):
        made = await api.create(1_000, payment_method="pm_card_visa")
        cutting.cut_at(n, done=done)
        for _ in range(4):
            # What the cut worker held, its lease gives back; what waits, its time.
            async with calm.begin() as session:
                for job in await session.scalars(select(Job).where(Job.state == "due")):
                    job.run_at, job.owner = datetime.fromisoformat("2026-01-01T00:00:00Z"), None
            try:
                await api.runner.drain()
            except DBAPIError:
                continue
        seen = (await api.get(f"{PATH}/{made['id']}")).json()
        assert seen["status"] == "succeeded", (n, seen)
        assert psp.total() == n * 1_000
        if cutting.left > 0:
            break  # The way has no further commit.
    assert n > 6
    await check_invariants(rt)


async def test_a_client_that_goes_away_leaves_all_or_nothing(
    api: Api, rt: Runtime, psp: BookPsp
) -> None:
    """F55: at every await of an accepting request; the same key then has one payment."""
    await api.get(PATH)
    n = 1
    while await cut(api.post(PATH, BODY, key=f"k-{n}"), n):
        rows = await count(rt, Payment)
        events = await count(rt, Event)
        work = await count(rt, Job)
        assert rows == events == work, n
        answer = await api.post(PATH, BODY, key=f"k-{n}")
        assert answer.status_code == 201, (n, answer.text)
        assert await count(rt, Payment) == n
        n += 1
    # PostgreSQL accepts in one round trip, so there are few places to go away at.
    assert n > (5 if rt.sessions.sqlite else 2)
    await api.runner.drain()
    assert psp.total() == n * 10_000
    await check_invariants(rt)


async def test_a_flood_is_shed_and_what_was_accepted_becomes_final(
    api: Api, app: Any, rt: Runtime
) -> None:
    """F56."""
    await app.state.limiter.close()
    app.state.limiter = Limiter(rate=1, burst=20)
    answers: list[httpx.Response] = await asyncio.gather(
        *(api.post(PATH, BODY) for _ in range(200))
    )
    codes = Counter(answer.status_code for answer in answers)
    # 429: this key asked too often. 503: the process works on as many requests as it may.
    assert {201, 429} <= set(codes) <= {201, 429, 503}
    assert 20 <= codes[201] <= 60
    for answer in answers:
        if answer.status_code != 201:
            assert int(answer.headers["retry-after"]) >= 1
    await app.state.limiter.close()
    app.state.limiter = Limiter(rate=1_000, burst=1_000)
    await api.runner.drain()
    for answer in answers:
        if answer.status_code == 201:
            seen = await api.get(f"{PATH}/{answer.json()['id']}")
            assert seen.json()["status"] == "succeeded"
    assert await count(rt, Payment) == codes[201]
    await check_invariants(rt)


async def test_a_transaction_left_open_stops_nobody_for_long(api: Api, rt: Runtime) -> None:
    """F48: PostgreSQL ends it; on SQLite its task's end lets go of the lock."""
    paid = await api.paid()
    started = asyncio.Event()

    async def forgetful() -> None:
        async with rt.sessions.begin() as session:
            if not rt.sessions.sqlite:
                found = await session.scalar(text("SHOW idle_in_transaction_session_timeout"))
                assert found == "10s"
                assert await session.scalar(text("SHOW statement_timeout")) == "5s"
                await session.execute(text("SET idle_in_transaction_session_timeout = 200"))
            query = select(Payment).where(Payment.id == paid["id"]).with_for_update()
            await session.scalar(query)
            started.set()
            await asyncio.sleep(0.5 if rt.sessions.sqlite else 60)

    task = asyncio.create_task(forgetful())
    await started.wait()
    answer = await api.post("/v1/refunds", {"payment": paid["id"]})
    assert answer.status_code == 201, answer.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await api.runner.drain()
    assert (await api.get(f"{PATH}/{paid['id']}")).json()["amount_refundable"] == 0
    await check_invariants(rt)


@pytest.mark.parametrize("hours", [-1, 1, -9_600, 9_600])
async def test_a_host_whose_clock_is_wrong_takes_no_lease_that_holds(
    rt: Runtime, clock: Clock, hours: int
) -> None:
    """F60: leases and their ends are the database's; an hour, and four hundred days."""
    async with rt.sessions.begin() as session:
        job = {"id": rt.ids("job"), "kind": "x", "args": {}, "queue": "psp", "now": rt.clock()}
        await jobs.enqueue(session, **job)
        assert await jobs.claim(session, queue="psp", limit=9, owner="right", lease=15)
    clock.forward(hours=hours)
    async with rt.sessions.begin() as session:
        assert not await jobs.claim(session, queue="psp", limit=9, owner="wrong", lease=15)


@pytest.mark.parametrize("hours", [-9_600, 1, 9_600])
async def test_what_a_host_whose_clock_is_wrong_asks_for_is_due_at_once(
    api: Api, rt: Runtime, clock: Clock, hours: int
) -> None:
    """F60: a host that runs ahead would write work that nobody takes up for as long."""
    clock.forward(hours=hours)
    made = await api.create(payment_method="pm_card_visa")
    clock.forward(hours=-hours)
    await api.runner.drain()
    assert (await api.get(f"{PATH}/{made['id']}")).json()["status"] == "succeeded"
    await check_invariants(rt)


async def test_events_are_numbered_in_order_while_the_clock_goes_back(
    api: Api, rt: Runtime, clock: Clock
) -> None:
    """F60: an hour back, at a year's end or a change to winter time, reorders nothing."""
    made = await api.create(capture_method="manual", payment_method="pm_card_visa")
    for way in ("", "capture"):
        clock.forward(hours=-1)
        if way:
            answer = await api.post(f"{PATH}/{made['id']}/{way}", {})
            assert answer.status_code == 200, answer.text
        await api.runner.drain()
    seen = (await api.get(f"{PATH}/{made['id']}")).json()
    assert (seen["status"], seen["amount_captured"]) == ("succeeded", 10_000)
    async with rt.sessions.read() as session:
        query = select(Event).where(Event.payment_id == made["id"]).order_by(Event.sequence)
        events = list(await session.scalars(query))
    assert [event.sequence for event in events] == [*range(1, len(events) + 1)]
    assert events[0].created_at > events[-1].created_at
    assert events[-1].type == "payment.succeeded"
    await check_invariants(rt)
