"""Garbage collection of a process that runs for long and answers people meanwhile."""

import gc

# Objects more than there were, before the young ones are looked through. A request makes thousands
# that die by themselves, so Python's own 700 looks several times during each.
_YOUNG = 20_000


def settle() -> None:
    """Take what a started process is made of out of the collector's rounds.

    Code, routes and templates stay for good, and a round through all of them stops the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 10)
