"""Rules of the ledger itself: postings, entries and accounts tell the same story."""

from app.verification.rule import Rule

_CHANGE = """
  SELECT e.ledger_id, e.seq, e.account_id, e."before", e."after", a.kind, a.balance, a.version,
    CASE WHEN a.kind IN ('psp_receivable', 'psp_fees') THEN e.debit - e.credit
         ELSE e.credit - e.debit END AS change,
    LAG(e."after") OVER (PARTITION BY e.account_id ORDER BY e.seq) AS last
  FROM entries e JOIN accounts a ON a.id = e.account_id"""

_BALANCED = """
  SELECT 'posting ' || p.key AS what,
    COUNT(e.seq) || ' entries, debits ' || COALESCE(SUM(e.debit), 0) || ', credits '
      || COALESCE(SUM(e.credit), 0) || ', currencies ' || COUNT(DISTINCT a.currency) AS why
  FROM postings p LEFT JOIN entries e ON e.posting_id = p.id
  LEFT JOIN accounts a ON a.id = e.account_id
  WHERE p.status = 'accepted' GROUP BY p.id, p.key
  HAVING COUNT(e.seq) < 2 OR SUM(e.debit) <> SUM(e.credit) OR COUNT(DISTINCT a.currency) <> 1"""
_ONE_SIDE = """
  SELECT 'entry ' || ledger_id || ' ' || seq AS what,
    'debit ' || debit || ', credit ' || credit AS why
  FROM entries
  WHERE NOT ((debit > 0 AND credit = 0) OR (credit > 0 AND debit = 0))"""
_FOUNDED = """
  SELECT 'entry ' || e.ledger_id || ' ' || e.seq AS what,
    'its posting ' || e.posting_id || ' is ' || COALESCE(p.status, 'missing') AS why
  FROM entries e LEFT JOIN postings p ON p.id = e.posting_id AND p.ledger_id = e.ledger_id
  WHERE p.status IS NULL OR p.status <> 'accepted'"""
_AS_ASKED = """
  SELECT 'posting ' || p.key AS what,
    'line ' || x.line || ' of ' || x.minor || ' is not in the ledger' AS why
  FROM (
    SELECT posting_id, 2 * n + 1 AS line, debit AS account_id, minor, minor AS debit, 0 AS credit
    FROM moved WHERE status = 'accepted'
    UNION ALL
    SELECT posting_id, 2 * n + 2, credit, minor, 0, minor FROM moved WHERE status = 'accepted'
  ) x JOIN postings p ON p.id = x.posting_id
  LEFT JOIN entries e ON e.posting_id = x.posting_id AND e.line = x.line
    AND e.account_id = x.account_id AND e.debit = x.debit AND e.credit = x.credit
  WHERE e.seq IS NULL"""
_NO_MORE = """
  SELECT 'posting ' || p.key AS what,
    e.entries || ' entries for ' || COALESCE(m.transfers, 0) || ' transfers' AS why
  FROM postings p
  JOIN (SELECT posting_id, COUNT(*) AS entries FROM entries GROUP BY posting_id) e
    ON e.posting_id = p.id
  LEFT JOIN (SELECT posting_id, COUNT(*) AS transfers FROM moved GROUP BY posting_id) m
    ON m.posting_id = p.id
  WHERE e.entries <> 2 * COALESCE(m.transfers, 0)"""
_STAMPED = """
  SELECT 'posting ' || p.key AS what, p.status || ' at ' || COALESCE(p.seq, 0) || ', entries '
    || COALESCE(MIN(e.seq), 0) || ' to ' || COALESCE(MAX(e.seq), 0) AS why
  FROM postings p LEFT JOIN entries e ON e.posting_id = p.id AND e.ledger_id = p.ledger_id
  GROUP BY p.id, p.key, p.status, p.seq
  HAVING (p.status = 'accepted' AND (p.seq IS NULL OR p.seq <> COALESCE(MAX(e.seq), 0)
      OR MAX(e.seq) - MIN(e.seq) + 1 <> COUNT(e.seq)))
    OR (p.status <> 'accepted' AND p.seq IS NOT NULL)"""
_ANSWERED = """
  SELECT 'posting ' || key AS what, 'status ' || status AS why FROM postings
  WHERE status NOT IN ('waiting', 'accepted', 'refused', 'failed')
    OR (status = 'waiting') <> (answered_at IS NULL)
    OR (status IN ('refused', 'failed') AND reason IS NULL)"""
_GAPLESS = """
  SELECT 'entry ' || ledger_id || ' ' || seq AS what,
    'comes after ' || COALESCE(last, 0) AS why
  FROM (SELECT ledger_id, seq, LAG(seq) OVER (PARTITION BY ledger_id ORDER BY seq) AS last
        FROM entries) e
  WHERE seq <> COALESCE(last, 0) + 1"""
_LAST = """
  SELECT 'ledger ' || l.id AS what,
    'says position ' || l.last_seq || ', its last entry is ' || COALESCE(MAX(e.seq), 0) AS why
  FROM ledgers l LEFT JOIN entries e ON e.ledger_id = l.id
  GROUP BY l.id, l.last_seq HAVING l.last_seq <> COALESCE(MAX(e.seq), 0)"""
