"""S42: an exception at every failpoint: nothing internal is told, and the work is done once."""

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from app import mail
from app.audit.models import AuditRow
from app.failpoints import PLACES, WEB_PLACES, WORKER_PLACES, Failpoints
from app.inbox.models import ReceivedEvent
from app.jobs import Job
from app.psp.port import PspEvent
from app.runtime import Runtime
from app.webhooks.models import Delivery
from tests.deadletters.letters import retry
from tests.support.gates import OpenGates
from tests.support.invariants import check_invariants
from tests.support.psp import BookPsp
from tests.support.receiver import receiving
from tests.support.runtime import Clock
from tests.web.api.shop import Api, problem
from tests.web.canaries import logging_to_stream
from tests.web.dashboard.belongings import Belongings, furnish
from tests.web.dashboard.money import Shop
from web.api.reference import all_routes
from workers.jobs import JOBS, queues
from workers.runner import Runner

INTERNAL = "SELECT planted FROM nowhere, told by nobody"
ERRORS: dict[str, Callable[[], BaseException]] = {
    "a defect": lambda: RuntimeError(INTERNAL),
    "the database": lambda: OperationalError(INTERNAL, {}, Exception(INTERNAL)),
    "cancelled": lambda: asyncio.CancelledError(INTERNAL),
}
# Words of a trace, of SQL and of the libraries that we stand on; lower case.
_NEVER = ("planted", "traceback", 'file "', "select ", "sqlalchemy", "litestar", "runtimeerror")


class Raising(Failpoints):
    """Raises at one place, once."""

    def __init__(self, place: str, error: BaseException) -> None:
        super().__init__()
        self.place, self.error, self.struck = place, error, False

    def hit(self, place: str) -> None:
        if place == self.place and not self.struck:
            self.struck = True
            raise self.error


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    with logging_to_stream("INFO") as stream:
        yield stream


@pytest.fixture(params=list(ERRORS))
def error(request: pytest.FixtureRequest) -> BaseException:
    return ERRORS[request.param]()


@pytest.fixture
def shop(app: Any, rt: Runtime, psp: BookPsp, cast: Any) -> Shop:
    return Shop(app, rt, psp, cast)


async def count(rt: Runtime, table: Any) -> int:
    async with rt.sessions.read() as session:
        return int(await session.scalar(select(func.count()).select_from(table)) or 0)


async def refused(request: Any, error: BaseException) -> None:
    """Send a request that meets the error; check that its answer tells nothing of it."""
    try:
        answer: httpx.Response = await request
    except asyncio.CancelledError:
        assert isinstance(error, asyncio.CancelledError)
        return  # The server is stopping: nobody is answered.
    if isinstance(error, OperationalError):
        assert answer.headers["retry-after"]
        told = problem(answer, 503, "database_unavailable")
    else:
        told = problem(answer, 500, "internal_error")
    assert set(told) <= {
        *("type", "title", "status", "detail", "instance", "code"),
        *("param", "decline_code", "request_id", "errors"),
    }
    assert not [word for word in _NEVER if word in answer.text.lower()]


def asked(things: Belongings) -> dict[str, tuple[str, Any]]:
    """Return address and body of every operation of the API that takes an Idempotency-Key."""
    bodies: dict[str, Any] = {
        "/v1/payments": {"amount": 700, "currency": "eur", "payment_method": "pm_card_visa"},
        "/v1/refunds": {"payment": things.ids["payment_id"], "amount": 100},
        "/v1/webhook_endpoints": {"url": "https://third.example/hook"},
    }
    found = {}
    for route in all_routes():
        if route.method.upper() == "POST":
            at = route.path.replace("{payment_id}", things.payment_for(route.path))
            for name, value in things.ids.items():
                at = at.replace(f"{{{name}}}", value)
            found[route.path] = (at, bodies.get(route.path))
    assert len(found) >= 8
    return found


@pytest.mark.parametrize("place", ["api.before_commit", "api.after_commit"])
async def test_an_operation_that_met_an_error_is_done_once_by_its_key(
    api: Api, rt: Runtime, shop: Shop, place: str, error: BaseException
) -> None:
    """S42: each operation that takes a key: the answer is plain, the repetition does it once."""
    things = await furnish(shop)
    struck = []
    for path, (at, body) in asked(things).items():
        before = await count(rt, AuditRow)
        rt.failpoints = raising = Raising(place, error)
        first = await _outcome(api.post(at, body, key=f"key-of-{path}"), raising, error)
        rt.failpoints = Failpoints()
        again = await api.post(at, body, key=f"key-of-{path}")
        assert again.status_code < 300, (path, again.text)
        if not first:
            continue
        struck.append(path)
        assert ("idempotent-replayed" in again.headers) == (place == "api.after_commit"), path
        third = await api.post(at, body, key=f"key-of-{path}")
        assert third.json().get("id") == again.json().get("id"), path
        assert await count(rt, AuditRow) == before + 1, path
    assert "/v1/payments" in struck
    assert "/v1/refunds" in struck
    assert len(struck) >= 4
    await api.runner.drain()
    await check_invariants(rt)


