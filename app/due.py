"""The statements that find due jobs: fair between keys, without those that are to be left alone.

Both take queue, share (rows of one key), limit, and held: a JSON list of beginnings of keys.
"""

from sqlalchemy import text

ON_POSTGRESQL = text(
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
ON_SQLITE = text(
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
