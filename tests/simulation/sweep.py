"""Every await of every flow: cut off, failed and killed once, each in a small history of its own.

An await is a place in the code: a kind of task, the lines that wait for each other, and what its
transaction has executed so far. `--again` cuts it each time that a flow comes
by, not only the first time; `--every N` takes each Nth point. A worker's main task is cut off by
nothing but a kill: told to end, it ends by itself.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import product
from typing import Any

from tests.simulation import checker
from tests.simulation.__main__ import _say, tell_story
from tests.simulation.failing import Place, waits_at
from tests.simulation.history import History
from tests.simulation.loop import Owner
from tests.simulation.many import STORES, pool, program, quiet
from tests.simulation.process import Process
from tests.simulation.shops import Shop

KINDS = ("crash", "cancel", "fail")
_MOST = 3000
_PATIENCE = 200  # Steps of others.
_HELPERS = ("queue ", "leases", "finisher", "cron ")  # Tasks that a worker cuts off in the end.


class Cut(History):
    """Plays one flow and cuts it at its nth point: a step of a task, or a statement to fail."""

    def __init__(
        self, flow: str, kind: str, where: str, nth: int, *, database: str = "sqlite"
    ) -> None:
        super().__init__(0, make_store=STORES[database], risks=False)
        self.flow, self.kind, self.where, self.nth = flow, kind, where, nth
        self.world.faults.rates = {}
        self.world.workers = 1
        self.points = 0
        self.first: dict[Place, int] = {}  # When the flow came to each place; found with nth 0.
        self.was_cut = False
        self.world.graces = (0.0,)  # Or most of what is cut would be done before that.
        self.cut_there = False  # At that very await, as against soon afterwards or not at all.
        self._held: asyncio.Handle | None = None
        self._patience = _PATIENCE

    def arm(self) -> None:
        """Begin to count, from here on."""
        if self.kind == "fail":
            self.world.failing.arm(self.where, self.nth)
        else:
            self.world.loop.watch = self._step

    def _step(self, owner: Owner, handle: asyncio.Handle) -> bool:
        """Cut at the nth step; tell whether a step is to wait."""
        task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined] # Its own.
        if not isinstance(task, asyncio.Task) or not isinstance(owner, Process):
            return False
        if self.was_cut:
            return handle is self._held and self._waits(task)
        if owner.kind != self.where:
            return False
        self.points += 1
        if self.nth == 0:
            place = waits_at(task, self.world.done.get(task, ()))
            self.first.setdefault(place, self.points)
        if self.points != self.nth:
            return False
        self.was_cut = True
        self.world.note("sweep", f"{self.kind} at step {self.nth}: {task.get_name()}")
        if self.kind == "crash":
            owner.crash("by the sweep")
        elif owner.kind == "api":
            task.cancel()
        else:
            # The step waits until the worker, which was told to end, has come to cut it off: else
            # the cut would fall on some later await.
            owner.stop_soon()
            self._held = handle
            return True
        return False

    def _waits(self, task: asyncio.Task[Any]) -> bool:
        self._patience -= 1
        if self._patience == 0 and task.get_name().startswith(_HELPERS):
            task.cancel()  # While what is claimed is handed back, which takes its time.
        self.cut_there = self.cut_there or bool(task.cancelling())
        return not self.cut_there and self._patience > 0

    async def _play(self) -> None:
        world = self.world
        await self._furnish()
        world.start()
        await asyncio.sleep(5)
        warp = world.watching(self._warp())
        await world.outside(FLOWS[self.flow](self, world.shops[0]))
        await world.watching(self._settle())
        warp.cancel()
        if self.kind == "fail":
            self.points, self.was_cut = world.failing.seen, world.failing.hit
            self.first = world.failing.first
        await checker.check(self)

    def run(self) -> list[str]:
        """Play it; return what does not hold."""
        self.carry_through()
        return self.world.violations

    async def until(self, shop: Shop, payment_id: str, *states: str) -> str:
        """Read a payment until it is in one of some states."""
        state = ""
        for _ in range(200):
            answer = await shop.read(f"/v1/payments/{payment_id}")
            state = answer.body["status"] if answer is not None and answer.status == 200 else state
            if state in states:
                break
            await asyncio.sleep(1)
        return state


async def _sale(cut: Cut, shop: Shop, *, manual: bool = False) -> str:
    sent: dict[str, Any] = {
        "amount": 10_000,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "capture_method": "manual" if manual else "automatic",
        "metadata": {"key": "sweep-create"},
    }
    answer = await shop.ask("/v1/payments", sent, "sweep-create")
    if answer is None or answer.status != 201:
        raise RuntimeError("the payment was not accepted")
    shop.payments.append(answer.body["id"])
    return str(answer.body["id"])


async def _come_true(seen: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if seen():
            return
        await asyncio.sleep(0.001)
    raise RuntimeError("it never came true")


async def charge(cut: Cut, shop: Shop) -> None:
    """Accept and charge; the PSP's event comes in, messages go out."""
    cut.arm()
    await cut.until(shop, await _sale(cut, shop), "succeeded")


async def capture(cut: Cut, shop: Shop) -> None:
    """Capture what is held."""
    payment_id = await _sale(cut, shop, manual=True)
    await cut.until(shop, payment_id, "requires_capture")
    await asyncio.sleep(10)
    cut.arm()
    await shop.ask(f"/v1/payments/{payment_id}/capture", {}, "sweep-capture")
    await cut.until(shop, payment_id, "succeeded")


