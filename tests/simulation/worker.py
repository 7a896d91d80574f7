"""A simulated worker: the real runner with the real jobs, queues and timed work."""

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from app.queue import QUEUES
from tests.simulation.process import Process
from workers import cron
from workers.jobs import JOBS, queues
from workers.runner import Runner

if TYPE_CHECKING:
    from tests.simulation.world import World


_POLL = 1800.0  # The world wakes a worker when there is something to find; see `look_around`.


class Worker(Process):
    """Does what workers.__main__ does, without signals and arq."""

    kind = "worker"

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name)
        self.runner = Runner(
            self.rt,
            kinds=JOBS,
            queues=queues(name),
            owner=name,
            lease=self.rt.settings.lease_seconds,
            poll=_POLL,
        )
        self._stop = asyncio.Event()
        self._timed = {work.__name__: asyncio.Event() for _, work in cron.SCHEDULE}
        self.main = self.start(self._main())
        self.main.add_done_callback(self._main_ended, context=contextvars.Context())

    async def _main(self) -> None:
        world = self.world
        run = asyncio.create_task(self.runner.run(), name="runner")
        timed = asyncio.create_task(self._by_the_clock(), name="cron")
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({run, timed, stop}, return_when=asyncio.FIRST_COMPLETED)
        died = [task for task in (run, timed) if task.done()]
        await self.runner.stop(world.random.choice(world.graces))
        timed.cancel()
        stop.cancel()
        await asyncio.gather(run, timed, return_exceptions=True)
        await self.rt.close()
        for task in died:
            # A supervisor would start another one, and nobody would see that it is needed.
            why = "cut off" if task.cancelled() else repr(task.exception())
            world.broken("worker", f"{self.name} ended by itself: {task.get_name()} {why}")
        self.alive = False
        for connection in list(self.connections):
            connection.stop()
        if not self.dead.done():
            self.dead.set_result(None)
        world.process_ended(self)

    def _main_ended(self, main: asyncio.Task[None]) -> None:
        """Tell when it failed; who was killed never gets here, and who was stopped ends well."""
        if main.cancelled() or main.exception() is not None:
            why = "cut off" if main.cancelled() else repr(main.exception())
            self.world.broken("worker", f"{self.name} broke while it ended: {why}")
            self.crash("by its own fault")

    async def _by_the_clock(self) -> None:
        async with asyncio.TaskGroup() as group:
            for seconds, work in cron.SCHEDULE:
                group.create_task(self._repeat(seconds, work), name=f"cron {work.__name__}")

    async def _repeat(self, seconds: float, work: Any) -> None:
        """Do as workers.cron does, without the times at which nothing is due."""
        due = self._timed[work.__name__]
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, _POLL)):
                    await due.wait()
            due.clear()
            try:
                await work(self.rt)
            except (SQLAlchemyError, OSError) as error:
                self.world.note(self.name, f"{work.__name__} failed: {error}"[:100])

    def time_for(self, **due: bool) -> None:
        """Hear by name which timed work would find something."""
        for name, is_due in due.items():
            if is_due and self.alive:
                self.world.loop.call_soon(self._timed[name].set, context=self._context)

    def has_seen_the_psp(self) -> bool:
        """Tell whether keeping the gates would have something to report or to learn."""
        gates = self.rt.gates._gates.values()
        return any(
            gate.in_flight
            or gate.report.seen
            or any(b.state in {"half_open", "ramp"} for b in gate.breakers.values())
            for gate in gates
        )

    def stop_soon(self) -> None:
        if self.alive and not self.stopping:
            self.stopping = True
            self.world.note(self.name, "is asked to end")
            self._stop.set()

    def ring(self, name: str) -> None:
        """Hear the doorbell."""
        if self.alive and name in QUEUES:
            self.world.loop.call_soon(self.runner.ring, name, context=self._context)
