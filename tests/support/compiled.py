"""One cache of compiled statements for all engines of a process.

Each test has an engine of its own, as it has a database of its own. Compiling the same statements
again for each took a fifth of the suite's time; an installation has one engine and compiles once.
"""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.util import LRUCache

_MOST = 5000  # More than there are; SQLAlchemy's own 500 are for one engine.


def _same(one: Any, other: object) -> bool:
    return type(one) is type(other)


def _hash(one: Any) -> int:
    return hash(type(one))


def share() -> None:
    """Let engines share what they compile. A dialect is a part of each statement's key."""
    cache: Any = LRUCache(_MOST)
    shared: Any = property(lambda _engine: cache, lambda _engine, _own: None)
    Engine._compiled_cache = shared
    for dialect in (PGDialect_asyncpg, SQLiteDialect_aiosqlite):
        # All tests of a run have the same server or library, so dialects of a kind are the same.
        setattr(dialect, "__eq__", _same)  # noqa: B010 - a class's own method is no attribute.
        setattr(dialect, "__hash__", _hash)  # noqa: B010 - as above.
