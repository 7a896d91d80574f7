"""The one gate that every call to a PSP passes: breaker, pace, retry budget and bulkhead.

What is decided is shared through rows (app/psp/gate_rows.py); between two looks at them, about a
second apart, a process goes by what it knows.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.db import Sessions
from app.ids import Ids
from app.psp.breaker import Breaker, Outcome, Seen
from app.psp.gate_rows import LOOKUP as LOOKUP
from app.psp.gate_rows import (
    OPERATIONS,
    SHARED,
    WITHIN,
    Answer,
    Moment,
    Report,
    database_moment,
    exchange,
)
from app.psp.pace import RETRY_FLOOR, RETRY_MOST
from app.psp.port import Result
from app.settings import Settings

T = TypeVar("T")
log = structlog.get_logger(__name__)

_FRESH = 1.0  # Seconds for which a process goes by what it knows.
_LATE = 0.1  # A starting time that was missed by more is lost, so that calls do not bunch.
_UNASKED = 0.05  # Of the rate: what an idle connection allows a process without asking first.
_FULL = 0.5  # Seconds for which no further work is claimed after somebody was turned away.
_SPREAD = 5.0  # Those who were turned away come back within so many seconds of each other.


class Host(Protocol):
    """What of the runtime a gate needs; it is looked at each time, because tests replace parts."""

    settings: Settings
    sessions: Sessions
    ids: Ids

    @property
    def clock(self) -> Callable[[], datetime]:
        """Return the application's clock."""


class Shut(msgspec.Struct, frozen=True):
    """Not now: nothing was sent, and nothing has failed. `seconds` until it is worth asking."""

    seconds: float
    reason: str


class Permit(msgspec.Struct):
    """A call that may go out now."""

    gate: "_Gate"
    operation: str
    era: int


