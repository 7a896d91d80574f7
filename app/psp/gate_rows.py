"""The gates' rows: one short transaction in which a process tells what it saw and learns the rest.

Nothing is written for each call. A process gathers for about a second, so that a busy PSP's rows
are locked a few times a second by each worker and for two round trips.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from math import ceil
from typing import Any, cast

import msgspec
from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.psp.breaker import LONGEST, LONGEST_LOOKUP, Breaker, Jitter, Seen
from app.psp.models import PspGate
from app.psp.pace import Budget, Pace

SHARED = "all"
LOOKUP = "lookup"
OPERATIONS = ("capture", "charge", "checkout", LOOKUP, "refund", "void")
WITHIN = 1.0  # Seconds that a call waits in its place for its starting time, at most.
_AHEAD = 0.25  # Seconds of its own demand that a process reserves at once.
_GONE = 10.0  # Seconds after which a process that says nothing has no calls in flight.

_MOMENT = select(db.now())

Moment = Callable[[AsyncSession], Awaitable[datetime]]


class Report(msgspec.Struct):
    """What a process saw and wants, at one connection, since it reported last."""

    process: str
    in_flight: int = 0
    seen: dict[str, tuple[int, Seen]] = {}  # By operation: the era, and what was seen in it.
    firsts: int = 0
    retries: int = 0
    spent: int = 0  # Calls made without a reserved starting time.
    asked: int = 0  # Calls that wanted one, which tells the demand.
    elapsed: float = 0.0  # Seconds that all this took.
    want: dict[str, int] = {}  # Starting times by operation, for those who wait just now.


class Answer(msgspec.Struct, kw_only=True):
    """What holds now for everybody, and the starting times that are this process's own."""

    now: float
    breakers: dict[str, Breaker]
    tokens: float
    slots: dict[str, list[float]]
    idle: bool  # Nobody waits for a starting time.
    next_at: float
    changed: list[tuple[str, str, Breaker]]  # Operation, state before, breaker.


async def database_moment(session: AsyncSession) -> datetime:
    """Return the database's clock, which all hosts share."""
    found: datetime = (await session.execute(_MOMENT)).scalar_one()
    return found


async def exchange(
    session: AsyncSession,
    *,
    connection_id: str,
    report: Report,
    rate: float,
    jitter: Jitter,
    moment: Moment,
) -> Answer:
    """Merge a process's report into the rows and hand out starting times."""
    rows = await _rows(session, connection_id, moment)
    # Only now: the rows were waited for, and the answer must not be older than they are.
    at = await moment(session)
    now = at.timestamp()
    breakers = {name: _breaker(rows[name]) for name in OPERATIONS}
    before = {name: (one.state, one.era, one.since) for name, one in breakers.items()}
    for name, breaker in breakers.items():
        breaker.settle(now, rate)
        if name in report.seen:
            era, seen = report.seen[name]
            breaker.take_in(seen, now, era=era, jitter=jitter)
    for name, breaker in breakers.items():
        state, _, since = before[name]
        # What it opened for was begun before look-ups were answered again, and so it is tried now:
        # by itself it would wait longer. A probe was begun when the breaker let it out.
        begun = since if state == "half_open" else breaker.since
        if begun < breakers[LOOKUP].back_at and breakers[LOOKUP].state in {"ramp", "closed"}:
            breaker.try_now(now)
    shared = rows[SHARED].data
    pace, budget = Pace(shared["next_at"]), Budget(shared["tokens"], shared["tokens_at"])
    budget.move(now, firsts=report.firsts, retries=report.retries)
    pace.spent(now - report.elapsed, rate=rate, count=report.spent)
    slots = hand_out(breakers, pace, report, now, rate)
    idle = pace.next_at <= now
    flying = {
        process: [count, since]
        for process, (count, since) in shared["in_flight"].items()
        if process != report.process and now - since < _GONE
    }
    if report.in_flight:
        flying[report.process] = [report.in_flight, now]
    data = {
        "next_at": pace.next_at,
        "tokens": budget.tokens,
        "tokens_at": budget.at,
        "in_flight": flying,
    }
    kept = [_moved(rows[name], breaker, at) for name, breaker in breakers.items()]
    kept.append(_values(rows[SHARED]) | {"to_data": data})
    changed = [values | {"connection": connection_id, "at": at} for values in kept if values]
    await session.execute(_KEEP, changed)
    return Answer(
        now=now,
        breakers=breakers,
        tokens=budget.tokens,
        slots=slots,
        idle=idle,
        next_at=pace.next_at,
        changed=[
            (name, before[name][0], one)
            for name, one in breakers.items()
            if before[name][:2] != (one.state, one.era)
        ],
    )


