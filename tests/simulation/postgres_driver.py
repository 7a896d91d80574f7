"""asyncpg in a history: the real one, which is asked for one statement at a time.

What a process asks and hears is real: row locks, advisory locks, what READ COMMITTED lets happen
between two statements. Virtual are the clock (`statement_timestamp()`) and the limits of waiting;
the seed decides whose statement comes next. A statement that waits for a lock waits in virtual
time, while others go on, until whoever holds the lock has ended. Only where one end lets go of two
that wait for different rows do these two run at once, in the server's own order.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

import asyncpg

from app.db import from_micros
from tests.simulation.home import Broken, Busy, Down, Home

T = TypeVar("T")

_MOMENT = 0.003  # Real seconds after which one looks whether a statement waits for a lock.
_FAIL = "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$"
_CHANGES = ("UPDATE", "DELETE")
CUT = "connection was closed in the middle of operation"


class Server(Protocol):
    """Knows who waits for whom."""

    def settles(self, task: "asyncio.Task[Any]", pid: int) -> bool:
        """Tell whether a statement ends by itself; False: it waits for another's lock."""

    async def turn(self, connection: "Connection", task: "asyncio.Task[Any]") -> None:
        """Wait, in virtual time, until a statement has got its lock and ended.

        Raises asyncpg's DeadlockDetectedError, LockNotAvailableError.
        """

    def waits(self, connection: "Connection") -> bool:
        """Tell whether a statement of a connection waits for a lock."""

    def cancel(self, task: "asyncio.Task[Any]", pid: int) -> None:
        """Have the server give up a statement that waits."""

    def forget(self, connection: "Connection") -> None:
        """Let a statement wait no longer."""

    def done(self, connection: "Connection", statement: str, *, failed: bool) -> None:
        """Hear that a statement was carried out, or failed."""

    def take_back(self, connection: "Connection") -> None:
        """Take the server's side of a connection back, whose transaction has ended."""

    def restart(self, seconds: float) -> None:
        """End all connections; nobody gets a new one for so long."""


class Real:
    """An event loop that waits for the server while the simulated one stands still."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        return self._loop.create_task(work)

    def run(self, work: Awaitable[T]) -> T:
        """Wait for the end of something."""
        outside = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return self._loop.run_until_complete(work)
        finally:
            asyncio._set_running_loop(outside)

    def ends(self, task: "asyncio.Task[Any]") -> bool:
        """Give something a moment; tell whether it has ended."""
        self.run(asyncio.wait({task}, timeout=_MOMENT))
        return task.done()


real = Real()


class Handle:
    """One of the server's connections. A new one costs a process, so they are used again."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.pid: int = raw.get_server_pid()
        self.codecs: set[str] = set()
        # asyncpg ends what preparing begins at the server only when it executes something.
        self.has_begun = False
        self._prepared: dict[str, Any] = {}
        self._set_clock = real.run(raw.prepare("SELECT set_config('sim.now', $1, false)"))
        self.set_clock(0)

    def prepare(self, statement: str) -> Any:
        if statement not in self._prepared:
            self._prepared[statement] = real.run(self.raw.prepare(statement))
            self.has_begun = True
        return self._prepared[statement]

    def roll_back(self) -> None:
        if self.has_begun or self.raw.is_in_transaction():
            real.run(self.raw.execute("ROLLBACK"))
        self.has_begun = False

    def set_clock(self, micros: int) -> None:
        # A little later than the moment at which the statement began, as everywhere.
        moment = from_micros(micros) + timedelta(microseconds=50)
        real.run(self._set_clock.fetch(moment.isoformat()))


class Statement:
    """A prepared statement, as SQLAlchemy uses it."""

    def __init__(self, connection: "Connection", text: str) -> None:
        self._connection, self._text = connection, text
        self._raw = connection.handle.prepare(text)

    async def fetch(self, *parameters: Any) -> Any:
        return await self._connection.run(
            self._text, parameters, lambda: self._raw.fetch(*parameters)
        )

    def get_attributes(self) -> Any:
        return self._raw.get_attributes()

    def get_statusmsg(self) -> Any:
        return self._raw.get_statusmsg()


class Transaction:
    """A transaction, as SQLAlchemy uses it."""

    def __init__(self, connection: "Connection", begin: str) -> None:
        self._connection, self._begin = connection, begin

    async def start(self) -> None:
        await self._connection.plain(self._begin)

    async def commit(self) -> None:
        await self._connection.plain("COMMIT")

    async def rollback(self) -> None:
        await self._connection.plain("ROLLBACK")


