"""A history's database on a real PostgreSQL server, which all histories of a run share."""

import asyncio
import atexit
import contextvars
import itertools
import os
import re
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli import migrate
from app.cli.postgres import Cluster
from app.db import make_engine
from tests.simulation.home import Home
from tests.simulation.loop import OWNER
from tests.simulation.postgres_driver import CUT, Connection, Handle, Real, real
from tests.simulation.store import SAME_INSTALLATION, connect, own_pool

_TEMPLATE = "simulated"
# The application asks for statement_timestamp() and finds this one first.
_CLOCK = """
  CREATE SCHEMA sim;
  CREATE FUNCTION sim.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
  AS $$ SELECT current_setting('sim.now')::timestamptz $$"""
_SETTINGS = {
    "search_path": "sim, public, pg_catalog",
    "lock_timeout": "0",  # Virtual, as below.
    "deadlock_timeout": "1h",
    "jit": "off",
    "timezone": "UTC",
}
# As app.db asks the server for, in virtual seconds.
_DEADLOCK, _LOCK, _IDLE = 1.0, 2.0, 10.0
_YEAR_2000 = 946_684_800_000_000  # PostgreSQL counts microseconds from there.


class _Wait:
    """A statement that waits for a lock, and who waits for its end."""

    def __init__(self, task: "asyncio.Task[Any]", ended: "asyncio.Future[None]") -> None:
        self.task, self.ended = task, ended
        self.error: Exception | None = None


class PostgresStore:
    """A database of its own on a server that all histories of a run share."""

    url = "postgresql+asyncpg:///simulated"
    idle_limit: float | None = _IDLE
    may_restart = True
    # The longer a transaction lasts, the more of them meet.
    paces: tuple[float, ...] = (1.0, 10.0, 40.0)
    _shared: AsyncEngine | None = None
    _server: str | None = None
    _numbers = itertools.count(1)

    def __init__(self, folder: Path) -> None:
        """Make it."""
        self._admin = _open(self.template(), "postgres")
        self._name = f"history_{os.getpid()}_{next(self._numbers)}"
        made = f"CREATE DATABASE {self._name} TEMPLATE {_TEMPLATE} STRATEGY file_copy"
        real.run(self._admin.execute(made))
        self._eye = _open(self.template(), self._name)
        real.run(_see_as_sqlite_does(self._eye))
        real.run(self._eye.execute("SET lock_timeout = '2s'"))  # It must not stop the world.
        self._look = real.run(self._eye.prepare("SELECT cardinality(pg_blocking_pids($1)) > 0"))
        self._handles: list[Handle] = []
        self._all: list[Handle] = []
        self._waiting: dict[Connection, _Wait] = {}
        self._changes = 0
        self._open: dict[Connection, None] = {}
        self._away_until = 0.0

    @classmethod
    def template(cls) -> str:
        """Return the address of a server with an empty, migrated database; started once.

        Raises PostgresMissingError.
        """
        if cls._server is None:
            cluster = Cluster()
            cluster.__enter__()
            atexit.register(cluster.__exit__, None, None, None)
            admin = _open(cluster.url(), "postgres")
            real.run(admin.execute(f"CREATE DATABASE {_TEMPLATE}"))
            real.run(admin.close())
            migrate.upgrade(cluster.url(_TEMPLATE))
            made = _open(cluster.url(), _TEMPLATE)
            real.run(made.execute(f"{_CLOCK}; {SAME_INSTALLATION}"))
            real.run(made.close())
            cls._server = cluster.url()
        return cls._server

    @classmethod
    def use_template(cls, template: str) -> None:
        """Take a server that another process started."""
        cls._server = template

    def engine(self) -> AsyncEngine:
        if PostgresStore._shared is None:
            # An engine asks its first connection for the server's version and the like; in a
            # history that would be a part of whichever comes first.
            shared = make_engine(self.url, connect=self._connect)
            contextvars.Context().run(Real().run, _ask(shared))
            PostgresStore._shared = shared
        return own_pool(PostgresStore._shared)

    def rows(self, query: str, *values: Any) -> list[Any]:
        numbers = itertools.count(1)
        query = re.sub(r"\?", lambda _: f"${next(numbers)}", query)
        return [tuple(row) for row in real.run(self._eye.fetch(query, *values))]

    def changes(self) -> int:
        return self._changes

    def refuses(self, statement: str) -> bool:
        real.run(self._eye.execute("BEGIN"))
        try:
            real.run(self._eye.execute(statement))
        except asyncpg.LockNotAvailableError:
            raise
        except asyncpg.PostgresError:
            return True
        finally:
            real.run(self._eye.execute("ROLLBACK"))
        return False

    def close(self) -> None:
        for raw in (self._eye, *(handle.raw for handle in self._all)):
            raw.terminate()
        real.run(self._admin.execute(f"DROP DATABASE {self._name} WITH (FORCE)"))
        real.run(self._admin.close())

    # Connections, and who waits for whom.

    async def connect(self, home: Home) -> Connection:
        await asyncio.sleep(0)
        if asyncio.get_running_loop().time() < self._away_until:
            raise ConnectionRefusedError("the server is not there")
        if not self._handles:
            handle = Handle(_open(self.template(), self._name))
            self._all.append(handle)
            self._handles.append(handle)
        made = Connection(self, self._handles.pop(), home)
        self._open[made] = None
        return made

    def restart(self, seconds: float) -> None:
        """End all connections; nobody gets a new one for so long."""
        self._away_until = asyncio.get_running_loop().time() + seconds
        for connection in list(self._waiting):
            self.forget(connection)  # Nobody gets what another one lets go of now.
        for connection in list(self._open):
            connection.stop()

    def settles(self, task: "asyncio.Task[Any]", pid: int) -> bool:
        """Tell whether a statement ends by itself; False: it waits for another's lock."""
        while not real.ends(task):
            if self._is_blocked(pid):
                return False
        return True

    def _is_blocked(self, pid: int) -> bool:
        return bool(real.run(self._look.fetchval(pid)))

    def waits(self, connection: Connection) -> bool:
        wait = self._waiting.get(connection)
        return wait is not None and not wait.ended.done()

    async def turn(self, connection: Connection, task: "asyncio.Task[Any]") -> None:
        """Wait, in virtual time, until a statement has got its lock and ended."""
        loop = asyncio.get_running_loop()
        wait = self._waiting[connection] = _Wait(task, loop.create_future())
        # The server gives up whoever waits, also where his process stands still.
        limits = [
            loop.call_later(seconds, call, connection, wait, context=contextvars.Context())
            for seconds, call in ((_DEADLOCK, self._untie), (_LOCK, self._give_up))
        ]
        try:
            await wait.ended
        finally:
            for limit in limits:
                limit.cancel()
            self.forget(connection)
        if wait.error is not None:
            raise wait.error

    def _untie(self, connection: Connection, wait: "_Wait") -> None:
        if self._waits_for_itself(connection.handle.pid):
            self._refuse(connection, wait, asyncpg.DeadlockDetectedError("deadlock detected"))

    def _give_up(self, connection: Connection, wait: "_Wait") -> None:
        why = "canceling statement due to lock timeout"
        self._refuse(connection, wait, asyncpg.LockNotAvailableError(why))

    def _refuse(self, connection: Connection, wait: "_Wait", error: Exception) -> None:
        """Let a statement fail, unless it has got its lock meanwhile."""
        if wait.ended.done() or self._waiting.get(connection) is not wait:
            return
        if not self.settles(wait.task, connection.handle.pid):
            wait.error = error
            self.cancel(wait.task, connection.handle.pid)
        wait.ended.set_result(None)
        self._look_again()

    def _waits_for_itself(self, pid: int) -> bool:
        seen: set[int] = set()
        found = {pid}
        while found:
            seen |= found
            asked = "SELECT unnest(pg_blocking_pids(one)) FROM unnest($1::int[]) one"
            found = {row[0] for row in real.run(self._eye.fetch(asked, sorted(found)))}
            if pid in found:
                return True
            found -= seen
        return False

    def cancel(self, task: "asyncio.Task[Any]", pid: int) -> None:
        """Have the server give up a statement that waits."""
        while not task.done():
            real.run(self._eye.fetchval("SELECT pg_cancel_backend($1)", pid))
            real.ends(task)
        task.exception()  # Nobody waits for it.

    def forget(self, connection: Connection) -> None:
        """Let a statement wait no longer."""
        wait = self._waiting.pop(connection, None)
        if wait is None:
            return
        if not wait.ended.done():
            wait.error = asyncpg.ConnectionDoesNotExistError(CUT)
            wait.ended.set_result(None)
        if not wait.task.done():
            self.cancel(wait.task, connection.handle.pid)
            self._look_again()

    def take_back(self, connection: Connection) -> None:
        """Take the server's side of a connection back, whose transaction has ended."""
        self._open.pop(connection, None)
        self._handles.append(connection.handle)
        self._look_again()

    def done(self, connection: Connection, statement: str, *, failed: bool) -> None:
        """Hear that a statement was carried out, or failed, which lets go of its locks."""
        outside = not connection.handle.raw.is_in_transaction()
        self._changes += outside and not statement.startswith("SELECT")
        if outside or failed:
            self._look_again()

    def _look_again(self) -> None:
        """Tell those whose statement has got its lock and ended."""
        found = True
        while found:
            found = False
            for connection, wait in list(self._waiting.items()):
                if wait.ended.done() or self._is_blocked(connection.handle.pid):
                    continue
                if self.settles(wait.task, connection.handle.pid):
                    wait.ended.set_result(None)
                    found = True

    async def _connect(self) -> Connection:
        if OWNER.get() is not None:
            made: Connection = await connect()
            return made
        self._all.append(Handle(_open(self.template(), self._name)))
        return Connection(self, self._all[-1], _Nobody())


