"""How the system is doing right now, from the database alone: does money move?"""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import case, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.jobs import Job
from app.ledger import queries as ledger
from app.payments.models import Attempt, PspCall
from app.payments.states import ALARM_AFTER
from app.psp.gate_rows import SHARED
from app.psp.gates import fair_key
from app.psp.models import PspGate
from app.psp.port import FAILED_LOOKS, KEPT
from app.queue import QUEUES
from app.reviews.models import Review
from app.webhooks.models import Delivery, Endpoint, Event

WINDOW = timedelta(minutes=5)
STUCK = timedelta(seconds=30)  # Due work that nobody takes for this long.
_DONE = timedelta(minutes=1)
# The answers that say that the PSP (or the way to it) has a problem; a decline is a good answer.
_FAULTS = FAILED_LOOKS
_FEWEST = 3


class QueueHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A queue: what is due, runs, waits for its time, has stopped, and was done in a minute."""

    name: str
    due: int = 0
    running: int = 0
    later: int = 0
    dead: int = 0
    done: int = 0
    oldest: timedelta | None = None

    @property
    def stuck(self) -> bool:
        """Whether due work waits for longer than it should."""
        return self.oldest is not None and self.oldest > STUCK


class PspHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one kind to a PSP connection within five minutes."""

    connection_id: str
    step: str
    calls: int
    faults: int
    slowest: timedelta | None
    last_at: datetime
    last_outcome: str | None

    @property
    def failing(self) -> bool:
        """Whether at least half of at least three calls got no answer."""
        return self.calls >= _FEWEST and self.faults * 2 >= self.calls


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One operation at a PSP connection that is not called as usual, and why."""

    connection_id: str
    operation: str
    state: str  # open half_open ramp
    since: datetime
    reason: str | None
    next_probe_at: datetime | None


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers share at one connection: retries left, and calls that are out now."""

    connection_id: str
    retries_left: int
    in_flight: int


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts whose outcome nobody knows, and questions that a person must settle.

    `late` are unknown for more than an hour, which rings; `review` counts open review items.
    """

    open: int
    late: int
    oldest_at: datetime | None
    next_at: datetime | None
    review: int


class Messages(msgspec.Struct, frozen=True, kw_only=True):
    """Messages to shops: events not handed out, deliveries in retry, endpoints that fail."""

    waiting: int
    retrying: int
    failing: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, at one moment."""

    queues: list[QueueHealth]
    psps: list[PspHealth]
    unknown: Unknown
    ledgers: list[ledger.Health]
    messages: Messages
    workers: list[str]
    gates: list[Gate]
    traffic: list[Traffic]
    late_ledgers: list[str]  # Whose oldest posting waits for longer than it should.

    @property
    def dead(self) -> int:
        """How many dead letters wait for a decision."""
        return sum(queue.dead for queue in self.queues)


async def health(session: AsyncSession, *, now: datetime) -> Health:
    """Return how everything is doing; each part comes from an index or a small table."""
    ledgers = await ledger.health(session)
    gates, traffic = await read_gates(session, now)
    return Health(
        queues=await read_queues(session, now, gates),
        gates=gates,
        traffic=traffic,
        psps=await _psps(session, now),
        unknown=await _unknown(session, now),
        ledgers=ledgers,
        late_ledgers=[
            one.ledger_id
            for one in ledgers
            if one.oldest_waiting_at is not None and now - one.oldest_waiting_at > STUCK
        ],
        messages=await _messages(session),
        workers=await _workers(session),
    )


async def read_gates(session: AsyncSession, now: datetime) -> tuple[list[Gate], list[Traffic]]:
    """Return what is not called as usual, and the traffic of each connection."""
    query = select(PspGate).order_by(PspGate.connection_id, PspGate.operation)
    rows = list(await session.scalars(query))
    gates = [
        Gate(
            connection_id=row.connection_id,
            operation=row.operation,
            state=row.state,
            since=row.since,
            reason=row.reason,
            next_probe_at=row.next_probe_at,
        )
        for row in rows
        if row.state != "closed"
    ]
    return gates, [_traffic(row, now) for row in rows if row.operation == SHARED]


