"""The gates through their rows: what one worker sees, all know; nothing is lost on the way."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import Ids
from app.psp.breaker import Outcome
from app.psp.gate_rows import SHARED
from app.psp.gates import Gates, Permit, Shut, outcome_of
from app.psp.models import PspGate
from app.psp.port import Result
from app.runtime import Runtime

CONNECTION = "conn_sandbox"
Worker = Callable[[], Gates]
OK: Outcome = "ok"
NOT_SENT: Outcome = "not_sent"


class Late(Ids):
    def uniform(self, low: float, high: float) -> float:
        return max(low, high)


class Time:
    """A clock that stands until it is moved; all workers and the database share it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def worker(rt: Runtime, time: Time) -> Worker:
    """Return a maker of workers: each with what it knows itself, all on the same rows."""
    rt.clock, rt.ids = time, Late(time)

    async def moment(_: AsyncSession) -> datetime:
        return time()

    return lambda: Gates(rt, moment=moment)


async def calls(
    gates: Gates, *outcomes: Outcome, operation: str = "charge", retry: bool = False
) -> list[Shut | None]:
    told: list[Shut | None] = []
    for outcome in outcomes:
        permit = await gates.enter(CONNECTION, operation, retry=retry)
        if isinstance(permit, Permit):
            await gates.leave(permit, outcome, outcome)
        told.append(permit if isinstance(permit, Shut) else None)
    return told


async def row(rt: Runtime, operation: str = "charge") -> PspGate:
    async with rt.sessions.read() as session:
        query = select(PspGate).where(PspGate.operation == operation)
        return (await session.execute(query)).scalar_one()


