"""The sandbox's durable book: objects, kept answers, outgoing events and every request, in SQLite.

Writes of one moment share one commit. All of them happen on the event loop, without an await
inside, so an operation is whole; no answer leaves before the commit that carries its effect.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, created REAL NOT NULL,
  parent TEXT, due REAL, body BLOB NOT NULL, private BLOB NOT NULL,
  changed INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS objects_kind ON objects (kind, seq);
CREATE INDEX IF NOT EXISTS objects_parent ON objects (parent, kind, seq);
CREATE INDEX IF NOT EXISTS objects_due ON objects (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS metadata (
  object TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (object, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS metadata_value ON metadata (key, value, kind);
CREATE TABLE IF NOT EXISTS kept_answers (
  key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, created REAL NOT NULL, status INTEGER NOT NULL,
  headers BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fault_counts (
  subject TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
  id INTEGER PRIMARY KEY, event TEXT NOT NULL, endpoint TEXT NOT NULL, due REAL,
  tries INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL, last_answer TEXT);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS requests (
  id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, at REAL NOT NULL, method TEXT NOT NULL,
  path TEXT NOT NULL, query TEXT NOT NULL, headers BLOB NOT NULL, body TEXT NOT NULL, key TEXT,
  status INTEGER, answered REAL, replayed INTEGER NOT NULL DEFAULT 0, fault TEXT,
  body_hash TEXT NOT NULL DEFAULT '', effect TEXT NOT NULL DEFAULT '[]');
CREATE INDEX IF NOT EXISTS requests_key ON requests (key) WHERE key IS NOT NULL;
"""
# Columns that a book made by an earlier version does not have.
_ADDED = (
    ("objects", "changed", "INTEGER NOT NULL DEFAULT 0"),
    ("requests", "body_hash", "TEXT NOT NULL DEFAULT ''"),
    ("requests", "effect", "TEXT NOT NULL DEFAULT '[]'"),
)
_CHANGED_INDEX = "CREATE INDEX IF NOT EXISTS objects_changed ON objects (changed)"


@dataclass(kw_only=True)
class Stored:
    """One object: `body` is what the API shows, `private` what only the sandbox knows.

    `parent` groups children (an intent's charges and refunds); `due` is when housekeeping must
    look at it, in epoch seconds.
    """

    kind: str
    created: float
    body: dict[str, Any]
    private: dict[str, Any] = field(default_factory=dict)
    parent: str | None = None
    due: float | None = None
    seq: int = 0

    @property
    def id(self) -> str:
        """Return the object's id."""
        return str(self.body["id"])


