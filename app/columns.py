"""Column types, and the database's own clock, alike on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    String,
    TypeDecorator,
    literal,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return the UTC moment of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


class Utc(TypeDecorator[datetime]):
    """An aware UTC moment: timestamptz on PostgreSQL, integer microseconds on SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Pick the column type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuse naive moments; they would mean another time on another host."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        return value if dialect.name == "postgresql" else to_micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return an aware UTC moment."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else from_micros(value)


class _Now(FunctionElement[datetime]):
    name = "counterfoil_now"
    type = Utc()
    inherit_cache = True


@compiles(_Now, "postgresql")
def _now_postgresql(element: _Now, compiler: SQLCompiler, **kw: Any) -> str:
    # statement_timestamp() is stable, so that an index on a due time can be used.
    plus = compiler.process(element.clauses, **kw)
    return f"(statement_timestamp() + make_interval(secs => {plus}))"


@compiles(_Now, "sqlite")
def _now_sqlite(element: _Now, compiler: SQLCompiler, **kw: Any) -> str:
    plus = compiler.process(element.clauses, **kw)
    return f"CAST((julianday('now') - 2440587.5) * 86400000000 + {plus} * 1000000 AS INTEGER)"


def now(plus: float = 0.0) -> ColumnElement[datetime]:
    """Return the database's own clock, `plus` seconds later, as an SQL expression.

    Leases and due times are compared with it, never with a host's clock: two hosts disagree.
    """
    return _Now(literal(float(plus), Float()))


def now_and(seconds: ColumnElement[float]) -> ColumnElement[datetime]:
    """Return the database's own clock so many seconds later, where the number is an expression."""
    return _Now(seconds)


def id_column_type() -> String:
    """Return the type of an id: compared bytewise, so that ids sort by time everywhere."""
    return String(80).with_variant(String(80, collation="C"), "postgresql")


def json_column_type() -> Any:
    """Return the type of a JSON document."""
    return JSON().with_variant(postgresql.JSONB(), "postgresql")
