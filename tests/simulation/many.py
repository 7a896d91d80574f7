"""Histories in several processes. Not in `__main__`, which a spawned process cannot import."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import structlog

from tests.simulation import history
from tests.simulation.history import Ended
from tests.simulation.postgres_store import PostgresStore
from tests.simulation.sqlite_store import SqliteStore
from tests.simulation.store import Store

STORES: dict[str, type[Store]] = {
    "sqlite": SqliteStore,
    "postgresql": PostgresStore,
}


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


def _begin(database: str, template: str) -> None:
    quiet()
    STORES[database].use_template(template)


def _one(seed: int, payments: int, database: str) -> Ended:
    ended = history.play(seed, payments=payments, make_store=STORES[database])
    if not ended.violations:
        ended.story = []  # Nobody reads it, and it would travel between processes.
    return ended


def histories(seeds: range, jobs: int, payments: int, database: str = "sqlite") -> Iterator[Ended]:
    """Play seeds in so many processes; what they end with comes in the order of the seeds."""
    if jobs == 1:
        make_store = STORES[database]
        yield from (history.play(n, payments=payments, make_store=make_store) for n in seeds)
        return
    play = partial(_one, payments=payments, database=database)
    with pool(jobs, database) as processes:
        try:
            yield from processes.map(play, seeds)
        finally:
            processes.shutdown(wait=True, cancel_futures=True)  # Whoever asked may want no more.


def pool(jobs: int, database: str = "sqlite") -> ProcessPoolExecutor:
    """Return processes that play histories from one template."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(database, STORES[database].template()),
    )
