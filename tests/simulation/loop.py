"""An event loop with virtual time: nothing waits, nothing runs in a thread, order is the seed's.

Callbacks run in the order in which they were scheduled, as asyncio promises; what differs between
seeds is how long each statement, message and answer takes.
"""

import asyncio
import contextvars
import gc
import heapq
import sys
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Owner(Protocol):
    """A simulated process: its callbacks run while it is alive and not stopped."""

    alive: bool
    frozen: bool

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep a callback that may not run now (or ever)."""


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("owner", default=None)


class Deadlock(RuntimeError):
    """Nothing is left that could ever happen, and somebody still waits."""


@contextmanager
def unheard() -> Iterator[None]:
    """Say nothing of what ends: half of it wants to close its connection first and cannot."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _ignored: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook


class Loop(asyncio.AbstractEventLoop):
    """Runs callbacks one after the other; when none is ready, time jumps to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        self._count = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._running = False
        self.steps = 0
        # Is told of each callback before it runs; True: not yet.
        self.watch: Callable[[Owner, asyncio.Handle], bool] | None = None
        self.errors: list[str] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}  # A dict keeps the order.

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass at once, as for a machine that slept: what came due fires late."""
        self._now += max(0.0, seconds)

    def call_soon(  # type: ignore[override] # typeshed counts types of *args.
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override] # typeshed counts types of *args.
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override] # typeshed counts types of *args.
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def next_timer(self, wanted: Callable[[Owner | None], bool]) -> float | None:
        """Return when the next timer of some owner fires."""
        return min(
            (
                when
                for when, _, handle in self._timers
                if not handle.cancelled() and wanted(_owner(handle))
            ),
            default=None,
        )

    def put_back(self, handles: list[asyncio.Handle]) -> None:
        """Run callbacks that a stopped process held back."""
        self._ready.extend(handles)

    def run_until_complete(self, future: Any) -> Any:
        main = future if asyncio.isfuture(future) else self.create_task(future)
        asyncio._set_running_loop(self)
        self._running = True
        try:
            while not main.done():
                self._step()
            return main.result()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        timers = self._timers
        if not self._ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Deadlock("nothing is left to happen")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                self._ready.append(handle)
        for _ in range(len(self._ready)):
            self._run(self._ready.popleft())

    def _run(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        owner = _owner(handle)
        if owner is not None and (owner.frozen or not owner.alive):
            owner.hold(handle)
            return
        self.steps += 1
        if owner is not None and self.watch is not None:
            if self.watch(owner, handle):
                self._ready.append(handle)
                return
            if not owner.alive:
                owner.hold(handle)
                return
        handle._run()

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> "asyncio.Task[T]":
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks[task] = None
        task.add_done_callback(self._ended, context=contextvars.Context())
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.pop(task, None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count: a cancelled timer is dropped when its time has come."""

    def bury(self) -> None:
        """End every coroutine that is left, now, and not whenever Python collects it."""
        asyncio._set_running_loop(self)
        try:
            with unheard():
                self._bury()
        finally:
            asyncio._set_running_loop(None)

    def _bury(self) -> None:
        for task in list(self.tasks):
            task._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio's own switch.
            coroutine = task.get_coro()
            try:
                if coroutine is not None:
                    coroutine.close()
            except BaseException as error:  # noqa: BLE001 - what it says no longer matters.
                self.errors.append(f"left over: {error!r}")
        self.tasks.clear()
        self._ready.clear()
        self._timers.clear()
        gc.collect()


def _owner(handle: asyncio.Handle) -> Owner | None:
    found: Owner | None = handle._context.get(OWNER)  # type: ignore[attr-defined] # Each has one.
    return found