def _traffic(row: PspGate, now: datetime) -> Traffic:
    fresh = now.timestamp() - WINDOW.total_seconds()
    counts = row.data["in_flight"].values()
    return Traffic(
        connection_id=row.connection_id,
        retries_left=max(0, int(row.data["tokens"])),
        in_flight=sum(count for count, at in counts if at > fresh),
    )


async def read_queues(session: AsyncSession, now: datetime, gates: list[Gate]) -> list[QueueHealth]:
    """Return every queue; what waits for a gate is work for later."""
    # What waits for a PSP that is left alone is nobody's neglect: it counts as work for later.
    shut = [fair_key(one.connection_id, one.operation) for one in gates]
    left = or_(false(), *[Job.fair_key.startswith(start, autoescape=True) for start in shut])
    free = (Job.state == "due") & Job.owner.is_(None)
    # A row whose lease ran out is due again, whoever held it.
    waits = (Job.state == "due") & (Job.run_at <= db.now()) & ~(left & Job.owner.is_(None))
    runs = (Job.state == "due") & Job.owner.is_not(None) & (Job.run_at > db.now())

    def number(which: object) -> object:
        return func.sum(case((which, 1), else_=0))  # type: ignore[arg-type] # A condition.

    query = (
        select(
            Job.queue,
            number(waits),
            number(runs),
            number(free & ((Job.run_at > db.now()) | left)),
            number(Job.state == "dead"),
            func.min(case((waits, Job.run_at))),
        )  # type: ignore[call-overload] # Columns made above.
        .where(Job.state.in_(("due", "dead")))
        .group_by(Job.queue)
    )
    found = {row[0]: row[1:] for row in (await session.execute(query)).all()}
    done = await session.execute(
        select(Job.queue, func.count())
        .where(Job.state == "done", Job.finished_at > now - _DONE)
        .group_by(Job.queue)
    )
    finished = {row[0]: row[1] for row in done.all()}
    made = []
    for name in QUEUES:
        due, running, later, dead, oldest = found.get(name, (0, 0, 0, 0, None))
        made.append(
            QueueHealth(
                name=name,
                due=int(due),
                running=int(running),
                later=int(later),
                dead=int(dead),
                done=finished.get(name, 0),
                oldest=None if oldest is None else max(now - oldest, timedelta()),
            )
        )
    return made


async def _psps(session: AsyncSession, now: datetime) -> list[PspHealth]:
    kind = case((PspCall.kind == "lookup", "lookup"), else_=Attempt.kind)
    rows = await session.execute(
        select(
            PspCall.connection_id,
            kind,
            PspCall.outcome,
            PspCall.duration_us,
            PspCall.started_at,
        )
        .join(Attempt, Attempt.id == PspCall.attempt_id)
        .where(PspCall.started_at > now - WINDOW)
        # What we kept back ourselves says nothing about the PSP.
        .where(or_(PspCall.outcome.is_(None), PspCall.outcome != KEPT))
        .order_by(PspCall.started_at.desc())
        .limit(5_000)
    )
    calls: dict[tuple[str, str], list[tuple[str | None, int | None, datetime]]] = {}
    for connection_id, step, outcome, duration, started in rows.all():
        calls.setdefault((connection_id, step), []).append((outcome, duration, started))
    return [
        PspHealth(
            connection_id=connection_id,
            step=step,
            calls=len(found),
            faults=sum(outcome in _FAULTS for outcome, _, _ in found),
            slowest=_slowest([duration for _, duration, _ in found if duration is not None]),
            last_at=found[0][2],
            last_outcome=found[0][0],
        )
        for (connection_id, step), found in sorted(calls.items())
    ]


def _slowest(durations: list[int]) -> timedelta | None:
    """Return what 95 of 100 calls stay below; None for no call that ended."""
    if not durations:
        return None
    ordered = sorted(durations)
    return timedelta(microseconds=ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)])


async def _unknown(session: AsyncSession, now: datetime) -> Unknown:
    since = func.coalesce(Attempt.first_sent_at, Attempt.created_at)
    open_ones = (
        await session.execute(
            select(
                func.count(),
                func.min(since),
                func.min(Attempt.next_check_at),
                func.coalesce(func.sum(case((since <= now - ALARM_AFTER, 1), else_=0)), 0),
            ).where(Attempt.state == "unknown", Attempt.next_check_at.is_not(None))
        )
    ).one()
    review = await session.scalar(select(func.count()).where(Review.state == "open"))
    return Unknown(
        open=open_ones[0],
        oldest_at=open_ones[1],
        next_at=open_ones[2],
        late=int(open_ones[3]),
        review=review or 0,
    )