class Book:
    """One open book. Only the event loop's thread may touch it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1)
        self._db.row_factory = sqlite3.Row
        # Exclusive: a second sandbox on the same book fails at once instead of mixing two truths.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        self._add_columns()
        self._touched: list[str] = []
        self._waiting: asyncio.Future[None] | None = None
        self._begun = False

    def _add_columns(self) -> None:
        for table, column, kind in _ADDED:
            known = {row["name"] for row in self._db.execute(f"PRAGMA table_info({table})")}
            if column not in known:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        self._db.execute(_CHANGED_INDEX)
        row = self._db.execute("SELECT max(changed) FROM objects").fetchone()
        self._changes = int(row[0] or 0)

    def close(self) -> None:
        """Commit what is open and close the file."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.close()

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Run one statement in the transaction of this moment."""
        if not self._db.in_transaction:
            if self._begun and self._waiting is not None:
                raise sqlite3.OperationalError("the transaction of this moment was lost")
            self._db.execute("BEGIN IMMEDIATE")
            self._begun = True
        return self._db.execute(statement, values)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Make the writes of the block happen together or not at all."""
        self.execute("SAVEPOINT operation")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO operation")
                self._db.execute("RELEASE operation")
            raise
        self._db.execute("RELEASE operation")

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Collect the ids of the objects that the block saves, events aside."""
        touched: list[str] = []
        self._touched = touched
        yield touched
        self._touched = []

    async def durable(self) -> None:
        """Return once everything written so far is on the disk; raises what the disk says."""
        if self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            loop.call_soon(self._commit, self._waiting)
        await asyncio.shield(self._waiting)

    def _commit(self, waiting: asyncio.Future[None]) -> None:
        self._waiting = None
        try:
            if self._begun and not self._db.in_transaction:
                # A full disk makes SQLite roll back by itself: nobody may be told of success.
                raise sqlite3.OperationalError("the transaction of this moment was lost")
            if self._begun:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            waiting.set_exception(error)
        else:
            waiting.set_result(None)
        finally:
            self._begun = False

    # --- objects ------------------------------------------------------------------------------

    def save(self, item: Stored) -> Stored:
        """Insert or replace an object together with its metadata.

        Each save gets the next number of the book's changes, so that a reader can go on from
        where it was.
        """
        self._changes += 1
        body = msgspec.json.encode(item.body)
        private = msgspec.json.encode(item.private)
        row = self.execute(
            "INSERT INTO objects (id, kind, created, parent, due, body, private, changed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "parent = excluded.parent, due = excluded.due, body = excluded.body, "
            "private = excluded.private, changed = excluded.changed RETURNING seq",
            (item.id, item.kind, item.created, item.parent, item.due, body, private, self._changes),
        ).fetchone()
        item.seq = row[0]
        if item.kind != "event" and item.id not in self._touched:
            self._touched.append(item.id)
        for key, value in (item.body.get("metadata") or {}).items():
            self.execute(
                "INSERT INTO metadata (object, kind, key, value) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (object, key) DO UPDATE SET value = excluded.value",
                (item.id, item.kind, key, value),
            )
        return item

    def find(self, kind: str, object_id: str) -> Stored | None:
        """Return an object by kind and id, or None."""
        row = self.execute(
            "SELECT * FROM objects WHERE id = ? AND kind = ?", (object_id, kind)
        ).fetchone()
        return None if row is None else _stored(row)

    def select(self, where: str, values: tuple[Any, ...], *, limit: int = 100) -> list[Stored]:
        """Return objects by a condition, newest first."""
        rows = self.execute(
            f"SELECT * FROM objects WHERE {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - ours.
            (*values, limit),
        )
        return [_stored(row) for row in rows]

    def children(self, kind: str, parent: str) -> list[Stored]:
        """Return the objects of a kind below a parent, newest first."""
        return self.select("kind = ? AND parent = ?", (kind, parent), limit=1000)

    def due(self, now: float, *, limit: int = 50) -> list[Stored]:
        """Return the objects that housekeeping must look at."""
        return self.select("due IS NOT NULL AND due <= ?", (now,), limit=limit)

    # --- small facts --------------------------------------------------------------------------

    def fact(self, name: str) -> Any:
        """Return a named value, or None."""
        row = self.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def set_fact(self, name: str, value: Any) -> None:
        """Keep a named value."""
        self.execute(
            "INSERT INTO facts (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, msgspec.json.encode(value)),
        )

    def times(self, subject: str) -> int:
        """Return how often a fault has happened to a subject."""
        row = self.execute(
            "SELECT times FROM fault_counts WHERE subject = ?", (subject,)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def count(self, subject: str) -> None:
        """Note that a fault happened to a subject once more."""
        self.execute(
            "INSERT INTO fault_counts (subject, times) VALUES (?, 1) "
            "ON CONFLICT (subject) DO UPDATE SET times = times + 1",
            (subject,),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stored(row: sqlite3.Row) -> Stored:
    return Stored(
        kind=row["kind"],
        created=row["created"],
        body=msgspec.json.decode(row["body"]),
        private=msgspec.json.decode(row["private"]),
        parent=row["parent"],
        due=row["due"],
        seq=row["seq"],
    )