class Connection:
    """One connection of one simulated process: the part of asyncpg's that SQLAlchemy uses."""

    def __init__(self, server: "Server", handle: Handle, home: Home) -> None:
        self.handle = handle
        self._server, self._home = server, home
        self._open = True
        home.connections[self] = None

    # What SQLAlchemy asks.

    async def prepare(self, operation: str, name: str | None = None) -> Statement:
        self._check()
        return Statement(self, operation)

    async def executemany(self, operation: str, rows: Any) -> None:
        rows = list(rows)
        await self.run(operation, rows, lambda: self.handle.raw.executemany(operation, rows))

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        self._check()
        words = ["BEGIN"]
        if isolation is not None:
            words.append(f"ISOLATION LEVEL {isolation.replace('_', ' ').upper()}")
        words += ["READ ONLY"] if readonly else []
        words += ["DEFERRABLE"] if deferrable else []
        return Transaction(self, " ".join(words))

    async def set_type_codec(self, typename: str, **how: Any) -> None:
        if typename not in self.handle.codecs:
            self.handle.codecs.add(typename)
            real.run(self.handle.raw.set_type_codec(typename, **how))

    async def reload_schema_state(self) -> None:
        """Nothing changes a schema here."""

    def is_closed(self) -> bool:
        return not self._open

    async def close(self, *, timeout: float | None = None) -> None:
        self.stop()

    def terminate(self) -> None:
        self.stop()

    # What becomes of it.

    @property
    def in_transaction(self) -> bool:
        return self._open and self.handle.raw.is_in_transaction() and not self._server.waits(self)

    async def plain(self, statement: str) -> None:
        """Execute a statement without parameters or rows."""
        await self.run(statement, (), lambda: self.handle.raw.execute(statement))

    async def run(
        self, statement: str, parameters: Any, call: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Execute a statement when its time has come; return its rows."""
        self._check()
        try:
            lost = await self._home.at_statement(statement)
        except Busy:
            self._check()
            if not self.handle.raw.is_in_transaction():
                raise self._broken() from None
            call, lost = partial(self.handle.raw.execute, _FAIL), False
        except Broken as error:
            if isinstance(error, Down):
                self._server.restart(error.seconds)
            raise self._broken() from None
        except asyncio.CancelledError:
            if self._open and self._home.still_runs(statement):
                self._without_us(statement, call)
            raise
        self._check()
        if statement.startswith(_CHANGES) and not self.handle.raw.is_in_transaction():
            # A lone INSERT is how a payment is accepted; see `Sessions.at_once`.
            self._home.wrote_outside(statement)
        answer = await self._carry_out(statement, call)
        self._home.executed(statement, parameters)
        if lost:
            raise self._broken()
        return answer

    def _check(self) -> None:
        if not self._open:
            raise asyncpg.InterfaceError("connection is closed")

    def _broken(self) -> asyncpg.PostgresError:
        self.stop()
        return asyncpg.ConnectionDoesNotExistError(CUT)

    def _begin(
        self, statement: str, call: Callable[[], Coroutine[Any, Any, T]]
    ) -> "asyncio.Task[T]":
        if "statement_timestamp()" in statement:
            self.handle.set_clock(self._home.micros())
        self.handle.has_begun = False
        return real.begin(call())

    async def _carry_out(self, statement: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task, failed = self._begin(statement, call), True
        try:
            if not self._server.settles(task, self.handle.pid):
                await self._server.turn(self, task)
            answer = task.result()
            failed = False
        finally:
            if self._open:
                self._server.done(self, statement, failed=failed)
        return answer

    def _without_us(self, statement: str, call: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Let the server carry out what nobody waits for any more, unless it has to wait."""
        task = self._begin(statement, call)
        if not self._server.settles(task, self.handle.pid):
            self._server.cancel(task, self.handle.pid)
        with contextlib.suppress(asyncpg.PostgresError):
            task.result()
        self._server.done(self, statement, failed=True)

    def stop(self) -> None:
        """Close at once; what is not committed is gone."""
        if not self._open:
            return
        self._open = False
        self._home.connections.pop(self, None)
        self._server.forget(self)
        self.handle.roll_back()
        self._server.take_back(self)
