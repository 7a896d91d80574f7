"""How fast a PSP may be called, and how much of that may be repetition; pure.

Moments are seconds since 1970 by the database's clock.
"""

import msgspec

RETRY_SHARE = 0.1  # Of first tries.
RETRY_FLOOR = 2.0  # Retries a second in any case, so that a quiet system still retries.
RETRY_MOST = 100.0  # What can be saved up.


class Pace(msgspec.Struct):
    """Starting times, handed out one after the other: never two closer than the rate allows."""

    next_at: float = 0.0

    def reserve(self, now: float, *, rate: float, want: int, within: float) -> list[float]:
        """Return up to `want` starting times of calls, none later than `within` seconds."""
        start = max(self.next_at, now)
        room = int((now + within - start) * rate + 1e-6) + 1 if start <= now + within else 0
        count = max(0, min(want, room))
        self.next_at = start + count / rate
        return [start + index / rate for index in range(count)]

    def reserve_slowly(
        self, own: "Pace", now: float, *, rate: float, slow: float, want: int, within: float
    ) -> list[float]:
        """Return starting times for one operation that gets only `slow` calls a second.

        They are taken from this pace, which all operations share, and from the operation's own.
        """
        times: list[float] = []
        while len(times) < want and (start := max(own.next_at, self.next_at, now)) <= now + within:
            times.append(start)
            own.next_at, self.next_at = start + 1 / slow, start + 1 / rate
        return times

    def spent(self, since: float, *, rate: float, count: int) -> None:
        """Note `count` calls that were made after `since` without asking first."""
        if count:
            self.next_at = max(self.next_at, since) + count / rate


class Budget(msgspec.Struct):
    """A bucket of retries that first tries fill: an outage cannot multiply the load."""

    tokens: float = RETRY_MOST
    at: float = 0.0

    def move(self, now: float, *, firsts: int, retries: int) -> None:
        """Fill it by the time and the first tries since it was last moved; take the retries."""
        passed = max(0.0, now - self.at) if self.at else 0.0
        earned = passed * RETRY_FLOOR + firsts * RETRY_SHARE
        # Each process goes by what it knows, so several may overdraw it before one of them reads it
        # again; what is owed is paid back first.
        self.tokens = min(RETRY_MOST, self.tokens + earned) - retries
        self.at = now
