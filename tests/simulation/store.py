"""The database of a history, from outside: made from a template, looked into, taken away."""

import copy
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.simulation.home import Home
from tests.simulation.loop import OWNER

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # Where there is some.
# The migration makes it at random, and it is part of every key.
SAME_INSTALLATION = "UPDATE installation SET id = 'sim_installation'"


class Store(Protocol):
    """What the world has of its database."""

    url: str
    idle_limit: float | None
    """Seconds after which the server ends a transaction in which nothing happens."""
    may_restart: bool
    """Whether it has a server of its own, which can end."""
    paces: tuple[float, ...]
    """How many half milliseconds a statement takes in one history and another, on average."""

    def __init__(self, folder: Path) -> None:
        """Make it, in an empty folder if it has files."""

    @classmethod
    def template(cls) -> str:
        """Return what all are copied from: empty and migrated, made once.

        Raises PostgresMissingError where there is no such database.
        """

    @classmethod
    def use_template(cls, template: str) -> None:
        """Take a template that another process made."""

    def engine(self) -> AsyncEngine:
        """Return an engine of its own for a process; compiled statements are shared by all."""

    async def connect(self, home: Home) -> Any:
        """Return a connection for a process, in place of the driver's."""

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Look past everything; sees what is committed, moments as microseconds, flags as 0 or 1.

        Values stand as `?` in the query.
        """

    def changes(self) -> int:
        """Return a number that is another one after something was committed."""

    def refuses(self, statement: str) -> bool:
        """Tell whether the database refuses a statement, which changes nothing in any case."""

    def close(self) -> None:
        """Take it away."""


async def connect() -> Any:
    """Connect for whichever process asks."""
    owner: Any = OWNER.get()
    if owner is None:
        raise RuntimeError("a connection belongs to a process")
    return await owner.world.store.connect(owner)


def own_pool(shared: AsyncEngine) -> AsyncEngine:
    """Return an engine that differs from a shared one by its connections only."""
    made = copy.copy(shared.sync_engine)
    made.pool = made.pool.recreate()
    return AsyncEngine(made)
