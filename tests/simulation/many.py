"""Histories in several processes. Not in `__main__`, which a spawned process cannot import."""

import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import structlog

from tests.simulation import history, world
from tests.simulation.history import Ended


def quiet() -> None:
    """Write no log: what a history says, its story says."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    def drop(_logger: object, _method: str, _line: object) -> str:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])


def _begin(template: str) -> None:
    quiet()
    world.use_template(Path(template))


def _one(seed: int, payments: int) -> Ended:
    ended = history.play(seed, payments=payments)
    if not ended.violations:
        ended.story = []  # Nobody reads it, and it would travel between processes.
    return ended


def histories(seeds: range, jobs: int, payments: int) -> Iterator[Ended]:
    """Play seeds in so many processes; what they end with comes in the order of the seeds."""
    if jobs == 1:
        yield from (history.play(seed, payments=payments) for seed in seeds)
        return
    with pool(jobs) as processes:
        try:
            yield from processes.map(partial(_one, payments=payments), seeds)
        finally:
            processes.shutdown(wait=True, cancel_futures=True)  # Whoever asked may want no more.


def pool(jobs: int) -> ProcessPoolExecutor:
    """Return processes that play histories from one template."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(str(world.template()),),
    )
