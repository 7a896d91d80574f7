"""Finding due jobs: fair between keys, without those that are to be left alone.

Both statements take queue, share (rows of one key), limit, and held: a JSON list of beginnings of
keys.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import db

_ON_POSTGRESQL = text(
    """
    WITH RECURSIVE keys(k) AS (
      (SELECT fair_key FROM jobs WHERE queue = :queue AND state = 'due' ORDER BY fair_key LIMIT 1)
      UNION ALL
      SELECT (SELECT j.fair_key FROM jobs j WHERE j.queue = :queue AND j.state = 'due'
              AND j.fair_key > keys.k ORDER BY j.fair_key LIMIT 1)
      FROM keys WHERE keys.k IS NOT NULL
    )
    SELECT due.id FROM keys CROSS JOIN LATERAL (
      SELECT j.id, j.run_at FROM jobs j
      WHERE j.queue = :queue AND j.state = 'due' AND j.fair_key = keys.k
        AND j.run_at <= statement_timestamp()
      ORDER BY j.run_at LIMIT :share FOR UPDATE SKIP LOCKED
    ) due
    WHERE keys.k IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM json_array_elements_text(CAST(:held AS json)) held(start)
      WHERE starts_with(keys.k, held.start)
    )
    ORDER BY due.run_at LIMIT :limit
    """
)
_ON_SQLITE = text(
    """
    SELECT id FROM (
      SELECT id, run_at, row_number() OVER (PARTITION BY fair_key ORDER BY run_at) AS nth
      FROM jobs WHERE queue = :queue AND state = 'due'
        AND run_at <= CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)
        AND NOT EXISTS (
          SELECT 1 FROM json_each(:held) held
          WHERE substr(jobs.fair_key, 1, length(held.value)) = held.value
        )
    ) WHERE nth <= :share ORDER BY run_at LIMIT :limit
    """
)


async def find(
    session: AsyncSession, *, queue: str, share: int, limit: int, held: Sequence[str]
) -> list[str]:
    """Return the ids of up to `limit` due jobs, of each fair key up to `share`, oldest first.

    PostgreSQL locks their rows and skips those that others hold.
    """
    wanted = _values(queue, share, limit, held)
    statement = _ON_SQLITE if db.is_sqlite(session) else _ON_POSTGRESQL
    return list((await session.execute(statement, wanted)).scalars())


async def any_due(sessions: db.Sessions, *, queue: str, held: Sequence[str]) -> bool:
    """Tell whether a claim would find a job. SQLite only, where a claim locks the whole file."""
    return bool(await sessions.look(_ON_SQLITE, _values(queue, 1, 1, held)))


def _values(queue: str, share: int, limit: int, held: Sequence[str]) -> dict[str, Any]:
    return {"queue": queue, "share": share, "limit": limit, "held": json.dumps(list(held))}