async def _outcome(request: Any, raising: Raising, error: BaseException) -> bool:
    """Tell whether the request passed the place; what did not has simply succeeded."""
    try:
        await refused(request, error)
    except AssertionError:
        if raising.struck:
            raise
    return raising.struck


@pytest.mark.parametrize("place", ["inbox.before_store", "inbox.after_store"])
async def test_an_event_that_met_an_error_is_stored_once(
    api: Api,
    rt: Runtime,
    psp: BookPsp,
    place: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S42: the PSP sends it again, as it does after any answer but a good one."""

    def verify(body: bytes, headers: Mapping[str, str], now: datetime) -> PspEvent:
        return PspEvent(id=body.decode(), type="x", created_at=now, livemode=False, about="other")

    monkeypatch.setattr(psp, "verify_event", verify)
    path = "/psp/conn_sandbox/events"
    rt.failpoints = raising = Raising(place, error)
    await refused(api.client.post(path, content=b"evt_1"), error)
    assert raising.struck
    for _ in range(2):
        assert (await api.client.post(path, content=b"evt_1")).status_code == 200
    assert await count(rt, ReceivedEvent) == 1
    await api.runner.drain()
    await check_invariants(rt)


async def lives(rt: Runtime, runner: Runner, clock: Clock) -> None:
    """Let a worker live for a while, twice, as a supervisor would; then mend what is left."""
    for _ in range(2):
        task = asyncio.create_task(runner.run())
        await asyncio.wait([task], timeout=0.7)
        await runner.stop(0.5)
        task.cancel()
        # A defect outside of any job ends the process; the next life goes on.
        await asyncio.gather(task, return_exceptions=True)
        runner = Runner(rt, kinds=JOBS, queues=queues("test"), owner="test", lease=15, poll=0.1)
    for _ in range(8):
        clock.forward(minutes=2)
        async with rt.sessions.begin() as session:
            dead = list(await session.scalars(select(Job.id).where(Job.state == "dead")))
            for job in await session.scalars(select(Job).where(Job.state == "due")):
                job.run_at, job.owner = datetime(2026, 1, 1, tzinfo=UTC), None
        for job_id in dead:
            await retry(rt, job_id)
        await runner.drain()


@pytest.mark.parametrize("place", WORKER_PLACES)
async def test_work_that_met_an_error_is_done_once(
    api: Api, rt: Runtime, psp: BookPsp, clock: Clock, place: str, error: BaseException
) -> None:
    """S42, F07: the charge, its posting and its message arise once, whatever broke where."""
    rt.made_gates = OpenGates(rt)
    async with receiving() as receiver:
        hook = await api.post("/v1/webhook_endpoints", {"url": receiver.url})
        assert hook.status_code == 201, hook.text
        made = await api.create(700, payment_method="pm_card_visa")
        async with rt.sessions.begin() as session:
            # A letter is work that does not end itself, so the finisher has something to do.
            letter = mail.Letter(to="one@shop.example", subject="A letter", text="Words")
            await mail.enqueue(session, ids=rt.ids, now=rt.clock(), sealer=rt.sealer, letter=letter)
        rt.failpoints = raising = Raising(place, error)
        runner = Runner(rt, kinds=JOBS, queues=queues("test"), owner="test", lease=15, poll=0.1)
        await lives(rt, runner, clock)
        assert raising.struck
        seen = (await api.get(f"/v1/payments/{made['id']}")).json()
        assert (seen["status"], seen["amount_captured"]) == ("succeeded", 700)
        assert psp.total() == 700
        told = [one.headers["webhook-id"] for one in receiver.requests]
        # A try whose end was not noted is sent again under the same id; none is missing.
        assert len(told) <= len(set(told)) + 1
        async with rt.sessions.read() as session:
            states = set(await session.scalars(select(Delivery.state)))
        assert states == {"delivered"}
    await check_invariants(rt)


def test_every_failpoint_is_raised_at() -> None:
    asked_here = {"api.before_commit", "api.after_commit"}
    asked_here |= {"inbox.before_store", "inbox.after_store"}
    assert asked_here == set(WEB_PLACES)
    assert asked_here | set(WORKER_PLACES) == PLACES
