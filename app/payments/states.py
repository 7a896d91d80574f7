"""The state graphs of payments, refunds and attempts; pure."""

from datetime import datetime, timedelta

FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
HELD = "held_for_review"  # A person decides: about a risk, or about what does not fit.
RISK_REFUSED = "risk_refused"  # The failure code of a payment that the risk check refused.
OTHER_AMOUNT = "other_amount"  # The code of one whose refund is booked as one that the PSP made.
BESIDE = "booked_beside"  # The code of one that paid a refund which had another end by then.
RETURNED = "refunded_at_psp"  # The code of one whose money fitted nothing and has gone back.
HELD_TWICE = "held_twice"  # The code of one whose hold another one makes needless.
SAYS_TWICE = "The PSP holds the money a second time. Cancel this hold there, or let it lapse."
UNEXPECTED = "unexpected"  # The code of an attempt whose money came after the payment's end.
STATUSES = (
    "requires_action",
    "processing",
    "requires_capture",
    "succeeded",
    "failed",
    "canceled",
    "expired",
)
PAYMENT_MOVES: dict[str, frozenset[str]] = {
    "requires_action": frozenset(
        {"processing", "requires_capture", "succeeded", "canceled", "expired"}
    ),
    "processing": frozenset(
        {
            "requires_action",
            "requires_capture",
            "succeeded",
            "failed",
            "canceled",
            "expired",
        }
    ),
    "requires_capture": frozenset({"processing", "succeeded", "canceled"}),
} | dict.fromkeys(FINAL, frozenset())

REFUND_MOVES: dict[str, frozenset[str]] = {
    "pending": frozenset({"succeeded", "failed"}),
    "succeeded": frozenset({"failed"}),  # Where the PSP takes a refund back.
    "failed": frozenset(),
}

ATTEMPT_FINAL = frozenset({"succeeded", "declined", "rejected", "not_sent", "closed"})
LANE = frozenset({"charge", "capture", "void"})  # One of these at a time on a payment.
# Each history in tests/simulation holds it.
ATTEMPT_MOVES: dict[str, frozenset[str]] = {
    # Back to created: the request surely did not leave us, or was turned away unread; the same
    # attempt is sent again with the same key. Rejected unsent: what it was to end has ended.
    # Unknown: it was held to have had no effect, and the PSP tells otherwise.
    "created": frozenset({"sent", "not_sent", "closed", "rejected", "unknown"}),
    "sent": ATTEMPT_FINAL | {"created", "open", "unknown", "needs_review"},
    # Rejected: it holds money for a payment that another page's hold carries.
    "open": frozenset({"succeeded", "closed", "needs_review", "rejected"}),
    "unknown": ATTEMPT_FINAL | {"created", "open", "sent", "needs_review"},
    # A person has decided, or what could not be found has turned up.
    "needs_review": ATTEMPT_FINAL | {"unknown", "open"},
    "not_sent": frozenset({"unknown"}),
    "rejected": frozenset({"unknown"}),
} | dict.fromkeys(("succeeded", "declined", "closed"), frozenset())

_CHECKS = (5, 15, 60, 300, 900, 3600)
_DAY = timedelta(days=1)
ALARM_AFTER = timedelta(hours=1)  # An outcome that is unknown for so long rings.
REVIEW_AFTER = timedelta(hours=24)  # And after this a person is asked, while looks go on.


def next_check(checks: int, *, since: datetime, now: datetime) -> float:
    """Return in how many seconds an unknown outcome is looked at again.

    5 s, 15 s, 1 min, 5 min, 15 min, 1 h, then each hour; after a day once a day, for ever. A look
    that nobody answered does not count; see `outcomes.unknown`.
    """
    if now - since > _DAY:
        return _DAY.total_seconds()
    return float(_CHECKS[min(checks, len(_CHECKS) - 1)])


def may_move(moves: dict[str, frozenset[str]], old: str, new: str) -> bool:
    """Tell whether a graph has the edge; staying is always allowed."""
    return old == new or new in moves[old]
