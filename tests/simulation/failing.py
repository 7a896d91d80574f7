"""Failing one chosen statement, for sweeps over every place."""

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Failing:
    """Counts the statements of one kind of process and fails the one that is asked for."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.left = 0
        self.seen = 0
        self.hit = False

    def arm(self, kind: str, nth: int) -> None:
        """Fail the nth statement from now on of processes of a kind; 0 counts only."""
        self.kind, self.left, self.seen, self.hit = kind, nth, 0, False

    def check(self, process: "Process", statement: str) -> None:
        """Raise, if this is the one."""
        if self.kind != process.kind or statement == "ROLLBACK":
            return
        self.seen += 1
        self.left -= 1
        if self.left == 0:
            self.hit = True
            raise sqlite3.OperationalError("disk I/O error")
