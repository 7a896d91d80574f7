"""Rules of payments and refunds: what they say about money is what the ledger was asked for."""

from app.verification.rule import Rule

_ONE_CHARGE = """
  SELECT 'payment ' || payment_id AS what, COUNT(DISTINCT posting_id) || ' captures' AS why
  FROM flows WHERE kind = 'capture' AND payment_id IS NOT NULL
  GROUP BY payment_id HAVING COUNT(DISTINCT posting_id) > 1"""
_ONE_SUCCESS = """
  SELECT 'payment ' || a.payment_id AS what,
    COUNT(*) || ' successful charges, ' || COALESCE(u.receipts, 0) || ' of them unexpected' AS why
  FROM attempts a LEFT JOIN (
    SELECT payment_id, COUNT(*) AS receipts FROM postings
    WHERE kind = 'unexpected_receipt' GROUP BY payment_id
  ) u ON u.payment_id = a.payment_id
    JOIN payments y ON y.id = a.payment_id
  WHERE a.kind IN ('charge', 'checkout') AND a.state = 'succeeded'
    AND y.status NOT IN ('failed', 'canceled', 'expired')
  GROUP BY a.payment_id, u.receipts HAVING COUNT(*) > 1 + COALESCE(u.receipts, 0)"""
_CAPTURED = """
  SELECT 'payment ' || y.id AS what, 'captured ' || y.amount_captured || ' of ' || y.amount
    || ', fee ' || y.fee || '; the ledger was asked for ' || COALESCE(f.captured, 0) || ' and '
    || COALESCE(f.fee, 0) AS why
  FROM payments y LEFT JOIN (
    SELECT payment_id,
      SUM(CASE WHEN debit LIKE '%psp!_receivable:%' ESCAPE '!' THEN minor ELSE 0 END) AS captured,
      SUM(CASE WHEN credit LIKE '%platform!_fees:%' ESCAPE '!' THEN minor ELSE 0 END) AS fee
    FROM flows WHERE kind = 'capture' GROUP BY payment_id
  ) f ON f.payment_id = y.id
  WHERE y.amount_captured <> COALESCE(f.captured, 0) OR y.fee <> COALESCE(f.fee, 0)
    OR y.amount_captured > y.amount"""
_PENDING = """
  SELECT 'payment ' || y.id AS what, 'pending ' || y.amount_pending || '; by its postings '
    || COALESCE(f.pending, 0) AS why
  FROM payments y LEFT JOIN (
    SELECT payment_id, SUM(pending) AS pending
    FROM flows GROUP BY payment_id
  ) f ON f.payment_id = y.id
  WHERE y.amount_pending <> COALESCE(f.pending, 0)"""
_KNOWN_PAYMENT = """
  SELECT 'posting ' || p.key AS what, 'there is no payment ' || p.payment_id AS why
  FROM postings p LEFT JOIN payments y ON y.id = p.payment_id
  WHERE p.payment_id IS NOT NULL AND y.id IS NULL"""
_REFUNDED = """
  SELECT 'payment ' || y.id AS what, 'refunded ' || y.amount_refunded || ' of '
    || y.amount_captured || ', fee returned ' || y.fee_returned || '; its refunds are '
    || COALESCE(r.amount, 0) || ' and ' || COALESCE(r.share, 0) AS why
  FROM payments y LEFT JOIN (
    SELECT payment_id, SUM(amount) AS amount, SUM(fee_share) AS share
    FROM refunds WHERE status <> 'failed' GROUP BY payment_id
  ) r ON r.payment_id = y.id
  WHERE y.amount_refunded <> COALESCE(r.amount, 0) OR y.fee_returned <> COALESCE(r.share, 0)
    OR COALESCE(r.amount, 0) > y.amount_captured OR y.fee_returned > y.fee"""
