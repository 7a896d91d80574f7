"""The doorbell of a history, in place of Redis."""

from typing import TYPE_CHECKING, Any

from tests.simulation.process import Process
from tests.simulation.worker import Worker

if TYPE_CHECKING:
    from tests.simulation.world import World


class Bell:
    """The doorbell: wakes the workers, its own process at once; the seed may lose a ring."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process

    def ring(self, queues: Any) -> None:
        for name in sorted(queues):
            if isinstance(self._process, Worker):
                self._process.ring(name)
            elif not self._world.faults.hit("bell.lost", name):
                self._world.later(self._world.latency(), lambda name=name: self._to_one(name))

    def _to_one(self, name: str) -> None:
        """Whichever worker takes the ring from Redis hears it."""
        living = self._world.living("worker")
        if living and isinstance(process := self._world.random.choice(living), Worker):
            process.ring(name)

    async def close(self) -> None:
        """Nothing to close."""
