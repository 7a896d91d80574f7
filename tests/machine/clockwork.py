"""Worlds whose time stands still between two steps: the application's clock and the database's.

The database's own clock is replaced from outside (a function of the same name that is found first),
so that days can pass in a test and every statement is the one that production runs.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.runtime import Clock

START = datetime(2026, 12, 30, 21, 0, tzinfo=UTC)  # A year ends on the way.
_JULIAN_EPOCH = 2_440_587.5
_DAY = 86_400.0
_ROUNDING = 0.001  # A double holds such a day number to some 40 µs.

# `pg_catalog` is looked into last, so that this function stands before the built-in one.
_PATH = "clockwork, public, pg_catalog"
_SCHEMA = (
    "CREATE SCHEMA clockwork",
    "CREATE TABLE clockwork.moment (at timestamptz NOT NULL)",
    "INSERT INTO clockwork.moment VALUES (now())",
    """CREATE FUNCTION clockwork.statement_timestamp() RETURNS timestamptz
    LANGUAGE sql STABLE AS 'SELECT at FROM clockwork.moment'""",
)


class StillClock(Clock):
    """Stands still until it is moved."""

    def __call__(self) -> datetime:
        return START + self.offset


def replace_sqlite_clock(engine: AsyncEngine, clock: StillClock) -> None:
    """Let `julianday` tell this clock's time on every connection of an engine."""

    def julianday(_word: str) -> float:
        return _JULIAN_EPOCH + (clock().timestamp() + _ROUNDING) / _DAY

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.create_function("julianday", 1, julianday)


async def add_postgres_clock(engine: AsyncEngine) -> None:
    """Add the clock that stands before PostgreSQL's own, to a database or a template of some."""
    async with engine.begin() as connection:
        for statement in _SCHEMA:
            await connection.execute(text(statement))


def use_postgres_clock(engine: AsyncEngine) -> None:
    """Let every connection of an engine find that clock first."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET search_path = {_PATH}")
        cursor.close()
        connection.commit()


async def tell_postgres(engine: AsyncEngine, clock: StillClock) -> None:
    """Set the database's clock by the application's."""
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE clockwork.moment SET at = :at"), {"at": clock()})
