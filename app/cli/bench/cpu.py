"""Processor time by process, from the kernel's own books; children are part of their parents."""

import os
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def seconds(roots: Mapping[str, int]) -> dict[str, float]:
    """Return the processor seconds that each process and its children have used so far.

    What children used that have ended already is counted too. A process that is gone, or a
    system without /proc, is left out.
    """
    used: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue  # It ended just now.
        # The name may hold blanks and brackets; what follows the last bracket is plain.
        fields = text.rpartition(")")[2].split()
        pid = int(path.parent.name)
        used[pid] = sum(map(int, fields[11:15])) / _TICKS
        children.setdefault(int(fields[1]), []).append(pid)
    own = os.getpid()

    def whole(pid: int) -> float:
        if pid == own:
            return sum(os.times()[:2])
        return used.get(pid, 0.0) + sum(whole(child) for child in children.get(pid, ()))

    return {name: whole(pid) for name, pid in roots.items() if pid in used}


class Meter:
    """Measures stretches of time, and adds them up."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = roots
        self._began: dict[str, float] = {}
        self.used: dict[str, float] = {}

    def start(self) -> None:
        """Begin a stretch."""
        self._began = seconds(self._roots)

    def stop(self) -> None:
        """End a stretch."""
        for name, now in seconds(self._roots).items():
            self.used[name] = self.used.get(name, 0.0) + now - self._began.get(name, now)

    def milliseconds_each(self, count: int) -> dict[str, float]:
        """Return milliseconds for each of `count` things done, by process."""
        return {name: round(1000 * used / max(1, count), 3) for name, used in self.used.items()}
