"""Named places where a test or a drill may kill, stop or delay the process; inert otherwise."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

# In the order in which money passes them.
WEB_PLACES = (
    "api.before_commit",
    "api.after_commit",
    "inbox.before_store",
    "inbox.after_store",
)
WORKER_PLACES = (
    "jobs.after_claim",
    "psp.before_send",
    "psp.after_answer",
    "payments.before_commit",
    "payments.after_finish",
    "ledger.before_commit",
    "ledger.after_commit",
    "webhooks.before_send",
    "webhooks.after_answer",
    "jobs.before_finish",
)
PLACES = frozenset(WEB_PLACES + WORKER_PLACES)
_ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}
_BLOCK_SECONDS = 10


class Failpoints:
    """What happens at which hit of a place: `psp.after_answer:kill:1` (`place:action:nth`).

    Settings allow them on a loopback address only. One happens once in the life of a data folder
    (a file in `marks` remembers it), so that the process that is started in place of the killed
    one lives.
    """

    def __init__(self, spec: str | None = None, marks: Path | None = None) -> None:
        self._mark = None if spec is None or marks is None else mark_of(marks, spec)
        armed = spec is not None and not (self._mark is not None and self._mark.exists())
        self._place, self._action, self._nth = parse(spec or "") if armed else ("", "", 0)
        self._hits: Counter[str] = Counter()

    def hit(self, place: str) -> None:
        """Say that the process is at `place`."""
        if place != self._place:
            return
        self._hits[place] += 1
        if self._hits[place] != self._nth:
            return
        if self._mark is not None:
            self._mark.touch()
        if self._action == "block":
            # Not asyncio's: the point is to hold up the whole event loop, leases and all.
            time.sleep(_BLOCK_SECONDS)
        else:
            os.kill(os.getpid(), _ACTIONS[self._action])


def mark_of(folder: Path, spec: str) -> Path:
    """Return the file in a data folder that says that this failpoint has happened."""
    return folder / f"failpoint.{spec.replace(':', '-')}"


def parse(spec: str) -> tuple[str, str, int]:
    """Read `place:action:nth`. Raises ValueError."""
    place, action, nth = (*spec.split(":"), "", "")[:3]
    if place not in PLACES or action not in {*_ACTIONS, "block"} or not nth.isdigit():
        raise ValueError(f"must be place:action:nth with a place of {', '.join(sorted(PLACES))}")
    return place, action, int(nth)
