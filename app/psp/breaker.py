"""When calls of one kind to a PSP stop, and how they come back; pure: values in, values out.

closed -> open (it fails) -> half_open (one probe) -> ramp (1, 2, 4, … calls a second) -> closed.
Moments are seconds since 1970 by the database's clock.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

State = Literal["closed", "open", "half_open", "ramp"]
Outcome = Literal["ok", "failed", "not_sent", "refused"]
Jitter = Callable[[float, float], float]

WINDOW = 10  # Seconds in which failures are counted together.
FEWEST = 20  # Calls in the window before a share of them says anything.
FEWEST_IN_RAMP = 3  # The probe and two more: a PSP that is only half back is left alone again.
IN_A_ROW = 5
FIRST = 5.0
LONGEST = 60.0
LONGEST_LOOKUP = 15.0  # A look-up asks for little, and what is unknown waits for it.
PROBE = 30.0  # Longer than any deadline: a probe without a word by then died with its worker.


class Seen(msgspec.Struct):
    """What one process saw since it last wrote its observations down."""

    calls: int = 0
    failures: int = 0
    tail: int = 0  # Calls at the end that never left us.
    unbroken: bool = True  # Nothing else was seen before that tail.
    refused: bool = False  # 401 or 403.
    why: str = ""

    def add(self, outcome: Outcome, why: str = "") -> None:
        """Count one call."""
        self.calls += 1
        if outcome == "not_sent":
            self.tail += 1
        else:
            self.tail, self.unbroken = 0, False
        if outcome != "ok":
            self.failures += 1
            self.why = why
        self.refused = self.refused or outcome == "refused"

    def then(self, later: "Seen") -> "Seen":
        """Return this and what was seen after it as one."""
        return Seen(
            calls=self.calls + later.calls,
            failures=self.failures + later.failures,
            tail=self.tail + later.tail if later.unbroken else later.tail,
            unbroken=self.unbroken and later.unbroken,
            refused=self.refused or later.refused,
            why=later.why or self.why,
        )


class Breaker(msgspec.Struct):
    """The shared state of one operation at one PSP connection."""

    state: State = "closed"
    since: float = 0.0
    reason: str = ""
    until: float = 0.0  # open: the next probe; half_open: when the probe counts as lost.
    opened: int = 0  # Times in a row, which double the wait.
    era: int = 0  # Calls of an earlier era say nothing about this one.
    in_a_row: int = 0
    next_at: float = 0.0  # Of the ramp: when its next call may begin.
    longest: float = LONGEST  # Seconds that it stays open, at most.
    back_at: float = 0.0  # When a probe was answered last.
    window: list[tuple[int, int, int]] = []  # (second, calls, failures), oldest first.

    def wait(self, now: float) -> float:
        """Return for how many seconds no call may be made; 0 when one may."""
        return max(0.0, self.until - now) if self.state in {"open", "half_open"} else 0.0

    def probe(self, now: float) -> bool:
        """Take the one probe, if it is due; tell whether the caller got it."""
        if self.state not in {"open", "half_open"} or self.until > now:
            return False
        self._enter("half_open", now)
        self.until = now + PROBE
        self.era += 1
        return True

    def try_now(self, now: float) -> None:
        """Let the next probe go out at once: there is a sign that it would be answered."""
        if self.state == "open":
            self.until = min(self.until, now)

    def rate(self, now: float, full: float) -> float:
        """Return the calls a second that are allowed now, where `full` is the usual limit."""
        if self.state != "ramp":
            return full
        return min(full, 2.0 ** min(32, int(max(0.0, now - self.since))))

    def settle(self, now: float, full: float) -> None:
        """End the ramp when it has reached the usual limit."""
        if self.state == "ramp" and self.rate(now, full) >= full:
            self._enter("closed", now)
            self.opened, self.reason = 0, ""

    def take_in(self, seen: Seen, now: float, *, era: int, jitter: Jitter) -> None:
        """Count what a process saw in an era, and open or go on by it."""
        if era != self.era or not seen.calls or self.state == "open":
            return  # Begun before it opened: late, and known already.
        self.in_a_row = self.in_a_row + seen.tail if seen.unbroken else seen.tail
        self._count(seen, now)
        if seen.refused:
            self.opened = 6  # Only a person can mend a credential: the longest wait at once.
            self._open(f"It refuses our credential: {seen.why}", now, jitter)
        elif self.state == "half_open" and seen.failures:
            self._open(f"The probe failed: {seen.why}", now, jitter)
        elif self.state == "half_open":
            self._enter("ramp", now)
            self.until, self.back_at = 0.0, now
        elif self.in_a_row >= IN_A_ROW:
            self._open(f"{self.in_a_row} calls in a row never left us: {seen.why}", now, jitter)
        elif self._failing():
            calls, failures = self._sums()
            self._open(f"{failures} of {calls} calls failed: {seen.why}", now, jitter)

    def _count(self, seen: Seen, now: float) -> None:
        second = int(now)
        kept = [part for part in self.window if part[0] > second - WINDOW]
        if kept and kept[-1][0] >= second:
            last = kept.pop()
            second, calls, failures = last[0], last[1], last[2]
        else:
            calls = failures = 0
        self.window = [*kept, (second, calls + seen.calls, failures + seen.failures)]

    def _sums(self) -> tuple[int, int]:
        return sum(part[1] for part in self.window), sum(part[2] for part in self.window)

    def _failing(self) -> bool:
        calls, failures = self._sums()
        fewest = FEWEST_IN_RAMP if self.state == "ramp" else FEWEST
        return calls >= fewest and failures * 2 >= calls

    def _open(self, reason: str, now: float, jitter: Jitter) -> None:
        self._enter("open", now)
        longest = min(self.longest, FIRST * 2.0**self.opened)
        self.opened = min(self.opened + 1, 6)
        self.until = now + jitter(longest * 0.8, longest)
        self.era += 1
        self.reason = reason[:300]

    def _enter(self, state: State, now: float) -> None:
        self.state, self.since = state, now
        self.window, self.in_a_row = [], 0