async def unknown_for(session: AsyncSession, *, now: datetime, longer_than: timedelta) -> int:
    """Return how many outcomes are unknown for longer than that."""
    since = func.coalesce(Attempt.first_sent_at, Attempt.created_at)
    query = select(func.count()).where(
        Attempt.state == "unknown",
        Attempt.next_check_at.is_not(None),
        since <= now - longer_than,
    )
    return await session.scalar(query) or 0


async def _messages(session: AsyncSession) -> Messages:
    waiting = await session.scalar(select(func.count()).where(Event.fanned_out == false()))
    retrying = await session.scalar(select(func.count()).where(Delivery.state == "retrying"))
    failing = await session.scalar(
        select(func.count()).where(Endpoint.status == "failing", Endpoint.deleted_at.is_(None))
    )
    return Messages(waiting=waiting or 0, retrying=retrying or 0, failing=failing or 0)


async def _workers(session: AsyncSession) -> list[str]:
    """Return who holds jobs or a ledger at this moment; an idle worker holds nothing."""
    held = await session.scalars(
        select(Job.owner)
        .where(Job.state == "due", Job.owner.is_not(None), Job.run_at > db.now())
        .distinct()
    )
    return sorted(str(owner) for owner in held)


class Sentence(msgspec.Struct, frozen=True):
    """The answer to "does money move?", with its tone and icon, and why."""

    tone: str
    icon: str
    title: str
    text: str = ""


def sentence(found: Health, *, redis: bool) -> Sentence:
    """Return the worst thing that stands in the way of money, or that nothing does; pure."""
    stuck = [queue.name for queue in found.queues if queue.stuck]
    stuck += [f"ledger {name}" for name in found.late_ledgers]
    if stuck:
        names = ", ".join(stuck)
        return Sentence(
            "bad",
            "alert-triangle",
            "Work is due, and nobody takes it.",
            f"Waiting for more than {STUCK.seconds} s: {names}. Is a worker running? Nothing is "
            "lost: it goes on when one does.",
        )
    alone = [one for one in found.gates if one.state != "ramp"]
    if alone:
        names = ", ".join(f"{one.operation} at {one.connection_id}" for one in alone)
        return Sentence(
            "bad",
            "alert-triangle",
            "A PSP fails and is left alone for a moment.",
            f"{names}: {alone[0].reason}. Payments are accepted and wait; one call at a time "
            "finds out when it is back.",
        )
    failing = [one for one in found.psps if one.failing]
    if failing:
        names = ", ".join(sorted({f"{one.step} at {one.connection_id}" for one in failing}))
        return Sentence(
            "bad",
            "alert-triangle",
            "A PSP does not answer as it should.",
            f"At least half of the calls of the last 5 minutes failed: {names}. They are tried "
            "again by themselves.",
        )
    if found.unknown.late:
        return Sentence(
            "bad",
            "help-circle",
            "Outcomes are unknown for more than an hour.",
            f"{found.unknown.late:,} of {found.unknown.open:,}. We go on asking the PSP; nobody is "
            "charged twice.",
        )
    if found.unknown.review or found.dead:
        return Sentence(
            "wait",
            "user-exclamation",
            "Money moves. Something waits for a person.",
            f"{found.dead:,} dead letters and {found.unknown.review:,} review items.",
        )
    if not redis:
        return Sentence(
            "wait",
            "bolt",
            "Money moves, a little late.",
            "Redis does not answer, so work is found by looking once a second.",
        )
    if found.unknown.open:
        return Sentence(
            "odd",
            "help-circle",
            "Money moves. Some outcomes are unknown and are being looked up.",
            f"{found.unknown.open:,} now; nobody is charged twice.",
        )
    count = sum(one.waiting for one in found.ledgers)
    return Sentence(
        "ok",
        "check",
        "Money moves.",
        f"{count:,} postings are just being recorded." if count else "Nothing stands in its way.",
    )
