"""The raw limit of accepting: the same rows as one prepared statement and one commit by asyncpg."""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Any

import asyncpg

from app.cli.bench.house import BenchError
from app.ids import Ids
from app.runtime import utc_now

# The rows of one payment: table, and the column that names the payment.
_TABLES = (
    ("payments", "id"),
    ("customers_of_payments", "payment_id"),
    ("events", "payment_id"),
    ("jobs", "payment_id"),
    ("audit_rows", "object_id"),
    ("idempotency_keys", "resource_id"),
)


class RawInserts:
    """Inserts copies of a payment that the API has accepted, with fresh ids of the same length."""

    def __init__(self, url: str, concurrency: int) -> None:
        self._url = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._concurrency = concurrency
        self._connections: list[Any] = []
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._base: list[Any] = []
        self._makers: dict[str, Callable[[], str]] = {}
        # Where an id stands: the place, the id, and the text around it when there is more.
        self._slots: list[tuple[int, str, str | None]] = []

    async def open(self, payment_id: str) -> None:
        """Connect, read the pattern and prepare the statement. Raises BenchError."""
        connection = await asyncpg.connect(self._url)
        self._connections.append(connection)
        rows = []
        for table, column in _TABLES:
            found = await connection.fetch(
                f"SELECT * FROM {table} WHERE {column} = $1",  # noqa: S608 - our own names
                payment_id,
            )
            if len(found) != 1:
                raise BenchError(f"an accepted payment has {len(found)} rows in {table}, not one.")
            rows.append((table, dict(found[0])))
        statement = self._learn(rows)
        more = [await asyncpg.connect(self._url) for _ in range(self._concurrency - 1)]
        self._connections += more
        for one in self._connections:
            self._idle.put_nowait(await one.prepare(statement))

    def _learn(self, rows: list[tuple[str, dict[str, Any]]]) -> str:
        ids, numbers = Ids(utc_now), itertools.count(1)

        def maker(old: str) -> Callable[[], str]:
            return lambda: ids(old.partition("_")[0])

        for table, row in rows:
            if "id" in row:
                self._makers[row["id"]] = maker(row["id"])
            if table == "payments":
                self._makers[row["reference"]] = lambda: f"demo-again-{next(numbers):08}"
            if table == "idempotency_keys":
                self._makers[row["key_hash"]] = lambda: secrets.token_hex(32)
        parts = []
        for table, row in rows:
            start = len(self._base) + 1
            self._base += row.values()
            places = ", ".join(f"${start + index}" for index in range(len(row)))
            names = ", ".join(f'"{name}"' for name in row)
            parts.append(f"INSERT INTO {table} ({names}) VALUES ({places})")  # noqa: S608 - as above
        for index, value in enumerate(self._base):
            for old in self._makers:
                if isinstance(value, str) and old in value:
                    self._slots.append((index, old, None if value == old else value))
        firsts = ", ".join(f"i{index} AS ({part})" for index, part in enumerate(parts[:-1]))
        return f"WITH {firsts} {parts[-1]}"

    def _values(self) -> list[Any]:
        fresh = {old: make() for old, make in self._makers.items()}
        values = list(self._base)
        for index, old, around in self._slots:
            values[index] = fresh[old] if around is None else around.replace(old, fresh[old])
        return values

    async def once(self) -> None:
        """Insert all rows of one payment and commit."""
        prepared = await self._idle.get()
        await prepared.fetch(*self._values())
        self._idle.put_nowait(prepared)

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            await connection.close()
