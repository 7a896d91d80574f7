"""The one table of states: tone, icon and word of every badge."""

from typing import NamedTuple


class Face(NamedTuple):
    """How a state looks: a tone of the style sheet, an icon and a word."""

    tone: str
    icon: str
    word: str


_CLOCK, _LOADER, _HELP, _RETRY = "clock", "loader-2", "help-circle", "rotate-clockwise"

BADGES: dict[str, dict[str, Face]] = {
    "payment": {
        "requires_action": Face("wait", _CLOCK, "Waiting for customer"),
        "processing": Face("info", _LOADER, "Processing"),
        "outcome_unknown": Face("odd", _HELP, "Outcome unknown"),
        "held": Face("wait", "user-exclamation", "Needs review"),
        "needs_review": Face("wait", "user-exclamation", "Needs review"),
        "requires_capture": Face("info", "lock", "Authorised"),
        "succeeded": Face("ok", "check", "Succeeded"),
        "partly_refunded": Face("quiet", "receipt-refund", "Partly refunded"),
        "refunded": Face("quiet", "arrow-back-up", "Refunded"),
        "declined": Face("bad", "x", "Declined"),
        "failed": Face("bad", "x", "Failed"),
        "canceled": Face("quiet", "ban", "Cancelled"),
        "expired": Face("quiet", "clock-off", "Expired"),
        "disputed": Face("bad", "scale", "Disputed"),
    },
    "refund": {
        "pending": Face("info", _CLOCK, "Refund sent"),
        "processing": Face("info", _CLOCK, "Refund sent"),
        "unknown": Face("odd", _HELP, "Outcome unknown"),
        "outcome_unknown": Face("odd", _HELP, "Outcome unknown"),
        "succeeded": Face("ok", "check", "Refunded"),
        "failed": Face("bad", "x", "Refund failed"),
    },
    "attempt": {
        "created": Face("quiet", _CLOCK, "Not sent yet"),
        "sent": Face("info", _LOADER, "Sent, no answer yet"),
        "open": Face("wait", _CLOCK, "Waiting for customer"),
        "succeeded": Face("ok", "check", "Succeeded"),
        "declined": Face("bad", "x", "Declined"),
        "rejected": Face("bad", "x", "Not accepted"),
        "closed": Face("quiet", "ban", "Closed unpaid"),
        "not_sent": Face("quiet", _RETRY, "Never left us"),
        "unknown": Face("odd", _HELP, "Outcome unknown"),
        "needs_review": Face("wait", "user-exclamation", "Needs review"),
    },
    "job": {
        "due": Face("quiet", _CLOCK, "Due"),
        "running": Face("info", _LOADER, "Running"),
        "postponed": Face("wait", _RETRY, "Trying again"),
        "done": Face("ok", "check", "Done"),
        "dead": Face("bad", "inbox-off", "Dead-lettered"),
        "discarded": Face("quiet", "trash", "Discarded"),
    },
    "verdict": {
        "looking_up": Face("quiet", "zoom-question", "Looking up"),
        "safe": Face("ok", "send", "Safe to send"),
        "paid": Face("info", "circle-check", "Already paid"),
        "declined": Face("bad", "ban", "Do not send"),
        "unknown": Face("odd", _HELP, "Still unknown"),
    },
    "delivery": {
        "queued": Face("quiet", _CLOCK, "Queued"),
        "delivered": Face("ok", "check", "Delivered"),
        "retrying": Face("wait", _RETRY, "Trying again"),
        "exhausted": Face("bad", "x", "Gave up"),
    },
    "endpoint": {
        "active": Face("ok", "check", "Working"),
        "failing": Face("bad", "alert-triangle", "Failing"),
        "disabled": Face("quiet", "ban", "Switched off"),
    },
    "breaker": {
        "closed": Face("ok", "check", "Working"),
        "half_open": Face("wait", "test-pipe", "Testing one call"),
        "open": Face("bad", "player-pause", "Paused"),
    },
    "api_key": {
        "active": Face("ok", "check", "Working"),
        "expiring": Face("wait", _CLOCK, "Ends soon"),
        "revoked": Face("quiet", "ban", "Revoked"),
    },
    "process": {
        "alive": Face("ok", "check", "Working"),
        "waiting": Face("wait", _RETRY, "Waiting"),
        "late": Face("bad", "alert-triangle", "No sign of life"),
    },
}

WALLET_TONES = {"available": "ok", "pending": "info", "reserved": "wait"}


def face(kind: str, status: str) -> Face:
    """Return how a state looks. Raises KeyError for an unknown kind.

    A state this table does not know (a newer release may write one) shows its own name.
    """
    known = BADGES[kind].get(status)
    return known or Face("quiet", _HELP, status.replace("_", " ").capitalize())


def payment_face(
    status: str,
    *,
    status_reason: str | None = None,
    captured: int = 0,
    refunded: int = 0,
    declined: bool = False,
) -> str:
    """Return the key of BADGES["payment"] for a payment.

    `captured` and `refunded` are minor units; `declined` says that a bank said no.
    """
    if status == "processing" and status_reason == "outcome_unknown":
        return "outcome_unknown"
    if status_reason in {"held_for_operator", "held_for_review"}:
        return "held"
    if status == "succeeded" and refunded > 0:
        return "refunded" if refunded >= captured else "partly_refunded"
    if status == "failed" and declined:
        return "declined"
    return status
