"""Failing one chosen statement, and telling places apart, for sweeps over every place."""

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.home import Broken

if TYPE_CHECKING:
    from tests.simulation.process import Process

Place = tuple[str, ...]


def waits_at(task: "asyncio.Task[Any]", done: Sequence[str]) -> Place:
    """Return where a task waits: its name without ids, the lines that wait for each other.

    `done` is what its transaction has executed so far. The lines do not lead into the entering and
    leaving of a transaction, and one function may commit now this and now that.
    """
    waiting: Any = task.get_coro()
    lines = []
    while waiting is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(waiting, f"{kind}_frame")), "")
        frame = getattr(waiting, f"{kind}_frame", None)
        if frame is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return (_kind(task), *lines, *done)


def executes_at(task: "asyncio.Task[Any]", done: Sequence[str]) -> Place:
    """Return where the running task executes a statement: as above, by the calls that led here."""
    lines = []
    frame = sys._getframe(1)
    while frame.f_back is not None:
        lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return (_kind(task), *lines, *done)


def _kind(task: "asyncio.Task[Any]") -> str:
    return re.sub(r"[ -]\S*\d\S*", "", task.get_name())


class Failing:
    """Counts the statements of one kind of process and fails the one that is asked for."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.left = 0
        self.seen = 0
        self.hit = False
        self.first: dict[Place, int] = {}  # When each place came by first, if none is failed.

    def arm(self, kind: str, nth: int) -> None:
        """Fail the nth statement from now on of processes of a kind; 0 counts only."""
        self.kind, self.left, self.seen, self.hit = kind, nth, 0, False

    def check(self, process: "Process", statement: str) -> None:
        """Raise, if this is the one."""
        if self.kind != process.kind or statement == "ROLLBACK":
            return
        self.seen += 1
        self.left -= 1
        if self.left < 0 and (task := asyncio.current_task()) is not None:
            done = (*process.world.done.get(task, ()), statement)
            self.first.setdefault(executes_at(task, done), self.seen)
        if self.left == 0:
            self.hit = True
            raise Broken