class _Gate:
    """What this process knows about one connection, and what it has not reported yet."""

    def __init__(self, connection_id: str, process: str, width: int) -> None:
        self.connection_id = connection_id
        self.lock = asyncio.Lock()
        self.report = Report(process)
        self.breakers = {name: Breaker() for name in OPERATIONS}
        self.tokens = 1.0
        self.unasked = 0
        self.slots: dict[str, deque[float]] = {}
        self.want: Counter[str] = Counter()
        self.full_until: dict[str, float] = {}
        self.probing: dict[str, float] = {}
        self.ahead = timedelta()  # The database's clock less ours.
        self.looked_at: float | None = None
        self.in_flight = 0
        # Look-ups have room of their own: they settle what slow calls have left behind.
        lookups = max(1, width // 4)
        self.rooms = {True: asyncio.Semaphore(lookups), False: asyncio.Semaphore(width - lookups)}

    def room(self, operation: str) -> asyncio.Semaphore:
        return self.rooms[operation == LOOKUP]

    def learn(self, answer: Answer, *, now: datetime, rate: float) -> None:
        self.ahead = datetime.fromtimestamp(answer.now, now.tzinfo) - now
        self.looked_at = answer.now
        self.breakers, self.tokens = answer.breakers, answer.tokens
        self.unasked = max(1, int(rate * _UNASKED)) if answer.idle else 0
        for name, times in answer.slots.items():
            self.slots.setdefault(name, deque()).extend(times)

    def retries_left(self, now: float) -> float:
        """Return how many retries the budget holds, with what time has added since it was read.

        Nobody reads it again while everybody waits for it.
        """
        passed = max(0.0, now - self.looked_at) if self.looked_at is not None else 0.0
        return min(RETRY_MOST, self.tokens + passed * RETRY_FLOOR) - self.report.retries

    def slot(self, operation: str, now: float) -> float | None:
        """Return a starting time that is ours already, or one that needs no asking."""
        usual = self.breakers[operation].state == "closed"
        mine = self.slots.get(SHARED if usual else operation, deque())
        while mine:
            at = mine.popleft()
            if at >= now - _LATE:
                return at
        if usual and self.unasked:
            self.unasked -= 1
            self.report.spent += 1
            return now
        return None


class Gates:
    """The gates to all PSP connections, as one process sees them."""

    def __init__(self, host: Host, *, moment: Moment = database_moment) -> None:
        self._host = host
        self._moment = moment
        self._process = host.ids.token(6)
        self._gates: dict[str, _Gate] = {}

    def shut(self, connection_id: str, operation: str, *, retry: bool = False) -> Shut | None:
        """Tell, without asking anybody, whether a call had better not be started now."""
        gate = self._gate(connection_id)
        now, breaker = self._now(gate), gate.breakers[operation]
        if wait := breaker.wait(now):
            return self._turned_away(wait, f"The PSP is left alone: {breaker.reason}")
        probes = breaker.state in {"open", "half_open"}
        if probes and gate.probing.get(operation, 0.0) > now:
            return self._turned_away(1.0, "The PSP is being probed.")
        if gate.full_until.get(operation, 0.0) > now:
            return self._turned_away(_FULL, "The PSP gets as many calls as it may.")
        if retry and gate.retries_left(now) < 1:
            return self._turned_away(_SPREAD, "The budget of retries at this PSP is spent.")
        if probes:
            gate.probing[operation] = now + _SPREAD
        return None

    def held(self) -> list[str]:
        """Return the fair keys' beginnings (`connection/operation/`) of work to leave alone."""
        held = []
        for gate in self._gates.values():
            now = self._now(gate)
            for name, breaker in gate.breakers.items():
                # One job is enough to probe with; the others would be taken up in vain.
                shut = breaker.state in {"open", "half_open"}
                probed = shut and gate.probing.get(name, 0.0) > now
                if breaker.wait(now) or probed or gate.full_until.get(name, 0.0) > now:
                    held.append(fair_key(gate.connection_id, name))
        return held

    async def through(
        self,
        connection_id: str,
        operation: str,
        send: Callable[[], Awaitable[T]],
        *,
        retry: bool = False,
    ) -> T | Result:
        """Call a PSP when the gate lets it; else `not_sent`, with the seconds to wait.

        `retry` says that this change was sent before. Whatever `send` raises passes through; the
        breaker then learns nothing.
        """
        permit = await self.enter(connection_id, operation, retry=retry)
        if isinstance(permit, Shut):
            return Result(
                cls="not_sent",
                message=permit.reason,
                retry_after=permit.seconds,
                turned_away=True,
            )
        try:
            answer = await send()
        except BaseException:
            self._free(permit)
            raise
        outcome, why = outcome_of(answer)
        await self.leave(permit, outcome, why)
        return answer

    async def enter(
        self, connection_id: str, operation: str, *, retry: bool = False
    ) -> Permit | Shut:
        """Wait, a second or so at most, for room and a starting time."""
        gate = self._gate(connection_id)
        try:
            async with asyncio.timeout(WITHIN):
                await gate.room(operation).acquire()
        except TimeoutError:
            return self._full(gate, operation)
        gate.in_flight += 1
        permit = Permit(gate, operation, 0)
        try:
            start = await self._start(gate, operation)
            if isinstance(start, Shut):
                self._free(permit)
                return start
            if operation != LOOKUP:
                gate.report.firsts += not retry
                gate.report.retries += retry
            if (wait := start - self._now(gate)) > 0:
                await asyncio.sleep(wait)
        except BaseException:
            self._free(permit)
            raise
        permit.era = gate.breakers[operation].era
        return permit

    async def leave(self, permit: Permit, outcome: Outcome, why: str = "") -> None:
        """Report how a call ended; everybody is told at once where that changes something."""
        self._free(permit)
        gate, name = permit.gate, permit.operation
        if permit.era != gate.breakers[name].era:
            return  # It was begun before the breaker moved, and says nothing new.
        era, seen = gate.report.seen.get(name, (permit.era, Seen()))
        if era != permit.era:
            era, seen = permit.era, Seen()
        seen.add(outcome, why)
        gate.report.seen[name] = (era, seen)
        breaker = gate.breakers[name]
        ahead = msgspec.structs.replace(breaker)
        ahead.take_in(seen, self._now(gate), era=era, jitter=max)
        stale = outcome != "ok" and self._stale(gate)
        if stale or ahead.state != breaker.state:
            async with gate.lock:
                await self._exchange(gate)

    async def keep_up(self) -> None:
        """Report what is left to report and learn what others saw; by the clock, each second."""
        for gate in list(self._gates.values()):
            shaky = any(one.state != "closed" for one in gate.breakers.values())
            if (shaky or gate.in_flight or gate.report.seen) and self._stale(gate):
                async with gate.lock:
                    await self._exchange(gate)

    async def _start(self, gate: _Gate, operation: str) -> float | Shut:
        gate.report.asked += 1
        gate.want[operation] += 1
        try:
            if not self._stale(gate):
                start = self._ready(gate, operation)
                if start is not None:
                    return start
            async with gate.lock:
                # Whoever held the lock has asked for all that were waiting.
                start = None if self._stale(gate) else self._ready(gate, operation)
                if start is None:
                    await self._exchange(gate)
                    start = self._ready(gate, operation)
        finally:
            gate.want[operation] -= 1
            gate.probing.pop(operation, None)
        return self._full(gate, operation) if start is None else start

    def _ready(self, gate: _Gate, operation: str) -> float | Shut | None:
        now, breaker = self._now(gate), gate.breakers[operation]
        start = gate.slot(operation, now)
        if start is None and (wait := breaker.wait(now)):
            return self._turned_away(wait, f"The PSP is left alone: {breaker.reason}")
        return start

    async def _exchange(self, gate: _Gate) -> None:
        """Report and learn. While the database is away, a process goes by what it knows."""
        rt, now = self._host, self._now(gate)
        report, rate = gate.report, rt.settings.psp_rate_per_second
        report.elapsed = now - gate.looked_at if gate.looked_at is not None else 0.0
        report.in_flight = gate.in_flight
        report.want = {name: count for name, count in gate.want.items() if count > 0}
        gate.report = Report(report.process)
        try:
            answer = await rt.sessions.run(
                lambda session: exchange(
                    session,
                    connection_id=gate.connection_id,
                    report=report,
                    rate=rate,
                    jitter=rt.ids.uniform,
                    moment=self._moment,
                )
            )
        except BaseException as error:
            gate.report = _together(report, gate.report)
            if not isinstance(error, SQLAlchemyError | OSError):
                raise
            gate.looked_at = now
            log.warning("psp_gate_unreachable", error=type(error).__name__)
            return
        gate.learn(answer, now=rt.clock(), rate=rate)
        for name, before, breaker in answer.changed:
            _tell(gate.connection_id, name, before, breaker)

    def _gate(self, connection_id: str) -> _Gate:
        gate = self._gates.get(connection_id)
        if gate is None:
            width = self._host.settings.psp_calls_at_once
            gate = self._gates[connection_id] = _Gate(connection_id, self._process, width)
        return gate

    def _now(self, gate: _Gate) -> float:
        return (self._host.clock() + gate.ahead).timestamp()

    def _stale(self, gate: _Gate) -> bool:
        # Also when the clock was set back.
        return gate.looked_at is None or not 0 <= self._now(gate) - gate.looked_at < _FRESH

    def _full(self, gate: _Gate, operation: str) -> Shut:
        gate.full_until[operation] = self._now(gate) + _FULL
        return self._turned_away(_FULL, "The PSP gets as many calls as it may.")

    def _turned_away(self, seconds: float, reason: str) -> Shut:
        return Shut(min(seconds, _SPREAD) + self._host.ids.uniform(0.0, _SPREAD), reason)

    @staticmethod
    def _free(permit: Permit) -> None:
        permit.gate.in_flight -= 1
        permit.gate.room(permit.operation).release()


def fair_key(connection_id: str, operation: str, merchant_id: str = "") -> str:
    """Return the key that jobs are claimed fairly by, so that a shut gate's jobs can be left."""
    return f"{connection_id}/{operation}/{merchant_id}"


def outcome_of(answer: object) -> tuple[Outcome, str]:
    """Return what an answer says about the PSP itself: a decline is a good answer."""
    if not isinstance(answer, Result):
        return "ok", ""
    why = answer.message or answer.code or answer.cls
    if answer.unauthorized:
        return "refused", why
    # A look-up's own failure is `unknown` to everybody else.
    if "not_sent" in {answer.cls, answer.raw.get("look_up")}:
        return "not_sent", why
    too_many = answer.cls == "busy" and answer.http_status == 429
    return ("failed", why) if answer.cls == "unknown" or too_many else ("ok", "")


def _together(first: Report, later: Report) -> Report:
    seen = dict(first.seen)
    for name, (era, new) in later.seen.items():
        old_era, old = seen.get(name, (era, Seen()))
        seen[name] = (era, old.then(new) if old_era == era else new)
    return Report(
        first.process,
        seen=seen,
        firsts=first.firsts + later.firsts,
        retries=first.retries + later.retries,
        spent=first.spent + later.spent,
        asked=first.asked + later.asked,
    )


def _tell(connection_id: str, operation: str, before: str, breaker: Breaker) -> None:
    facts = {"connection_id": connection_id, "operation": operation, "before": before}
    if breaker.state == "open":
        log.error("psp_breaker_open", reason=breaker.reason, **facts)
    else:
        log.warning("psp_breaker_moved", state=breaker.state, **facts)
