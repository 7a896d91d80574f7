"""SQLite without threads: the part of aiosqlite that SQLAlchemy uses, on virtual time.

Each statement is one place where the seed may delay, fail, cut off or kill. What is committed
stays; what is not is rolled back when its process dies.
"""

import asyncio
import sqlite3
from itertools import chain, repeat
from typing import Any, Self

from tests.simulation.home import Broken, Busy, Home

_IGNORED = ("PRAGMA busy_timeout", "PRAGMA synchronous", "PRAGMA journal_mode")
_PATIENCE = 5.0  # SQLite's busy_timeout, in virtual seconds.
# SQLite's own pauses between its tries.
_AGAIN = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.025, 0.025, 0.05, 0.05, 0.1)
_WRITES = ("INSERT", "UPDATE", "DELETE")


class Lost(sqlite3.OperationalError):
    """The statement's answer never came."""


class Cursor:
    """A cursor of a `Connection`."""

    arraysize = 1

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._raw = connection.raw.cursor()
        self._rows: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> "Cursor":
        self._rows = await self._connection.run(self._raw.execute, statement, parameters)
        return self

    async def executemany(self, statement: str, parameters: Any) -> "Cursor":
        await self._connection.run(self._raw.executemany, statement, list(parameters))
        return self

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._raw.close()

    @property
    def description(self) -> Any:
        return self._raw.description

    @property
    def rowcount(self) -> int:
        return self._raw.rowcount

    @property
    def lastrowid(self) -> int:
        return self._raw.lastrowid or 0


class Handle:
    """SQLite's own connection. A new one reads the whole schema, so they are used again."""

    def __init__(self, path: str) -> None:
        self.raw = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=1000
        )
        self.home: Home | None = None
        # The application asks for julianday('now') and gets the world's time, a little later than
        # the moment at which the statement began, as everywhere.
        self.raw.create_function("julianday", 1, self._julian_day)
        for pragma in ("synchronous=OFF", "foreign_keys=ON", "cache_size=-8000"):
            self.raw.execute(f"PRAGMA {pragma}")

    def _julian_day(self, _what: str) -> float:
        if self.home is None:
            raise RuntimeError("nobody uses this connection")
        return (self.home.micros() + 50) / 86_400_000_000 + 2440587.5


class Connection:
    """One connection of one simulated process."""

    isolation_level = None

    in_transaction = False  # Nobody ends a transaction from outside here; see `home.Link`.

    def __init__(self, handle: Handle, home: Home, spare: list[Handle]) -> None:
        self.raw = handle.raw
        self._spare = spare  # Where the handle goes when this is closed.
        self._handle = handle
        self._home = handle.home = home
        self._open = True
        self._may_write = False
        home.connections[self] = None

    @property
    def _connection(self) -> Any:
        return self.raw if self._open else None

    def cursor(self, *_args: Any) -> Cursor:
        self._check()
        return Cursor(self)

    def _check(self) -> None:
        if not self._open:
            raise ValueError("no active connection")

    async def run(self, call: Any, statement: str, parameters: Any) -> list[Any]:
        """Execute a statement when its time has come; return its rows.

        They are all read at once: what is left unread keeps the file's past alive.
        """
        self._check()
        if statement.startswith(_IGNORED):
            return []
        if statement.startswith("PRAGMA"):  # Asked once, by whichever history comes first.
            return list(call(statement))
        try:
            lost = await self._at(statement)
        except asyncio.CancelledError:
            if self._open and self._home.still_runs(statement):
                list(call(statement, parameters))
            raise
        self._check()
        rows: list[Any] = []
        if statement.startswith("BEGIN"):
            self._may_write = statement == "BEGIN IMMEDIATE"
            await self._begin(call, statement)
        else:
            if statement.startswith(_WRITES) and not self._may_write:
                self._home.wrote_outside(statement)
            others = self._run_by_others(statement)
            rows = list(call(statement, parameters))
            for job_id, owner in others - self._run_by_others(statement):
                self._home.ended_for(owner, job_id)
        self._home.executed(statement, parameters)
        if lost:
            raise Lost("disk I/O error")
        return rows

    def _run_by_others(self, statement: str) -> set[tuple[str, str]]:
        """Return which jobs others run, and who, if a statement may end jobs or put them back."""
        if not statement.startswith("UPDATE jobs SET") or "crashes" in statement:
            return set()  # Who claims a job counts the crash of the one who had it.
        query = "SELECT id, owner FROM jobs WHERE state = 'due' AND owner <> ?"
        return set(self.raw.execute(query, (self._home.name,)).fetchall())

    async def _at(self, statement: str) -> bool:
        try:
            return await self._home.at_statement(statement)
        except Busy:
            raise sqlite3.OperationalError("database is locked") from None
        except Broken:
            raise sqlite3.OperationalError("disk I/O error") from None

    async def _begin(self, call: Any, statement: str) -> None:
        """Wait for the write lock as SQLite does: without a queue, and not for ever."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + _PATIENCE
        for wait in chain(_AGAIN, repeat(_AGAIN[-1])):
            try:
                call(statement)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or loop.time() >= ends:
                    raise
            else:
                return
            await asyncio.sleep(wait)
            self._check()

    async def commit(self) -> None:
        await self._end("COMMIT")

    async def rollback(self) -> None:
        await self._end("ROLLBACK")

    async def _end(self, statement: str) -> None:
        self._check()
        if not self.raw.in_transaction:
            return
        try:
            lost = await self._at(statement)
        except asyncio.CancelledError:
            if self._open and self._home.still_runs(statement):
                self.raw.execute(statement)
            raise
        self._check()
        self.raw.execute(statement)
        self._may_write = False
        self._home.executed(statement, ())
        if lost:
            raise Lost("disk I/O error")

    async def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Close at once; what is not committed is gone."""
        if self._open:
            self._open = False
            self._home.connections.pop(self, None)
            if self.raw.in_transaction:
                self.raw.rollback()
            self._handle.home = None
            self._spare.append(self._handle)

    async def create_function(self, *_args: Any, **_kw: Any) -> None:
        """SQLAlchemy's regexp, which nothing here uses."""
