"""Rules of promises: nothing that is not finished is without somebody who will finish it."""

from app.verification.rule import Rule

_EVENT_STATES = """
  SELECT 'psp event ' || id AS what, state AS why FROM psp_events
  WHERE state NOT IN ('received', 'parked', 'applied', 'foreign', 'ignored')
    OR (state IN ('received', 'parked')) <> (applied_at IS NULL)"""
_EVENTS_HELD = """
  SELECT 'psp event ' || e.id AS what, e.state || ' without a job' AS why FROM psp_events e
  WHERE e.state IN ('received', 'parked') AND NOT EXISTS (
    SELECT 1 FROM tasks t WHERE t.kind = 'inbox.apply' AND t.event_id = e.id
      AND t.state IN ('due', 'dead', 'discarded'))"""
_JOB_STATES = """
  SELECT 'job ' || id AS what, kind || ' is ' || state AS why FROM jobs
  WHERE state NOT IN ('due', 'done', 'dead', 'discarded')
    OR (state IN ('dead', 'discarded') AND reason IS NULL)
    OR (state <> 'due') <> (finished_at IS NOT NULL)"""
_DELIVERIES_HELD = """
  SELECT 'delivery ' || d.id AS what, d.state || ' without a job' AS why FROM deliveries d
  WHERE d.state IN ('queued', 'retrying') AND NOT EXISTS (
    SELECT 1 FROM tasks t WHERE t.kind = 'webhooks.deliver' AND t.delivery_id = d.id
      AND t.state IN ('due', 'dead', 'discarded'))"""
_POSTINGS_BURIED = """
  SELECT 'posting ' || p.key AS what, 'failed without a dead letter' AS why FROM postings p
  WHERE p.status = 'failed' AND NOT EXISTS (
    SELECT 1 FROM tasks t WHERE t.kind = 'ledger.posting' AND t.posting_id = p.id
      AND t.state IN ('due', 'dead', 'discarded'))"""
_ATTEMPTS_HELD = """
  SELECT 'attempt ' || a.id AS what, a.kind || ' is ' || a.state || ', nobody looks' AS why
  FROM attempts a
  WHERE a.state IN ('created', 'sent', 'open', 'unknown') AND a.next_check_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.payment_id = a.payment_id
      AND t.state IN ('due', 'dead'))"""
_REFUNDS_HELD = """
  SELECT 'refund ' || r.id AS what, 'pending, and nothing will end it' AS why FROM refunds r
  WHERE r.status = 'pending'
    AND NOT EXISTS (SELECT 1 FROM postings p WHERE p.refund_id = r.id
      AND p.status IN ('waiting', 'failed'))
    AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.payment_id = r.payment_id
      AND t.state IN ('due', 'dead'))
    AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.refund_id = r.id
      AND (a.state = 'needs_review' OR (a.state IN ('created', 'sent', 'open', 'unknown')
        AND a.next_check_at IS NOT NULL)))"""
_PAYMENTS_HELD = """
  SELECT 'payment ' || y.id AS what, y.status || ', and nothing will end it' AS why
  FROM payments y
  WHERE y.status IN ('processing', 'requires_action')
    AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.payment_id = y.id
      AND t.state IN ('due', 'dead'))
    AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.payment_id = y.id
      AND (a.state = 'needs_review' OR (a.state IN ('created', 'sent', 'open', 'unknown')
        AND a.next_check_at IS NOT NULL)))
    AND NOT EXISTS (SELECT 1 FROM risk_checks r WHERE r.payment_id = y.id
      AND r.review = 'waiting')"""
_RISKS_KEPT = """
  SELECT 'payment ' || r.payment_id AS what,
    a.kind || ' although its risk check says ' || r.decision AS why
  FROM risk_checks r JOIN payments y ON y.id = r.payment_id
    JOIN attempts a ON a.payment_id = r.payment_id
  WHERE r.decision = 'refuse'
    OR (r.decision = 'hold' AND (r.review IS NULL OR r.review <> 'approved')
      AND a.kind IN ('charge', 'capture'))"""
_REVIEWS_OPEN = """
  SELECT 'review of payment ' || r.payment_id AS what,
    'waits, and the payment is ' || y.status AS why
  FROM risk_checks r JOIN payments y ON y.id = r.payment_id
  WHERE r.review = 'waiting'
    AND (y.status <> 'processing' OR y.status_reason IS NULL
      OR y.status_reason <> 'held_for_review')"""
# "Now" is the newest call to a PSP: the rows must tell, whatever clock wrote them.
_UNKNOWN_ASKED = """
  SELECT 'attempt ' || o.id AS what, o.kind || ' is unknown for a day, nobody is asked' AS why
  FROM overdue o
  WHERE o.flagged_by < (SELECT MAX(started_at) FROM psp_calls)
    AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.attempt_id = o.id AND r.state = 'open')"""
_COMPARED = """
  SELECT 'attempt ' || a.id AS what, a.kind || ' is to be compared, nobody is asked' AS why
  FROM attempts a
  WHERE a.state = 'needs_review'
    AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.attempt_id = a.id AND r.state = 'open')"""
_TOLD_IN_ORDER = """
  SELECT 'payment ' || y.id AS what, 'told ' || COUNT(e.id) || ' events, numbered '
    || MIN(e.sequence) || ' to ' || MAX(e.sequence) || ' of ' || y.event_sequence AS why
  FROM payments y JOIN events e ON e.payment_id = y.id AND e.sequence IS NOT NULL
  GROUP BY y.id, y.event_sequence
  HAVING MAX(e.sequence) <> y.event_sequence
    OR MAX(e.sequence) - MIN(e.sequence) + 1 <> COUNT(e.id)"""

RULES = (
    Rule("I10", "an event from a PSP is in a known state", _EVENT_STATES),
    Rule("I10", "each event from a PSP is applied or has its job", _EVENTS_HELD),
    Rule("I10", "a job is due, or ended with a time and a reason", _JOB_STATES),
    Rule("I10", "each message to a shop is delivered or has its job", _DELIVERIES_HELD),
    Rule("I10", "each failed posting is in the dead letters", _POSTINGS_BURIED),
    Rule("I10", "each open attempt is looked at by somebody", _ATTEMPTS_HELD),
    Rule("I10", "each pending refund will end", _REFUNDS_HELD),
    Rule("I10", "each open payment will end", _PAYMENTS_HELD),
    Rule("I10", "nothing is sent for a payment that the risk check stopped", _RISKS_KEPT),
    Rule("I10", "a payment that waits for a review is held", _REVIEWS_OPEN),
    Rule("I16", "an outcome unknown for a day has an open review item", _UNKNOWN_ASKED),
    Rule("I16", "an attempt to be compared has an open review item", _COMPARED),
    Rule("I10", "events of a payment are numbered without a gap", _TOLD_IN_ORDER),
)