def hand_out(
    breakers: dict[str, Breaker], pace: Pace, report: Report, now: float, rate: float
) -> dict[str, list[float]]:
    """Hand out starting times, of the ramp and the usual ones; pure."""
    slots: dict[str, list[float]] = {}
    usual = 0
    for name, want in sorted(report.want.items()):
        breaker = breakers[name]
        if breaker.state == "closed":
            usual += want
        elif breaker.probe(now):
            slots[name] = [now]
            pace.spent(now, rate=rate, count=1)
        elif breaker.state == "ramp":
            own = Pace(breaker.next_at)
            slow = breaker.rate(now, rate)
            slots[name] = pace.reserve_slowly(
                own, now, rate=rate, slow=slow, want=want, within=_AHEAD
            )
            breaker.next_at = own.next_at
    if usual:
        ahead = ceil(report.asked / max(report.elapsed, _AHEAD) * _AHEAD)
        slots[SHARED] = pace.reserve(now, rate=rate, want=max(usual, ahead), within=WITHIN)
    return slots


_GATES = cast("Table", PspGate.__table__)
_ROWS = (
    select(_GATES)
    .where(_GATES.c.connection_id == bindparam("connection"))
    .order_by(_GATES.c.operation)
    .with_for_update()
)
_CHANGING = ("state", "since", "reason", "next_probe_at", "data")
_KEEP = (
    update(_GATES)
    .where(
        _GATES.c.connection_id == bindparam("connection"),
        _GATES.c.operation == bindparam("of_operation"),
    )
    .values({name: bindparam(f"to_{name}") for name in _CHANGING} | {"updated_at": bindparam("at")})
)


async def _rows(session: AsyncSession, connection_id: str, moment: Moment) -> dict[str, Any]:
    wanted = {"connection": connection_id}
    found = {row.operation: row for row in await session.execute(_ROWS, wanted)}
    missing = [name for name in (SHARED, *OPERATIONS) if name not in found]
    if not missing:
        return found
    now = await moment(session)
    for name in missing:
        await db.insert_once(session, PspGate, _new(connection_id, name, now))
    return {row.operation: row for row in await session.execute(_ROWS, wanted)}


def _new(connection_id: str, operation: str, now: datetime) -> dict[str, Any]:
    fresh, budget = Breaker(), Budget()
    shared = {"next_at": 0.0, "tokens": budget.tokens, "tokens_at": budget.at, "in_flight": {}}
    return {
        "connection_id": connection_id,
        "operation": operation,
        "state": fresh.state,
        "since": now,
        "data": shared if operation == SHARED else _data(fresh),
        "updated_at": now,
    }


def _data(breaker: Breaker) -> dict[str, Any]:
    return {
        "opened": breaker.opened,
        "era": breaker.era,
        "in_a_row": breaker.in_a_row,
        "next_at": breaker.next_at,
        "back_at": breaker.back_at,
        "window": [list(part) for part in breaker.window],
    }


def _breaker(row: Any) -> Breaker:
    return msgspec.convert(
        row.data
        | {
            "state": row.state,
            "since": row.since.timestamp(),
            "reason": row.reason or "",
            "until": row.next_probe_at.timestamp() if row.next_probe_at else 0.0,
            "longest": LONGEST_LOOKUP if row.operation == LOOKUP else LONGEST,
        },
        Breaker,
    )


def _values(row: Any) -> dict[str, Any]:
    """Return a row as it is, named as `_KEEP` wants what changes of it."""
    return {"of_operation": row.operation} | {
        f"to_{name}": getattr(row, name) for name in _CHANGING
    }


def _moved(row: Any, breaker: Breaker, now: datetime) -> dict[str, Any] | None:
    """Return a breaker's row as it shall be; None when it is so already."""
    data, waits = _data(breaker), breaker.state in {"open", "half_open"}
    until = datetime.fromtimestamp(breaker.until, UTC) if waits else None
    if (row.state, row.data, row.next_probe_at) == (breaker.state, data, until):
        return None
    since = now if row.state != breaker.state or row.data["era"] != breaker.era else row.since
    changed = {
        "state": breaker.state,
        "since": since,
        "reason": breaker.reason or None,
        "next_probe_at": until,
        "data": data,
    }
    return _values(row) | {f"to_{name}": value for name, value in changed.items()}