_CHAIN = f"""
  SELECT 'entry ' || ledger_id || ' ' || seq AS what, 'the balance was ' || COALESCE(last, 0)
    || ', it says ' || "before" || ' and ' || change || ' more is ' || "after" AS why
  FROM ({_CHANGE}) e
  WHERE "before" <> COALESCE(last, 0) OR "after" <> "before" + change"""  # noqa: S608 # Constants.
_FOLD = f"""
  SELECT 'account ' || a.id AS what, 'balance ' || a.balance || ' after ' || a.version
    || ' entries, the ledger has ' || COALESCE(SUM(e.change), 0) || ' in ' || COUNT(e.seq) AS why
  FROM accounts a LEFT JOIN ({_CHANGE}) e ON e.account_id = a.id
  GROUP BY a.id, a.balance, a.version
  HAVING a.balance <> COALESCE(SUM(e.change), 0)
    OR a.version <> COUNT(e.seq)"""  # noqa: S608 # Constants.
_KNOWN_ACCOUNT = """
  SELECT 'entry ' || e.ledger_id || ' ' || e.seq AS what,
    'there is no account ' || e.account_id AS why
  FROM entries e LEFT JOIN accounts a ON a.id = e.account_id WHERE a.id IS NULL"""
_FLOOR = f"""
  SELECT 'entry ' || ledger_id || ' ' || seq AS what, kind || ' is ' || "after" AS why
  FROM ({_CHANGE}) e WHERE "after" < 0 AND change < 0
    AND kind IN ('merchant_pending', 'refunds_in_flight', 'platform_fees', 'suspense')
"""  # noqa: S608 # Constants.
_GUARDED = f"""
  SELECT 'entry ' || e.ledger_id || ' ' || e.seq AS what, 'merchant_available is ' || e."after"
    || CASE WHEN g.posting_id IS NULL THEN ' without a guard'
            ELSE ', at least ' || g.minimum || ' was needed' END AS why
  FROM ({_CHANGE}) e JOIN entries x ON x.ledger_id = e.ledger_id AND x.seq = e.seq
  LEFT JOIN guards g ON g.posting_id = x.posting_id AND g.account_id = e.account_id
  WHERE e.kind = 'merchant_available' AND e.change < 0 AND e."after" < 0
    AND (g.posting_id IS NULL OR e."after" < g.minimum)"""  # noqa: S608 # Constants.
_ACCOUNT_NAMES = """
  SELECT 'account ' || a.id AS what, 'its columns say ' || a.ledger_id || ':' || a.kind || ':'
    || a.owner || ':' || a.currency || ' of ' || COALESCE(a.merchant_id, 'nobody') AS why
  FROM accounts a LEFT JOIN ledgers l ON l.id = a.ledger_id AND l.livemode = a.livemode
  WHERE l.id IS NULL OR a.id <> a.ledger_id || ':' || a.kind || ':' || a.owner || ':' || a.currency
    OR COALESCE(a.merchant_id, '') <> CASE
      WHEN a.kind IN ('merchant_pending', 'merchant_available', 'refunds_in_flight') THEN a.owner
      ELSE '' END"""
_SAME_OWNER = """
  SELECT 'entry ' || e.ledger_id || ' ' || e.seq AS what, 'posting ' || p.key || ' of '
    || COALESCE(p.merchant_id, 'nobody') || ' moves the account ' || a.id AS why
  FROM entries e JOIN postings p ON p.id = e.posting_id JOIN accounts a ON a.id = e.account_id
  WHERE a.livemode <> p.livemode OR a.ledger_id <> e.ledger_id
    OR (a.merchant_id IS NOT NULL AND a.merchant_id <> COALESCE(p.merchant_id, ''))"""

RULES = (
    Rule("I1", "each accepted posting balances in one currency", _BALANCED),
    Rule("I1", "an entry has one side and an amount above zero", _ONE_SIDE),
    Rule("I1", "each entry belongs to an accepted posting of its ledger", _FOUNDED),
    Rule("I1", "what a posting asked for is in the ledger", _AS_ASKED),
    Rule("I1", "nothing else is in the ledger", _NO_MORE),
    Rule("I1", "an accepted posting names its last entry", _STAMPED),
    Rule("I1", "positions have no gap", _GAPLESS),
    Rule("I1", "a ledger knows its last position", _LAST),
    Rule("I2", "each entry starts from the balance before it", _CHAIN),
    Rule("I2", "a balance is the sum of its entries", _FOLD),
    Rule("I2", "each entry has its account", _KNOWN_ACCOUNT),
    Rule("I10", "each posting is waiting or answered", _ANSWERED),
    Rule("I13", "an account is what its id says", _ACCOUNT_NAMES),
    Rule("I13", "a posting moves accounts of its own merchant and mode", _SAME_OWNER),
    Rule("I14", "no account that may not is taken below zero", _FLOOR),
    Rule("I14", "the available part goes below zero only as its guard allows", _GUARDED),
)
