"""Inserting rows: one statement for rows of several tables, built once for each shape."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Dialect, Float, bindparam, case, func, insert, null
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.columns import now_and

Rows = Sequence[tuple[Any, Mapping[str, Any]]]

_NULL = null()  # As a value: SQL's NULL, where None in a JSON column would be JSON's null.


def is_sqlite(session: AsyncSession) -> bool:
    """Tell the dialect of a session."""
    return bool(session.get_bind().dialect.name == "sqlite")


async def insert_once(session: AsyncSession, table: Any, values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique constraint refuses it; tell whether it was inserted."""
    make = _insert_once_sqlite if is_sqlite(session) else _insert_once_postgresql
    result = await _run(await session.connection(), _with_tables([(table, values)]), make)
    return result.first() is not None


def _insert_once_postgresql(table: Any, values: Mapping[str, Any]) -> Any:
    once = postgresql.insert(table).values(values).on_conflict_do_nothing()
    return once.returning(*table.primary_key.columns)


def _insert_once_sqlite(table: Any, values: Mapping[str, Any]) -> Any:
    once = sqlite.insert(table).values(values).on_conflict_do_nothing()
    return once.returning(*table.primary_key.columns)


def _insert(table: Any, values: Mapping[str, Any]) -> Any:
    return insert(table).values(values)


class OnlyIfLocked(NamedTuple):
    """A value that becomes null unless the statement gets this advisory lock at once.

    In a column that may not be null the whole statement then fails. PostgreSQL only.
    """

    lock: int
    value: str


class After(NamedTuple):
    """A value that becomes the moment so many seconds after the database's own now."""

    seconds: float


class _Statement:
    """A statement that inserts rows of one shape, and where each of its values comes from.

    Building it costs several times what the database needs for it, so it is kept, as the text that
    the driver takes: looking compiled statements up and collecting their values costs, too.
    """

    def __init__(self, statement: Any, rows: Rows, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        takes = {
            f"r{index}_{name}{part}": (index, name, part)
            for index, (_, values) in enumerate(rows)
            for name in values
            for part in ("", _LOCK)
        }
        self._takes = []
        for place in compiled.positiontup:
            if place not in takes:
                raise RuntimeError(f"a row must name each column that has a default: {place}")
            kind = compiled.binds[place].type.dialect_impl(dialect)
            self._takes.append((*takes[place], kind.bind_processor(dialect)))

    def arguments(self, rows: Rows) -> tuple[Any, ...]:
        """Return the values of rows of this shape as the driver takes them, in order."""
        found = []
        for index, name, part, process in self._takes:
            value = rows[index][1][name]
            if type(value) is OnlyIfLocked:
                value = value.lock if part else value.value
            elif type(value) is After:
                value = value.seconds
            found.append(value if process is None else process(value))
        return tuple(found)


_LOCK = "_lock"
_SPECIAL = (type(_NULL), OnlyIfLocked, After)
_statements: dict[Any, _Statement] = {}  # One a shape of rows, of which there are a few dozen.


def _statement(
    rows: Rows, make: Callable[[Any, Mapping[str, Any]], Any], dialect: Dialect
) -> _Statement:
    shape = tuple(
        [
            (table, *v, *[(name, type(value)) for name, value in v.items() if _is_special(value)])
            for table, v in rows
        ]
    )
    key = (dialect.name, make, shape)
    found = _statements.get(key)
    if found is None:
        found = _statements[key] = _Statement(_joined(rows, make), rows, dialect)
    return found


def _is_special(value: Any) -> bool:
    return type(value) in _SPECIAL


def _joined(rows: Rows, make: Callable[[Any, Mapping[str, Any]], Any]) -> Any:
    parts = [
        make(
            table,
            {
                name: _place(f"r{index}_{name}", table.c[name].type, value)
                for name, value in values.items()
            },
        )
        for index, (table, values) in enumerate(rows)
    ]
    joined = parts[-1]
    for index, part in enumerate(parts[:-1]):
        joined = joined.add_cte(part.cte(f"i{index}"))
    return joined


def _place(name: str, kind: Any, value: Any) -> Any:
    if value is _NULL:
        return _NULL
    if type(value) is After:
        return now_and(bindparam(name, type_=Float()))
    place = bindparam(name, type_=kind)
    if type(value) is not OnlyIfLocked:
        return place
    locked = func.pg_try_advisory_xact_lock(bindparam(f"{name}{_LOCK}", type_=BigInteger()))
    return case((locked, place), else_=null())


async def _run(
    connection: AsyncConnection, rows: Rows, make: Callable[[Any, Mapping[str, Any]], Any]
) -> Any:
    statement = _statement(rows, make, connection.dialect)
    return await connection.exec_driver_sql(statement.text, statement.arguments(rows))


class Lone:
    """A connection for exactly one inserting statement, without a session around it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.info: dict[Any, Any] = {}  # As a session has it.
        self._connection = connection

    async def insert(self, rows: Rows) -> None:
        """Insert rows of several tables in one statement, which commits with its answer."""
        await _run(self._connection, _with_tables(rows), _insert)


def _with_tables(rows: Rows) -> list[tuple[Any, Mapping[str, Any]]]:
    return [(getattr(table, "__table__", table), values) for table, values in rows]


async def insert_all(session: AsyncSession | Lone, rows: Rows) -> None:
    """Insert rows of several tables: `[(Table or model, values), …]`, in order.

    On PostgreSQL one data-modifying statement carries them all, because each round trip costs
    more than a row; foreign keys between them are checked at its end. SQLite has no round trips.
    """
    if isinstance(session, Lone):
        await session.insert(rows)
        return
    tables = _with_tables(rows)
    alone, together = (tables, []) if is_sqlite(session) else _numbered_first(tables)
    connection = await session.connection()
    for rows_of_one in [*([row] for row in alone), together]:
        if rows_of_one:
            await _run(connection, rows_of_one, _insert)


def _numbered_first(rows: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """Split off the rows that must get their number before a later row of the same table.

    PostgreSQL runs the parts of one statement in an order of its own (last first, as it happens),
    and the ledger records postings in the order of their numbers: a refund's reserve comes before
    its settling. So only the last row of a table that the database numbers may share a statement.
    """
    last = {table: index for index, (table, _) in enumerate(rows)}
    early = [
        row
        for index, row in enumerate(rows)
        if row[0].autoincrement_column is not None and last[row[0]] != index
    ]
    return early, [row for row in rows if not any(row is one for one in early)]
