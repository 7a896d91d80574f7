"""An hour without the PSP, with many payments waiting, through real rows.

`python -m tests.simulation.outage --payments 10000` plays it. Some payments are charged just before
the hour, without an answer and without an event: their outcome is unknown when the PSP is back.
"""

import argparse
import asyncio
import time
from bisect import bisect_left
from typing import Any

import msgspec

from tests.simulation import checker, record
from tests.simulation.__main__ import _say
from tests.simulation.history import History
from tests.simulation.many import program, quiet
from tests.simulation.shops import Shop

HOUR = 3600.0
MODES = ("refuses", "hangs", "errors")
ABOVE = 1.2  # Of the limit: what no second may see more of.
SOON = 60.0  # Seconds after the PSP's return within which 99 in 100 unknown outcomes are known.
_UNKNOWN = "SELECT id FROM attempts WHERE state IN ('sent', 'unknown')"
_OPEN = "SELECT COUNT(*) FROM payments WHERE status = 'processing'"


class Seen(msgspec.Struct, kw_only=True):
    """What an outage was measured to do. Times in virtual seconds after the PSP's return."""

    payments: int
    asked_meanwhile: int  # Requests that the PSP got while it was away.
    peak: int  # Requests in the busiest second afterwards.
    limit: float
    final_after: float
    unknown: int
    known_after: list[float]
    violations: list[str]

    @property
    def soon(self) -> float:
        """Return the share of unknown outcomes that were known soon."""
        known = sum(seconds <= SOON for seconds in self.known_after)
        return known / self.unknown if self.unknown else 1.0


class Outage(History):
    """Plays one outage."""

    most_statements = 10**9

    def __init__(
        self, seed: int, *, payments: int, unknown: int, mode: str, seconds: float = HOUR
    ) -> None:
        super().__init__(seed, payments=payments, risks=False)
        self._before, self._mode, self._seconds = unknown, mode, seconds
        self.world.faults.rates = {}
        self.world.apis = 2
        self._back = 0.0
        self.known: dict[str, float] = {}
        self.unknown: set[str] = set()
        self._final_at = 0.0

    def measure(self) -> Seen:
        """Play it to its end and tell what was seen."""
        world = self.world
        self.carry_through()
        at = [line.at.timestamp() for line in world.book.log]
        back = self._back
        meanwhile = [moment for moment in at if back - self._seconds <= moment < back]
        later = sorted(moment for moment in at if moment >= back)
        return Seen(
            payments=sum(len(set(shop.payments)) for shop in world.shops),
            asked_meanwhile=len(meanwhile),
            peak=max((_within_a_second(later, n) for n in range(len(later))), default=0),
            limit=world.settings.psp_rate_per_second,
            final_after=self._final_at - back,
            unknown=len(self.unknown),
            known_after=sorted(self.known.values()),
            violations=world.violations,
        )

    async def _play(self) -> None:
        world = self.world
        await self._furnish()
        world.start()
        await asyncio.sleep(5)
        warp = world.watching(self._warp())
        await self._lose_answers()
        self._back = world.now().timestamp() + self._seconds
        world.note("psp", f"is away: {self._mode}")
        # They come all the time, the last ones in its last minute.
        waits = sorted(self.random.uniform(0, self._seconds) for _ in range(self._payments))
        await asyncio.gather(
            *(world.outside(self._sell(number, wait)) for number, wait in enumerate(waits)),
            asyncio.sleep(self._seconds),
        )
        self.unknown = {row[0] for row in world.rows(_UNKNOWN)}
        world.book.away = None
        world.note("psp", "is back")
        await world.outside(self._watch())  # Of the world: no time is skipped meanwhile.
        await world.watching(self._settle())
        warp.cancel()
        await checker.check(self)

    async def _lose_answers(self) -> None:
        """Charge customers without telling us so."""
        world = self.world
        world.faults.rates.update({"psp.lost_after": 1.0, "event.lost": 1.0})
        world.faults.active = True
        spread = self._before / world.settings.psp_rate_per_second
        waits = [self.random.uniform(0, spread) for _ in range(self._before)]
        await asyncio.gather(
            *(world.outside(self._sell(-1 - n, wait)) for n, wait in enumerate(waits))
        )
        await asyncio.sleep(1)
        world.book.away = self._mode  # Before a first look-up would find them.
        await asyncio.sleep(1)
        world.faults.active = False
        world.faults.rates.clear()

    async def _sell(self, number: int, wait: float) -> None:
        await asyncio.sleep(wait)
        shop: Shop = self.world.shops[number % len(self.world.shops)]
        key = f"outage-{number}"
        sent: dict[str, Any] = {
            "amount": 1000 + number % 977 + 977,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "description": shop.canary,
            "metadata": {"key": key},
        }
        answer = await shop.ask("/v1/payments", sent, key)
        if answer is None or answer.status != 201:
            self.world.broken("I7", f"not accepted during the outage: {answer and answer.status}")
            return
        shop.payments.append(answer.body["id"])

    async def _watch(self) -> None:
        """Look once a second at what is known and what is final."""
        world, left = self.world, set(self.unknown)
        ends = world.loop.time() + 2 * HOUR
        while world.loop.time() < ends:
            still = {row[0] for row in world.rows(_UNKNOWN)}
            now = world.now().timestamp()
            for name in left - still:
                self.known[name] = now - self._back
            left &= still
            if not world.rows(_OPEN)[0][0]:
                self._final_at = now
                return
            await asyncio.sleep(1)


