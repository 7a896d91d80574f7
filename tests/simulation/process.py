"""A simulated process: it can be killed, stopped, frozen, and started again."""

import asyncio
import contextvars
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from app.runtime import Runtime
from tests.simulation.home import Broken, Busy, Down, Link
from tests.simulation.loop import OWNER

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

_SERVERS = 0.2  # Of the errors of a database with a server of its own: that all of it is away.


class Process:
    """Has its own runtime, connections and tasks; others see of it only what it committed."""

    kind = "process"

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self.stopping = False
        self.connections: dict[Link, None] = {}
        self._held: list[asyncio.Handle] = []
        skewed = world.faults.rates.get("clock.skew") is not None
        self.skew = timedelta(seconds=world.random.uniform(-2, 2) if skewed else 0)
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)
        self.rt: Runtime = self._context.run(world.make_runtime, self)
        self.dead: asyncio.Future[None] = world.loop.create_future()

    def hold(self, handle: asyncio.Handle) -> None:
        self._held.append(handle)

    # What happens to it.

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run something in this process."""
        return self.world.loop.create_task(work, context=self._context.copy())

    def crash(self, why: str = "") -> None:
        """Die at once: no task of it takes another step, its connections are cut."""
        if not self.alive:
            return
        self.world.note(self.name, f"dies {why}".strip())
        self.alive = False
        for connection in list(self.connections):
            connection.stop()
        if not self.dead.done():
            self.dead.set_result(None)
        self.world.process_ended(self)

    def freeze(self, seconds: float) -> None:
        """Take no step for a while (SIGSTOP), then go on as if nothing had been."""
        if self.frozen or not self.alive:
            return
        self.world.note(self.name, f"stands still for {seconds:.0f} s")
        self.frozen = True
        self.world.loop.call_later(seconds, self._thaw, context=contextvars.Context())
        limit = self.world.store.idle_limit
        if limit is not None and limit < seconds:
            self.world.loop.call_later(limit, self._idle, context=contextvars.Context())

    def _idle(self) -> None:
        """The server ends transactions in which nothing happens."""
        for link in [one for one in self.connections if one.in_transaction]:
            self.world.note(self.name, "stood still in a transaction, which the server ends")
            link.stop()

    def _thaw(self) -> None:
        if self.alive and self.frozen:
            self.frozen = False
            held, self._held = self._held, []
            self.world.loop.put_back(held)

    def stop_soon(self) -> None:
        """Ask it to end (SIGTERM); what still runs is cut off where it stands."""

    def now(self) -> datetime:
        """Return this process's clock."""
        return self.world.now() + self.skew

    # What its connections ask.

    async def at_statement(self, statement: str) -> bool:
        world, faults = self.world, self.world.faults
        world.failing.check(self, statement)
        if faults.active:
            if faults.hit("process.crash", self.name):
                self.crash(f"at {statement[:60]!r}")
                await world.loop.create_future()
            if faults.hit("process.stop", self.name):
                self.stop_soon()
            if faults.hit("process.freeze", self.name):
                self.freeze(world.random.choice((3.0, 20.0, 60.0)))
            if statement not in {"COMMIT", "ROLLBACK"} and faults.hit("db.locked"):
                raise Busy
            if statement != "ROLLBACK" and faults.hit("db.error"):
                raise self._breaks()
        slow = faults.hit("db.slow")
        await asyncio.sleep(world.random.expovariate(10) if slow else world.latency())
        return statement != "ROLLBACK" and faults.hit("db.answer_lost", statement[:40])

    def _breaks(self) -> Broken:
        world = self.world
        if not world.store.may_restart or world.random.random() > _SERVERS:
            return Broken()
        world.note("world", "the database ends and starts again")
        return Down(world.random.uniform(0.5, 4.0))

    def still_runs(self, statement: str) -> bool:
        return self.world.faults.hit("db.cut_but_done", statement[:40])

    def executed(self, statement: str, parameters: Any) -> None:
        self.world.log_statement(self, statement, parameters)

    def wrote_outside(self, statement: str) -> None:
        self.world.broken("I19", f"a transaction opened to read has written: {statement[:80]}")

    def ended_for(self, owner: str, job_id: str) -> None:
        self.world.broken("F08", f"{self.name} has written about {job_id}, which {owner} runs")

    def micros(self) -> int:
        return self.world.micros()
