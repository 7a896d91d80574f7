"""Histories in several processes. Not in `__main__`, which a spawned process cannot import."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import structlog

from tests.simulation import history, world
from tests.simulation.history import Ended


def program(module: str, main: Callable[[list[str]], int]) -> int:
    """Run a module's main with its arguments, in a process whose sets come in the same order.

    The order of sets of text follows the hash seed, and every order must come again.
    """
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])  # noqa: S606 - this very program.
    return main(sys.argv[1:])


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
