"""What a connection of the simulated database belongs to, and what may befall its statements."""

from typing import Any, Protocol


class Busy(Exception):
    """The statement finds what it needs held by others: SQLite's lock, PostgreSQL's deadlock."""


class Broken(Exception):
    """The statement is not carried out: a disk fails, a line is cut."""


class Down(Broken):
    """The server ends, with everybody's connections, and is back after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"down for {seconds:.1f} s")
        self.seconds = seconds


class Link(Protocol):
    """A connection, as its process sees it."""

    @property
    def in_transaction(self) -> bool:
        """Whether a server would end it for standing still, as PostgreSQL does."""

    def stop(self) -> None:
        """Close at once; what is not committed is gone."""


class Home(Protocol):
    """What a connection belongs to: a process of the simulation."""

    name: str
    connections: dict[Link, None]

    async def at_statement(self, statement: str) -> bool:
        """Wait as long as the statement takes; True: its answer is lost after it was done.

        Raises Busy, Broken.
        """

    def still_runs(self, statement: str) -> bool:
        """Tell whether a statement whose caller was cut off is carried out all the same."""

    def executed(self, statement: str, parameters: Any) -> None:
        """Note a statement in the log."""

    def wrote_outside(self, statement: str) -> None:
        """Note a write in a transaction that was opened to read."""

    def ended_for(self, owner: str, job_id: str) -> None:
        """Note that it ended a job, or put one back, that another one runs."""

    def micros(self) -> int:
        """Return the database's clock in microseconds since 1970."""