async def test_a_failing_psp_is_noticed_by_every_worker_within_a_second(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    """F18, F19, F51."""
    one, other = worker(), worker()
    await calls(other, "ok")
    assert other.shut(CONNECTION, "charge") is None
    assert await calls(one, *[NOT_SENT] * 5) == [None] * 5
    assert (await row(rt)).state == "open"
    (refused,) = await calls(one, "ok")
    assert refused is not None
    assert refused.seconds >= 5
    time.forward(1.0)
    (refused,) = await calls(other, "ok")
    assert refused is not None
    assert other.held() == [f"{CONNECTION}/charge/"]
    assert other.shut(CONNECTION, "charge") is not None
    # Look-ups and the other operations have breakers of their own.
    assert await calls(other, "ok", operation="lookup") == [None]
    assert other.shut(CONNECTION, "refund") is None


async def test_what_an_idle_worker_did_not_report_is_reported_by_the_clock(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    one, other = worker(), worker()
    await calls(one, *[OK] * 2, "not_sent", "not_sent")
    await calls(other, "not_sent", "not_sent")
    assert (await row(rt)).state == "closed"
    for _ in range(2):
        time.forward(1.0)
        await one.keep_up()
        await other.keep_up()
    await calls(one, "not_sent")
    assert (await row(rt)).state == "open"


async def test_one_probe_goes_out_and_then_more_and_more(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    """F19: the first second after the probe sees one call, the next two, and so on."""
    one, other = worker(), worker()
    await calls(one, *[NOT_SENT] * 5)
    time.forward(5.0)
    probe = await one.enter(CONNECTION, "charge")
    assert isinstance(probe, Permit)
    assert (await row(rt)).state == "half_open"
    assert isinstance(await other.enter(CONNECTION, "charge"), Shut)
    await one.leave(probe, "ok")
    assert (await row(rt)).state == "ramp"
    passed = []
    for _ in range(3):
        told = []
        for _ in range(10):
            told += [*await calls(one, "ok"), *await calls(other, "ok")]
            time.forward(0.1)
        passed.append(told.count(None))
    # A call may be handed its starting time a quarter of a second early.
    for index, allowed in enumerate((1, 3, 7)):
        assert allowed - 1 <= sum(passed[: index + 1]) <= allowed + 1
    for _ in range(50):
        time.forward(0.1)
        await calls(one, "ok")
    assert (await row(rt)).state == "closed"
    assert (await row(rt)).reason is None


async def test_a_refused_credential_stops_the_operation_at_once_and_resumes_by_itself(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    """F25."""
    gates = worker()
    answer = await gates.through(CONNECTION, "charge", _answers(cls="not_sent", unauthorized=True))
    assert isinstance(answer, Result)
    found = await row(rt)
    assert (found.state, "credential" in (found.reason or "")) == ("open", True)
    again = await gates.through(CONNECTION, "charge", _answers(cls="succeeded"))
    assert isinstance(again, Result)
    assert (again.cls, again.turned_away) == ("not_sent", True)
    time.forward(61)
    fixed = await gates.through(CONNECTION, "charge", _answers(cls="succeeded"))
    assert isinstance(fixed, Result)
    assert fixed.cls == "succeeded"


def _answers(**values: object) -> Callable[[], Awaitable[Result]]:
    async def send() -> Result:
        return Result(**values)  # type: ignore[arg-type] # Made of a test's words.

    return send


async def test_workers_together_stay_within_the_rate(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    """F19, F56: starting times are handed out, whoever asks."""
    workers = [worker() for _ in range(4)]
    starts: list[float] = []
    for _ in range(40):
        for gates in workers:
            gate = gates._gate(CONNECTION)
            gate.want["charge"] = 8
            await gates._exchange(gate)
            starts += gate.slots.pop(SHARED, ())
        time.forward(0.05)
    starts.sort()
    seconds = [int(start - starts[0]) for start in starts]
    assert max(seconds.count(second) for second in set(seconds)) <= 100 * 1.2
    assert seconds.count(0) >= 95


async def test_retries_beyond_a_tenth_wait(rt: Runtime, worker: Worker, time: Time) -> None:
    """F15, F56: an outage cannot multiply the load."""
    gates, retried = worker(), 0
    await calls(gates, "ok")
    for _ in range(300):
        if gates.shut(CONNECTION, "charge", retry=True) is None:
            permit = await gates.enter(CONNECTION, "charge", retry=True)
            if isinstance(permit, Permit):
                await gates.leave(permit, "ok")
                retried += 1
        time.forward(0.02)
    assert 100 <= retried <= 100 + 2 * 6 + 3
    assert gates.shut(CONNECTION, "charge", retry=True) is not None
    assert gates.shut(CONNECTION, "charge") is None
    time.forward(2.0)  # Nobody calls meanwhile, so nobody reads the budget again.
    assert gates.shut(CONNECTION, "charge", retry=True) is None
    (told,) = await calls(gates, "ok", retry=True)
    assert told is None


async def test_what_answers_look_ups_again_is_tried_at_once(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    """F19: a charge need not wait out its own minute; and its probe is one job, not a batch."""
    gates = worker()
    for _ in range(6):
        await calls(gates, *[NOT_SENT] * 5)
        due = (await row(rt)).next_probe_at
        assert due is not None
        time.forward((due - time()).total_seconds() + 1.0)
    await calls(gates, NOT_SENT)
    await calls(gates, *[NOT_SENT] * 5, operation="lookup")
    await gates.keep_up()
    assert f"{CONNECTION}/charge/" in gates.held()
    time.forward(6.0)
    await calls(gates, OK, operation="lookup")
    time.forward(1.0)
    await gates.keep_up()
    assert f"{CONNECTION}/charge/" not in gates.held()
    assert gates.shut(CONNECTION, "charge") is None
    assert f"{CONNECTION}/charge/" in gates.held()
    assert await calls(gates, OK) == [None]
    assert (await row(rt)).state == "ramp"


async def _shut(worker: Worker) -> Gates:
    """Return gates that let neither charges nor look-ups through."""
    gates = worker()
    for operation in ("lookup", "charge"):
        await calls(gates, *[NOT_SENT] * 5, operation=operation)
    return gates


async def test_a_probe_that_was_out_before_look_ups_were_answered_says_nothing(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    """F19: a probe that the PSP's absence hung up on must not close the gate after its return."""
    gates = await _shut(worker)
    time.forward(5.0)
    probe = await gates.enter(CONNECTION, "charge")
    assert isinstance(probe, Permit)
    time.forward(10.0)
    assert await calls(gates, OK, operation="lookup") == [None]
    time.forward(1.0)
    await gates.leave(probe, "failed")
    assert (await row(rt)).state == "open"
    assert gates.shut(CONNECTION, "charge") is None
    # A probe that was begun since then counts.
    assert await calls(gates, "failed") == [None]
    assert gates.shut(CONNECTION, "charge") is not None


async def test_a_charge_that_fails_while_look_ups_work_waits_its_own_time(
    rt: Runtime, worker: Worker, time: Time
) -> None:
    """The end of the look-ups' ramp is no new sign, and each probe is somebody's charge."""
    gates = await _shut(worker)
    time.forward(6.0)
    assert await calls(gates, OK, operation="lookup") == [None]
    time.forward(1.0)
    assert await calls(gates, "failed") == [None]
    due = (await row(rt)).next_probe_at
    assert due == time() + timedelta(seconds=10)
    time.forward(8.0)
    await gates.keep_up()
    assert (await row(rt, "lookup")).state == "closed"
    assert (await row(rt)).next_probe_at == due


async def test_a_slow_psp_has_so_many_places_and_no_more(rt: Runtime, worker: Worker) -> None:
    """F18: 24 calls and 8 look-ups at once; the rest is turned away after a second."""
    import msgspec

    rt.settings = msgspec.structs.replace(rt.settings, psp_rate_per_second=10_000.0)
    gates = worker()
    permits = await asyncio.gather(*(gates.enter(CONNECTION, "charge") for _ in range(26)))
    assert [isinstance(one, Permit) for one in permits].count(True) == 24
    looks = await asyncio.gather(*(gates.enter(CONNECTION, "lookup") for _ in range(8)))
    assert all(isinstance(one, Permit) for one in looks)
    assert f"{CONNECTION}/charge/" in gates.held()
    assert isinstance(await gates.enter("conn_stripe_test", "charge"), Permit)
    await gates._exchange(gates._gate(CONNECTION))
    async with rt.sessions.read() as session:
        query = select(PspGate).where(
            PspGate.operation == SHARED, PspGate.connection_id == CONNECTION
        )
        shared = (await session.execute(query)).scalar_one()
    assert [count for count, _ in shared.data["in_flight"].values()] == [32]
    for one in [*permits, *looks]:
        if isinstance(one, Permit):
            await gates.leave(one, "ok")
    assert isinstance(await gates.enter(CONNECTION, "charge"), Permit)


async def test_a_call_that_is_cut_off_gives_its_place_back(worker: Worker) -> None:
    gates = worker()

    async def hangs() -> None:
        await asyncio.Event().wait()

    for _ in range(30):
        task = asyncio.create_task(gates.through(CONNECTION, "charge", hangs))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    assert gates._gate(CONNECTION).in_flight == 0
    assert not gates._gate(CONNECTION).room("charge").locked()


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (Result(cls="succeeded"), "ok"),
        (Result(cls="declined"), "ok"),
        (Result(cls="rejected"), "ok"),
        (Result(cls="busy", http_status=409), "ok"),
        (Result(cls="busy", http_status=429), "failed"),
        (Result(cls="unknown", http_status=500), "failed"),
        (Result(cls="unknown", raw={"look_up": "not_sent"}), "not_sent"),
        (Result(cls="not_sent"), "not_sent"),
        (Result(cls="not_sent", unauthorized=True), "refused"),
        ([], "ok"),
    ],
)
def test_a_decline_is_a_good_answer(result: object, outcome: str) -> None:
    assert outcome_of(result)[0] == outcome
