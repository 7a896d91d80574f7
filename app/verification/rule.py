"""A rule that the database alone can tell: a statement that returns the rows that break it."""

import msgspec
from sqlalchemy import ColumnElement, Select, TextClause, literal, text

# What both dialects write differently, under one name: the transfers of postings as rows, their
# guards, the ids in a job's arguments, and when an unknown outcome must have its review item (a
# day, and a quarter of an hour for the sweep). Statements below stand on these.
_SHARED_SQLITE = """
WITH moved AS (
  SELECT p.id AS posting_id, p.ledger_id, p.kind, p.status, p.payment_id, p.refund_id,
    CAST(t.key AS INTEGER) AS n, json_extract(t.value, '$[0]') AS debit,
    json_extract(t.value, '$[1]') AS credit, json_extract(t.value, '$[2]') AS minor
  FROM postings p, json_each(p.transfers) t
  WHERE json_type(p.transfers) = 'array' AND t.type = 'array'
), guards AS (
  SELECT id AS posting_id, json_extract(guard, '$[0]') AS account_id,
    json_extract(guard, '$[1]') AS minimum
  FROM postings WHERE json_type(guard) = 'array'
), tasks AS (
  SELECT id, kind, state, payment_id, json_extract(args, '$.event_id') AS event_id,
    json_extract(args, '$.delivery_id') AS delivery_id,
    json_extract(args, '$.posting_id') AS posting_id
  FROM jobs
), overdue AS (
  SELECT id, kind, COALESCE(first_sent_at, created_at) + 87300000000 AS flagged_by
  FROM attempts WHERE state = 'unknown'
)"""
_SHARED_POSTGRESQL = """
WITH moved AS (
  SELECT p.id AS posting_id, p.ledger_id, p.kind, p.status, p.payment_id, p.refund_id,
    t.n - 1 AS n, t.value->>0 AS debit, t.value->>1 AS credit,
    CASE WHEN jsonb_typeof(t.value->2) = 'number' THEN CAST(t.value->>2 AS numeric) END AS minor
  FROM postings p CROSS JOIN LATERAL jsonb_array_elements(
    CASE WHEN jsonb_typeof(p.transfers) = 'array' THEN p.transfers ELSE CAST('[]' AS jsonb) END
  ) WITH ORDINALITY AS t(value, n)
  WHERE jsonb_typeof(t.value) = 'array'
), guards AS (
  SELECT id AS posting_id, guard->>0 AS account_id, CAST(guard->>1 AS bigint) AS minimum
  FROM postings WHERE jsonb_typeof(guard) = 'array'
), tasks AS (
  SELECT id, kind, state, payment_id, args->>'event_id' AS event_id,
    args->>'delivery_id' AS delivery_id, CAST(args->>'posting_id' AS bigint) AS posting_id
  FROM jobs
), overdue AS (
  SELECT id, kind, COALESCE(first_sent_at, created_at) + INTERVAL '87300 seconds' AS flagged_by
  FROM attempts WHERE state = 'unknown'
)"""
# `flows` are what postings move: a refused reserve counts while its refund has not been told, as
# the refund's own columns and the payment's still hold it. `apart` is what has come for payments
# that it does not fit, less what went back, by payment.
_FLOWS = """
, flows AS (
  SELECT m.*, CASE WHEN m.debit LIKE '%merchant!_pending:%' ESCAPE '!' THEN -m.minor
                   WHEN m.credit LIKE '%merchant!_pending:%' ESCAPE '!' THEN m.minor
                   ELSE 0 END AS pending,
    CASE WHEN m.debit LIKE '%refunds!_in!_flight:%' ESCAPE '!' THEN -m.minor
         WHEN m.credit LIKE '%refunds!_in!_flight:%' ESCAPE '!' THEN m.minor
         ELSE 0 END AS in_flight
  FROM moved m LEFT JOIN refunds r ON r.id = m.refund_id
  WHERE m.status <> 'refused' OR r.status = 'pending'
), apart AS (
  SELECT payment_id,
    SUM(CASE kind WHEN 'suspense_return' THEN -minor ELSE minor END) AS minor
  FROM moved WHERE kind IN ('unexpected_receipt', 'suspense_return', 'suspense_reversal')
    AND status IN ('waiting', 'accepted')
  GROUP BY payment_id
)
"""

Statement = str | Select[tuple[str, str]]


class Rule(msgspec.Struct, frozen=True):
    """What must hold, and the statement that finds what does not.

    The statement returns two texts a row: what it is (a row's name) and why it breaks the rule.
    """

    invariant: str
    says: str
    finds: Statement

    def statement(self, *, sqlite: bool, limit: int) -> TextClause | Select[tuple[str, str]]:
        """Return the statement for a dialect, of at most `limit` rows in the order of names."""
        if not isinstance(self.finds, str):
            return self.finds.limit(limit)
        shared = _SHARED_SQLITE if sqlite else _SHARED_POSTGRESQL
        tail = ") AS broken ORDER BY what LIMIT :limit"
        statement = f"{shared}{_FLOWS}SELECT what, why FROM ({self.finds}{tail}"  # noqa: S608 # Ours.
        return text(statement).bindparams(limit=limit)


def named(kind: str, column: ColumnElement[str]) -> ColumnElement[str]:
    """Return an expression that names a row: `refund re_…`."""
    return literal(f"{kind} ") + column
