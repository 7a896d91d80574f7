"""Failing one chosen statement, and telling places apart, for sweeps over every place."""

import asyncio
import re
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.process import Process

Place = tuple[str, ...]


def place(task: "asyncio.Task[Any]", *more: str) -> Place:
    """Return where a task stands: its name without ids, and the lines that wait for each other."""
    waiting: Any = task.get_coro()
    lines = []
    while waiting is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(waiting, f"{kind}_frame")), "")
        frame = getattr(waiting, f"{kind}_frame", None)
        if frame is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return (re.sub(r"[ -]\S*\d\S*", "", task.get_name()), *lines, *more)


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
            self.first.setdefault(place(task, statement), self.seen)
        if self.left == 0:
            self.hit = True
            raise sqlite3.OperationalError("disk I/O error")
