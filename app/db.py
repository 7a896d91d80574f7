"""The database: engines and sessions, column types, and the few statements both dialects need."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import aiosqlite
import msgspec
from sqlalchemy import Connection, Engine, Executable, MetaData, Row, event
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction

from app import quiet
from app.columns import Utc as Utc
from app.columns import from_micros as from_micros
from app.columns import id_column_type as id_column_type
from app.columns import json_column_type as json_column_type
from app.columns import now as now
from app.columns import to_micros as to_micros
from app.inserts import After as After
from app.inserts import Lone as Lone
from app.inserts import OnlyIfLocked as OnlyIfLocked
from app.inserts import insert_all as insert_all
from app.inserts import insert_once as insert_once
from app.inserts import is_sqlite as is_sqlite

T = TypeVar("T")
AfterCommit = Callable[[set[str]], None]

_RETRY_STATES = {"40001", "40P01", "55P03"}  # Serialization failure, deadlock, lock timeout.
_TRIES = 5


class Base(DeclarativeBase):
    """All tables. Constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: Utc(),
        dict[str, Any]: json_column_type(),
    }


class _SqliteConnection(sqlite3.Connection):
    def close(self) -> None:
        """Let go of the write lock first.

        A statement that was cut off in the middle of its rows (a shutdown, a deadline) keeps a
        closed connection, its transaction and the lock alive until Python collects it.
        """
        if self.in_transaction:
            self.rollback()
        super().close()