async def refund(cut: Cut, shop: Shop) -> None:
    """Refund a part."""
    payment_id = await _sale(cut, shop)
    await cut.until(shop, payment_id, "succeeded")
    await asyncio.sleep(10)
    cut.arm()
    sent = {"payment": payment_id, "amount": 4000, "metadata": {"key": "sweep-refund"}}
    await shop.ask("/v1/refunds", sent, "sweep-refund")


async def janitor(cut: Cut, shop: Shop) -> None:
    """Find out about a charge whose answer was lost, with no event to help."""
    rates = cut.world.faults.rates
    rates |= {"psp.lost_after": 1.0, "event.lost": 1.0}
    cut.world.faults.active = True
    payment_id = await _sale(cut, shop)
    await asyncio.sleep(2)
    rates.clear()
    cut.arm()
    await cut.until(shop, payment_id, "succeeded")


async def close(cut: Cut, shop: Shop) -> None:
    """Cancel a charge whose second step was lost: what the first one made is closed."""
    book, faults = cut.world.book, cut.world.faults
    payment_id = await _sale(cut, shop)
    await _come_true(lambda: bool(book.intents))
    faults.rates["psp.lost_before"] = 1.0
    faults.active = True
    await _come_true(lambda: any(one.step == "confirm" and one.answered for one in book.log))
    faults.rates.clear()
    cut.arm()
    await shop.ask(f"/v1/payments/{payment_id}/cancel", {}, "sweep-cancel")
    await cut.until(shop, payment_id, "canceled", "succeeded")
    # Where the cancel was cut, the janitor may have been faster and sent the charge again.
    if cut.nth == 0 and not any(line.step == "close" for line in book.log):
        raise RuntimeError("nothing was closed")


async def letter(cut: Cut, shop: Shop) -> None:
    """Retry a dead letter."""
    cut.world.faults.rates["psp.rejected"] = 1.0
    cut.world.faults.active = True
    payment_id = await _sale(cut, shop)
    await asyncio.sleep(5)
    cut.world.faults.rates.clear()
    cut.arm()
    await cut.letters.work()
    await cut.until(shop, payment_id, "succeeded")


FLOWS: dict[str, Callable[[Cut, Shop], Coroutine[Any, Any, None]]] = {
    made.__name__: made for made in (charge, capture, refund, janitor, close, letter)
}


def places(flow: str, kind: str, where: str, *, database: str = "sqlite") -> list[int]:
    """Return when a flow first comes to each await; nothing is cut. Raises RuntimeError."""
    whole = Cut(flow, kind, where, 0, database=database)
    if violations := whole.run():
        raise RuntimeError(f"{flow} does not hold by itself: {violations}")
    return sorted(whole.first.values())


def sweep(
    flow: str,
    kind: str,
    where: str,
    *,
    every: int = 1,
    again: bool = False,
    database: str = "sqlite",
) -> tuple[int, list[str]]:
    """Cut a flow at each await in a kind of process; return how many, and what does not hold."""
    bad: list[str] = []
    found = range(1, _MOST) if again else places(flow, kind, where, database=database)
    points = found[::every]
    for count, nth in enumerate(points):
        one = Cut(flow, kind, where, nth, database=database)
        bad += [f"{flow} {kind} {where} {nth}: {violation}" for violation in one.run()]
        if not one.was_cut and again:
            return count, bad
        if not one.was_cut:
            bad.append(f"{flow} {kind} {where} {nth}: it never came there")
    if again:
        raise RuntimeError(f"{flow} never came to its end")
    return len(points), bad


def _sweep(part: tuple[str, str, str], **how: Any) -> tuple[int, list[str]]:
    return sweep(*part, **how)


def _alone(point: str, database: str) -> int:
    """Cut at one point and tell everything that happened; 1 when an invariant does not hold."""
    flow, kind, where, nth = point.split(":")
    one = Cut(flow, kind, where, int(nth), database=database)
    violations = one.run()
    if not one.was_cut:
        violations.append(f"{point}: it never came there")
    tell_story(one.world.story)
    for violation in violations:
        _say(violation)
    return 1 if violations else 0


def main(arguments: list[str]) -> int:
    """Sweep; 1 when an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.sweep", description=__doc__)
    parser.add_argument("--flows", default=",".join(FLOWS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="each time, not only the first")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--database", choices=sorted(STORES), default="sqlite")
    parser.add_argument("--point", metavar="FLOW:KIND:WHERE:N", help="one alone, with its story")
    wanted = parser.parse_args(arguments)
    quiet()
    if wanted.point is not None:
        return _alone(wanted.point, wanted.database)
    began, points, failed = time.monotonic(), 0, 0
    parts = list(product(wanted.flows.split(","), wanted.kinds.split(","), ("api", "worker")))
    how = {"every": wanted.every, "again": wanted.again, "database": wanted.database}
    with pool(wanted.jobs, wanted.database) as processes:
        swept = processes.map(partial(_sweep, **how), parts)
        for (flow, kind, where), (count, bad) in zip(parts, swept, strict=True):
            points += count
            failed += len({line.partition(": ")[0] for line in bad})
            _say(f"  {flow:<8} {kind:<7} {where:<7} {count:>5} points, {len(bad)} violations")
            for line in bad[:5]:
                point, _, violation = line.partition(": ")
                again = f"--point {point.replace(' ', ':')} --database {wanted.database}"
                _say(f"    {violation}")
                _say(f"      replay: .venv/bin/python -m tests.simulation.sweep {again}")
    _say(f"{points} points in {time.monotonic() - began:.0f} s")
    _say(f"{points - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(program("tests.simulation.sweep", main))
