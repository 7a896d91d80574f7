"""Leaving alone what fails again and again, as one process sees it.

For a service that is asked on the way and has a fallback. What a PSP's calls need, shared by all
workers and with a ramp, is app/psp/breaker.py.
"""

from collections.abc import Callable

_IN_A_ROW = 5
_FIRST, _LONGEST = 5.0, 60.0  # Seconds.
_DOUBLINGS = 6


class Fuse:
    """Lets everybody through until so many failures came in a row; then one at a time, to see.

    Moments are seconds of a clock that never goes back.
    """

    def __init__(self) -> None:
        self._failed = 0
        self._blown = 0  # Times in a row, which double the wait.
        self._until = 0.0
        self._era = 0

    def enter(self, now: float) -> int | None:
        """Return the era that a call begins in, or None: not now.

        After a wait the first one that asks is the probe.
        """
        if now < self._until:
            return None
        if self._blown:
            self._until = now + _FIRST  # The others wait for its word, and not for ever.
        return self._era

    def worked(self) -> None:
        """Note an answer."""
        self._failed = self._blown = 0
        self._until = 0.0

    def failed(self, era: int, now: float, jitter: Callable[[float, float], float]) -> None:
        """Note that a call of an era had no answer; `jitter` draws from a range of seconds.

        One that was begun before the fuse blew says nothing new.
        """
        if era != self._era:
            return
        self._failed += 1
        if self._failed < _IN_A_ROW:
            return
        self._era += 1
        longest = min(_LONGEST, _FIRST * 2.0**self._blown)
        self._blown = min(self._blown + 1, _DOUBLINGS)
        self._until = now + jitter(longest * 0.8, longest)