async def _open_sqlite(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    connection = aiosqlite.connect(*arguments, **options)
    thread = connection._thread  # noqa: SLF001 - as SQLAlchemy does, which waits for nothing
    thread.daemon = True
    try:
        return await connection
    except BaseException:
        # Its thread still answers the failed opening. Left alone it may find the event loop
        # closed, where a command that cannot use its database ends at once.
        await asyncio.to_thread(thread.join)
        raise


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def make_engine(
    url: str,
    *,
    pool_size: int = 10,
    pool_timeout: float = 2.0,
    statement_timeout: float = 5.0,
    connect: Callable[[], Awaitable[Any]] | None = None,
) -> AsyncEngine:
    """Return an engine. On SQLite it begins no transaction by itself: `Sessions` does.

    `pool_timeout` is how many seconds one waits for a free connection. `statement_timeout` in
    seconds holds on PostgreSQL; 0 means none (commands and exports). `connect` opens connections
    in place of the driver, whose threads and sockets no simulation could play again.
    """
    creator = {} if connect is None else {"async_creator": connect}
    if url.startswith("sqlite"):
        engine = create_async_engine(
            url,
            connect_args={
                "isolation_level": None,
                "timeout": 5.0,
                "factory": _SqliteConnection,
                "async_creator_fn": _open_sqlite,
            },
            json_serializer=_json,
            # An error's text goes into logs and dead letters, values are people's and secrets.
            hide_parameters=True,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout,
            **creator,
        )
        _configure_sqlite(engine.sync_engine)
        return engine
    engine = create_async_engine(
        url,
        hide_parameters=True,  # As above.
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_recycle=1800,
        json_serializer=_json,
        **creator,
        connect_args={
            "timeout": 5.0,
            # The server's own limit cannot help when the server itself hangs or is cut off.
            "command_timeout": statement_timeout + 5.0 if statement_timeout else None,
            "server_settings": {
                "application_name": "counterfoil",
                "lock_timeout": "2000",
                "statement_timeout": str(int(statement_timeout * 1000)),
                "idle_in_transaction_session_timeout": "10000",
                "jit": "off",
            },
        },
    )
    quiet.keep(engine.sync_engine)
    return engine


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=5000",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def is_transient(error: BaseException) -> bool:
    """Tell whether a whole transaction may simply be run again: it left nothing behind."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error, OperationalError) and "database is locked" in str(error.orig):
        return True
    return getattr(error.orig, "sqlstate", None) in _RETRY_STATES


class _Session(Session):
    """A session whose transactions begin as its engine says."""


@event.listens_for(_Session, "after_begin")
def _begun(_session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    # The driver would begin only at the first write, which leaves the reads before it outside of
    # the transaction: lost updates, and no error (trap 0.1). A listener of the session and not of
    # the engine: an engine that anybody listens to looks for listeners at every step of every
    # statement.
    statement = connection.get_execution_options().get("counterfoil_begin")
    if statement is not None and not transaction.nested:
        connection.exec_driver_sql(statement)


class Sessions:
    """Opens transactions: `begin` writes on the primary, `read` decides about no money."""

    def __init__(
        self,
        engine: AsyncEngine,
        after_commit: AfterCommit | None = None,
        *,
        patience: float | None = None,
    ) -> None:
        self.engine = engine
        self._patience = patience  # Seconds in the queue of writers, as in that of connections.
        self.sqlite = engine.dialect.name == "sqlite"
        if self.sqlite:
            self._write = engine.execution_options(counterfoil_begin="BEGIN IMMEDIATE")
            self._snapshot = engine.execution_options(counterfoil_begin="BEGIN")
            self._lone = engine
        else:
            self._write = self._snapshot = engine
            # A lone statement commits by itself: BEGIN and COMMIT would be two round trips.
            self._lone = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._after_commit = after_commit
        # Writers of one process queue here in order; left to fight over the file with
        # SQLite's own waiting they starve each other for seconds.
        self._writer = asyncio.Lock()

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a write transaction; commit at the end, roll back on any exception.

        Queues named in `session.info["wake"]` are rung after the commit.
        """
        return self._open(self._write, self._turn())

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session to read: what is shown, or tells a worker whether there is work.

        Money is never decided on by it: what is done is decided again in `begin`, under its locks.

        Each statement sees what is committed as it begins (as it would inside of a READ COMMITTED
        transaction, without paying for one); `snapshot` sees one moment.
        """
        return self._open(self._lone, nullcontext())

    async def look(self, statement: Executable, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Return the rows of one reading statement, whose parameters are `values`.

        As in `read`, without paying for a session. Raises SQLAlchemyError, OSError.
        """
        try:
            async with self._lone.connect() as connection:
                return (await connection.execute(statement, values)).all()
        except (SQLAlchemyError, OSError) as error:
            if _was_cut(error):  # As in `_open`.
                raise asyncio.CancelledError from error
            raise

    def snapshot(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a read transaction, for what must agree with itself across statements."""
        return self._open(self._snapshot, nullcontext())

    @asynccontextmanager
    async def _open(
        self, engine: AsyncEngine, turn: AbstractAsyncContextManager[Any]
    ) -> AsyncIterator[AsyncSession]:
        cut = False
        try:
            async with (
                turn,
                AsyncSession(
                    engine, sync_session_class=_Session, expire_on_commit=False
                ) as session,
                session.begin(),
            ):
                try:
                    yield session
                except asyncio.CancelledError:
                    cut = True
                    raise
        except (SQLAlchemyError, OSError) as error:
            # Letting go of the connection failed, too. Taken for a conflict to try again, that
            # would swallow the cut, and a worker that is told to stop would go on.
            if cut or _was_cut(error):
                raise asyncio.CancelledError from error
            raise
        self._ring(session.info)

    @asynccontextmanager
    async def at_once(self) -> AsyncIterator[Lone]:
        """Open a connection for exactly one inserting statement, committed with its answer.

        PostgreSQL only. Queues named in `info["wake"]` are rung afterwards.
        """
        if self.sqlite:
            raise RuntimeError("SQLite has no round trips to save")
        async with self._lone.connect() as connection:
            lone = Lone(connection)
            yield lone
        self._ring(lone.info)

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run `work` in a write transaction, again from its start on a passing conflict."""
        for attempt in range(1, _TRIES + 1):
            try:
                async with self.begin() as session:
                    return await work(session)
            except DBAPIError as error:
                if attempt == _TRIES or not is_transient(error):
                    raise
                await asyncio.sleep(0.01 * 2**attempt)
        raise AssertionError("unreachable")

    def _ring(self, info: Mapping[Any, Any]) -> None:
        wake: set[str] = info.get("wake", set())
        if wake and self._after_commit is not None:
            self._after_commit(wake)

    def _turn(self) -> AbstractAsyncContextManager[Any]:
        return self._in_order() if self.sqlite else nullcontext()

    @asynccontextmanager
    async def _in_order(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await self._writer.acquire()
        except TimeoutError as error:
            raise PoolTimeout("the queue of writers did not move in time") from error
        try:
            yield
        finally:
            self._writer.release()

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _was_cut(error: BaseException) -> bool:
    """Tell whether an error came up while a cut was handled; a timeout's own cut is none."""
    before = error.__context__
    while before is not None and not isinstance(before, TimeoutError):
        if isinstance(before, asyncio.CancelledError):
            return not isinstance(error, TimeoutError)
        before = before.__context__
    return False


def wake(session: AsyncSession | Lone, queues: Iterable[str]) -> None:
    """Note queues to ring once this transaction has committed."""
    session.info.setdefault("wake", set()).update(queues)