class _Nobody:
    """Owns the connection that is asked for what never changes."""

    name = "nobody"

    def __init__(self) -> None:
        self.connections: dict[Any, None] = {}

    async def at_statement(self, statement: str) -> bool:
        return False

    def still_runs(self, statement: str) -> bool:
        return False

    def executed(self, statement: str, parameters: Any) -> None:
        """Nothing is noted."""

    def wrote_outside(self, statement: str) -> None:
        """Nothing is written."""

    def ended_for(self, owner: str, job_id: str) -> None:
        """Nothing is written."""

    def micros(self) -> int:
        return 0


async def _ask(engine: AsyncEngine) -> None:
    async with engine.connect():
        pass
    await engine.dispose()


def _open(server: str, database: str) -> Any:
    url = make_url(server).set(drivername="postgresql", database=database)
    address = url.render_as_string(hide_password=False)
    return real.run(asyncpg.connect(address, server_settings=_SETTINGS, statement_cache_size=0))


async def _see_as_sqlite_does(raw: Any) -> None:
    """Read moments as microseconds since 1970 and flags as 0 or 1."""
    await raw.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda micros: (micros - _YEAR_2000,),
        decoder=lambda parts: parts[0] + _YEAR_2000,
    )
    await raw.set_type_codec(
        "bool",
        schema="pg_catalog",
        format="text",
        encoder=lambda flag: "t" if flag else "f",
        decoder=lambda flag: int(flag == "t"),
    )
