"""How many requests of a process run at one place at once, and when the others come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

WIDTH = 4
_PATIENCE = 0.25  # Seconds: whoever answers within is fast.
_FIRST_GUESS = 0.05
_LONGEST_WAIT = 60.0


class LaneFull(Exception):
    """As many requests as allowed run at this endpoint; come back in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__("as many requests as allowed run at this endpoint")
        self.seconds = seconds


class Lane:
    """The requests at one endpoint, and who was turned away."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(WIDTH)
        self.inside = 0
        self.began: dict[object, float] = {}  # When each request that runs now came in.
        self.turned_away: set[str] = set()
        self.mean = _FIRST_GUESS

    def took(self, seconds: float) -> None:
        """Note how long a request took."""
        self.mean += (seconds - self.mean) / 4

    def expected(self) -> float:
        """Return the seconds that a request takes, as far as one can tell by now."""
        oldest = min(self.began.values(), default=None)
        age = 0.0 if oldest is None else asyncio.get_running_loop().time() - oldest
        return max(self.mean, age)


class Lanes:
    """One lane an endpoint, in this process: a slow shop holds up its own events only.

    At a fast endpoint a request waits for its turn. At a slow one it does not, as it would take a
    place in the runner: it is told when its turn may come, from how long requests there take, so
    that a long backlog does not come back all at once.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}

    @asynccontextmanager
    async def enter(self, key: str, who: str) -> AsyncIterator[Lane]:
        """Take a place for the length of a block. Raises LaneFull."""
        lane = self._lanes.setdefault(key, Lane())
        lane.inside += 1
        try:
            await self._take_place(lane, who)
            lane.turned_away.discard(who)
            place = object()
            lane.began[place] = asyncio.get_running_loop().time()
            try:
                yield lane
            finally:
                del lane.began[place]
                lane.places.release()
        finally:
            lane.inside -= 1
            if lane.inside == 0:
                del self._lanes[key]

    @staticmethod
    async def _take_place(lane: Lane, who: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE if lane.expected() < _PATIENCE else 0):
                await lane.places.acquire()
        except TimeoutError:
            lane.turned_away.add(who)
            turns = 1 + len(lane.turned_away) / WIDTH
            seconds = min(_LONGEST_WAIT, turns * max(lane.expected(), _PATIENCE))
            raise LaneFull(seconds) from None
