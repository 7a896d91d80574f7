"""Random bytes, fetched from the system a page at a time."""

import os
import threading
from collections.abc import Callable

_PAGE = 4096
_KEY = 32
_fork = 0


def _forked() -> None:
    # The hook knows no instance, and asking for the process's number each time would be a system
    # call, which is what a page of bytes saves.
    global _fork  # noqa: PLW0603 - see above.
    _fork += 1


os.register_at_fork(after_in_child=_forked)


class Entropy(threading.local):
    """A source of random bytes for ids, jitter and nonces, each thread with a page of its own.

    `system` is where they come from; a call of it costs more than making an id of what it brings.
    What is as long as a key comes straight from there. No byte is handed out twice: a forked child
    forgets what it inherits.
    """

    def __init__(self, system: Callable[[int], bytes]) -> None:
        self._system = system
        self._page = b""
        self._at = 0
        self._of = _fork

    def __call__(self, size: int) -> bytes:
        """Return `size` random bytes."""
        if size >= _KEY:
            return self._system(size)
        begin = self._at
        if begin + size > len(self._page) or self._of != _fork:
            self._page, self._of, begin = self._system(_PAGE), _fork, 0
        self._at = begin + size
        return self._page[begin : begin + size]