_PARTS = """
  SELECT 'refund ' || r.id AS what, r.amount || ' = ' || r.from_pending || ' + '
    || r.from_available || ' + ' || r.fee_share || '; its reserve has '
    || COALESCE(f.from_pending, 0) || ' + ' || COALESCE(f.from_available, 0) || ' + '
    || COALESCE(f.fee_share, 0) AS why
  FROM refunds r LEFT JOIN (
    SELECT refund_id,
      SUM(CASE WHEN debit LIKE '%merchant!_pending:%' ESCAPE '!' THEN minor ELSE 0 END)
        AS from_pending,
      SUM(CASE WHEN debit LIKE '%merchant!_available:%' ESCAPE '!' THEN minor ELSE 0 END)
        AS from_available,
      SUM(CASE WHEN debit LIKE '%platform!_fees:%' ESCAPE '!' THEN minor ELSE 0 END) AS fee_share
    FROM moved WHERE kind = 'refund_reserve' GROUP BY refund_id
  ) f ON f.refund_id = r.id
  WHERE r.amount <> r.from_pending + r.from_available + r.fee_share
    OR r.from_pending <> COALESCE(f.from_pending, 0)
    OR r.from_available <> COALESCE(f.from_available, 0)
    OR r.fee_share <> COALESCE(f.fee_share, 0)"""
_IN_FLIGHT = """
  SELECT 'refund ' || r.id AS what, r.status || ', in flight '
    || COALESCE(f.in_flight, 0) || ' of ' || r.amount AS why
  FROM refunds r LEFT JOIN (
    SELECT refund_id, SUM(in_flight) AS in_flight FROM flows GROUP BY refund_id
  ) f ON f.refund_id = r.id
  WHERE COALESCE(f.in_flight, 0) <> CASE WHEN r.status = 'pending' THEN r.amount ELSE 0 END"""
_GONE = """
  SELECT 'refund ' || r.id AS what, r.status || ', but the PSP gave '
    || COALESCE(f.out, 0) || ' of ' || r.amount AS why
  FROM refunds r LEFT JOIN (
    SELECT refund_id, SUM(CASE WHEN credit LIKE '%psp!_receivable:%' ESCAPE '!' THEN minor
      WHEN debit LIKE '%psp!_receivable:%' ESCAPE '!' THEN -minor ELSE 0 END) AS out
    FROM flows GROUP BY refund_id
  ) f ON f.refund_id = r.id
  WHERE COALESCE(f.out, 0) <> CASE WHEN r.status = 'succeeded' THEN r.amount ELSE 0 END"""
_RESERVED_FIRST = """
  SELECT 'attempt ' || a.id AS what,
    'sent, but the reserve of ' || COALESCE(a.refund_id, 'no refund') || ' is '
    || COALESCE(p.status, 'missing') AS why
  FROM attempts a LEFT JOIN postings p ON p.key = 'refund_reserve:' || a.refund_id
  WHERE a.kind = 'refund' AND a.first_sent_at IS NOT NULL
    AND (p.status IS NULL OR p.status <> 'accepted')"""
_HELD_APART = """
  SELECT 'payment ' || payment_id AS what, minor || ' of it is held apart' AS why
  FROM apart WHERE minor < 0"""
_ASKED_ABOUT = """
  SELECT 'payment ' || a.payment_id AS what,
    a.minor || ' of it is held apart, and people are asked about less' AS why
  FROM apart a WHERE a.minor > (
    SELECT COALESCE(SUM(r.amount), 0) FROM reviews r
    WHERE r.payment_id = a.payment_id AND r.state = 'open'
      AND r.kind IN ('mismatch', 'unexpected_receipt')
  )"""
_TWICE = """
  SELECT 'refund ' || r.id AS what, r.psp_reference || ' went back from suspense as well' AS why
  FROM refunds r JOIN postings p ON p.payment_id = r.payment_id AND p.kind = 'suspense_return'
    AND p.key LIKE '%:' || r.psp_reference"""

RULES = (
    Rule("I4", "a payment is captured once", _ONE_CHARGE),
    Rule("I4", "a payment has one successful charge", _ONE_SUCCESS),
    Rule("I4", "what a payment captured is what the ledger was asked for", _CAPTURED),
    Rule("I4", "what of a payment is pending is what its postings left there", _PENDING),
    Rule("I4", "a posting's payment exists", _KNOWN_PAYMENT),
    Rule("I5", "refunds that did not fail are no more than was captured", _REFUNDED),
    Rule("I5", "a refund takes what its reserve took", _PARTS),
    Rule("I5", "a refund is set aside until it ends", _IN_FLIGHT),
    Rule("I5", "what the PSP gave back is what succeeded", _GONE),
    Rule("I5", "what went back of money that fits no payment had come", _HELD_APART),
    Rule("I5", "a refund at the PSP is booked in one place", _TWICE),
    Rule("I16", "a person is asked about money that fits no payment", _ASKED_ABOUT),
    Rule("I14", "a refund is sent after the ledger accepted its reserve", _RESERVED_FIRST),
)