def _within_a_second(moments: list[float], first: int) -> int:
    return bisect_left(moments, moments[first] + 1.0) - first


def told(seen: Seen) -> tuple[list[str], list[str]]:
    """Return what was measured, in lines, and which limits do not hold."""
    known = seen.known_after or [0.0]
    lines = [
        f"{seen.payments} payments, all final {seen.final_after:.0f} s after the PSP's return",
        f"{seen.asked_meanwhile} requests while it was away",
        f"{seen.peak} requests in the busiest second afterwards; the limit is {seen.limit:.0f}",
        f"{seen.unknown} unknown outcomes: {seen.soon:.2%} known within {SOON:.0f} s",
        f"half of them after {known[len(known) // 2]:.0f} s, the last after {known[-1]:.0f} s",
    ]
    bad = list(seen.violations)
    if seen.peak > seen.limit * ABOVE:
        bad.append(f"{seen.peak} requests in one second: more than {seen.limit * ABOVE:.0f}")
    if seen.soon < 0.99:
        bad.append(f"only {seen.soon:.2%} of the unknown outcomes were known within {SOON:.0f} s")
    if seen.final_after <= 0:
        bad.append("not every payment was final within two hours")
    return lines, bad


def main(arguments: list[str]) -> int:
    """Play outages; 1 when a limit or an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.outage", description=__doc__)
    parser.add_argument("--payments", type=int, default=10_000)
    parser.add_argument("--unknown", type=int, default=500)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="add a row to RECORD.md for each")
    wanted = parser.parse_args(arguments)
    quiet()
    failed, modes = 0, wanted.modes.split(",")
    for mode in modes:
        began = time.monotonic()
        one = Outage(wanted.seed, payments=wanted.payments, unknown=wanted.unknown, mode=mode)
        seen = one.measure()
        lines, bad = told(seen)
        _say(f"{mode}:")
        for line in lines + [f"NOT HELD: {why}" for why in bad[:10]]:
            _say(f"  {line}")
        _say(f"  {one.world.statements} statements in {time.monotonic() - began:.0f} s")
        failed += bool(bad)
        if wanted.record:
            last = f"{seen.known_after[-1] if seen.known_after else 0:.0f} s"
            cells = (mode, seen.payments, f"{seen.final_after:.0f} s", seen.peak, seen.unknown)
            record.add("## Outages", *cells, f"{seen.soon:.2%}", last, len(bad))
    _say(f"{len(modes) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(program("tests.simulation.outage", main))
