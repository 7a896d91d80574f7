"""Idempotency keys: one transaction per key, replay of the answer, a tombstone for ever."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Index, String, Text, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app import db
from app.errors import Invalid, Refused, TooMany

KEPT = timedelta(days=30)
FINGERPRINT_RULE = 1


class KeyRow(db.Base):
    """A key that was used: the tombstone stays for ever, the answer for 30 days."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(String(60), primary_key=True)
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    fingerprint_rule: Mapped[int]
    status: Mapped[int | None]  # HTTP status of the first answer; null once it was purged.
    resource_id: Mapped[str | None] = mapped_column(db.id_column_type())
    refusal: Mapped[str | None] = mapped_column(Text)  # The body of a stored refusal, as sent.
    created_at: Mapped[datetime]

    __table_args__ = (
        Index(
            "ix_idempotency_keys_created_at",
            "created_at",
            postgresql_where=text("status IS NOT NULL"),
            sqlite_where=text("status IS NOT NULL"),
        ),
        Index("ix_idempotency_keys_resource_id", "resource_id"),
    )


class KeyMissing(Invalid):
    """The route needs an Idempotency-Key."""

    code = "idempotency-key-missing"


class KeyMalformed(Invalid):
    """The header is not 1 to 255 visible ASCII characters, or came twice."""

    code = "idempotency-key-invalid"


class KeyReused(Refused):
    """The key was used for another request."""

    code = "idempotency-key-reused"


class KeyExpired(Refused):
    """The key's answer is no longer kept; it still protects from doing the work twice."""

    code = "idempotency-key-expired"


class InProgress(TooMany):
    """The first request with this key is running right now."""

    code = "idempotency-in-progress"
    title = "A request with this Idempotency-Key is in progress"

    def __init__(self) -> None:
        super().__init__("The first request with this key is still running.", retry_after=1)


class Stored(msgspec.Struct, frozen=True):
    """The first request's answer: a resource to show as it is now, or a refusal to repeat."""

    status: int
    resource_id: str | None
    refusal: str | None


def read_key(values: list[str]) -> str | None:
    """Return the key from the header's values, quotes taken off; None when there is none.

    Raises KeyMalformed.
    """
    if not values:
        return None
    if len(values) > 1:
        raise KeyMalformed("Send one Idempotency-Key header.", param="Idempotency-Key")
    value = values[0].strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not 1 <= len(value) <= 255 or any(not "!" <= char <= "~" for char in value):
        raise KeyMalformed(
            "An Idempotency-Key has 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )
    return value


def fingerprint(method: str, path: str, sent: Any) -> str:
    """Hash a request: method, path with its parameters, the canonical JSON of the fields sent.

    `sent` is taken after validation and before defaults, so that spacing, field order and a
    later release with more optional fields change nothing.
    """
    canonical = json.dumps(sent, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"{method} {path}\n{canonical}".encode()).hexdigest()


def key_hash(key: str) -> str:
    """Return what is stored of a key: a hash, as the key may be an order number."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeysInProgress:
    """The keys that a process works on. SQLite only: PostgreSQL has advisory locks for it."""

    def __init__(self) -> None:
        self._keys: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def hold(self, sqlite: bool, scope: str, hashed: str) -> AsyncIterator[None]:
        """On SQLite, refuse a key that is in progress, before waiting for the write lock.

        Raises InProgress.
        """
        if not sqlite:
            yield
            return
        if (scope, hashed) in self._keys:
            raise InProgress
        self._keys.add((scope, hashed))
        try:
            yield
        finally:
            self._keys.discard((scope, hashed))


_LOOK = text(
    "SELECT pg_try_advisory_xact_lock(:lock) AS locked, k.* FROM (SELECT 1) AS one "
    "LEFT JOIN idempotency_keys k ON k.scope = :scope AND k.key_hash = :hash"
)


async def look(
    session: AsyncSession, *, scope: str, hashed: str, fingerprint: str
) -> Stored | None:
    """Lock the key in this transaction and return the stored answer, if there is one.

    On PostgreSQL lock and look are one round trip. Its snapshot may be older than the lock; a
    first answer committed in between then shows as a unique violation when the row is stored,
    and the caller runs the transaction again. Raises InProgress, KeyReused, KeyExpired.
    """
    if db.is_sqlite(session):
        found = await session.get(KeyRow, (scope, hashed))
        return None if found is None else _answer(found, fingerprint)
    values = {"lock": lock_number(scope, hashed), "scope": scope, "hash": hashed}
    row = (await session.execute(_LOOK, values)).one()
    if not row.locked:
        raise InProgress
    return None if row.scope is None else _answer(row, fingerprint)


def lock_number(scope: str, hashed: str) -> int:
    """Return the number of the advisory lock that a key is worked on under (PostgreSQL)."""
    digest = hashlib.sha256(f"{scope}\0{hashed}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _answer(row: Any, fingerprint: str) -> Stored:
    if row.status is None:
        raise KeyExpired("This Idempotency-Key was used more than 30 days ago; use a new one.")
    if row.fingerprint_rule == FINGERPRINT_RULE and row.fingerprint != fingerprint:
        raise KeyReused("This Idempotency-Key was used with other parameters.")
    return Stored(row.status, row.resource_id, row.refusal)


def row(
    *,
    scope: str,
    hashed: str,
    fingerprint: str,
    status: int,
    resource_id: str | None,
    refusal: str | None = None,
    now: datetime,
) -> dict[str, Any]:
    """Return the values of a key row, stored in the transaction of the first request."""
    return {
        "scope": scope,
        "key_hash": hashed,
        "fingerprint": fingerprint,
        "fingerprint_rule": FINGERPRINT_RULE,
        "status": status,
        "resource_id": resource_id,
        "refusal": refusal,
        "created_at": now,
    }


async def purge(session: AsyncSession, *, now: datetime) -> int:
    """Forget answers older than 30 days; the tombstones stay. Returns how many."""
    result = await session.execute(
        update(KeyRow)
        .where(KeyRow.created_at < now - KEPT, KeyRow.status.is_not(None))
        .values(status=None, resource_id=None, refusal=None)
    )
    return int(result.rowcount)  # type: ignore[attr-defined] # An UPDATE gives a CursorResult.


async def first_key_of(session: AsyncSession, *, resource_id: str) -> KeyRow | None:
    """Return the key row that made a resource, for the timeline."""
    query = select(KeyRow).where(KeyRow.resource_id == resource_id).order_by(KeyRow.created_at)
    return await session.scalar(query.limit(1))
