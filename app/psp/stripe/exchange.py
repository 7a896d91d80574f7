"""One request to Stripe as the wire saw it, and the class of every answer that is no success."""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from app.psp.port import Class, Result

BODY_LIMIT = 1_000_000
_MOST_SECONDS = 3600.0
_TEXT_LIMIT = 500
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Exchange(msgspec.Struct):
    """A request: its total deadline in seconds, its key, and what became of it."""

    deadline: float
    key: str | None = None
    began: bool = False  # A connection was there: from here on bytes may have left.
    status: int | None = None
    headers: dict[str, str] = {}  # Only those that decide something; names in lower case.
    body: bytes | None = None  # Only when it was read to its end.
    failure: str | None = None
    asked_at: datetime | None = None

    @property
    def at(self) -> datetime | None:
        """The moment of the answer by the clock of who gave it, else ours as we asked."""
        return _date(self.headers.get("date")) or self.asked_at

    @property
    def answered(self) -> bool:
        """Whether a whole success answer is here; its content is still to be judged."""
        return self.body is not None and self.status is not None and 200 <= self.status < 300


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The error of Stripe's envelope, also an intent's `last_payment_error`."""

    type: str
    code: str | None = None
    decline_code: str | None = None
    message: str | None = None
    param: str | None = None
    payment_intent: dict[str, Any] | None = None


class _Envelope(msgspec.Struct, frozen=True):
    error: Failure


def classify(exchange: Exchange) -> Result:
    """Return the class of an exchange without a success answer, row by row of the semantics."""
    if not exchange.began:
        return Result(cls="not_sent", message=exchange.failure)
    if exchange.body is None or exchange.status is None:
        return Result(cls="unknown", message=exchange.failure, **_facts(exchange))
    failure = _failure(exchange.body)
    cls, resend = _judge(exchange.status, failure)
    advice = exchange.headers.get("stripe-should-retry")
    result = Result(
        cls=cls,
        resend=advice == "true" if advice in {"true", "false"} else resend,
        retry_after=wait_of(exchange.headers.get("retry-after"), exchange.at),
        unauthorized=cls == "not_sent",
        **_facts(exchange),
    )
    if failure is None:
        result.message = "the answer is not one of the PSP's own"
        return result
    result.code = failure.code or failure.type
    result.decline_code = failure.decline_code
    result.message = (failure.message or "")[:_TEXT_LIMIT] or None
    result.raw = {"error": {"type": failure.type, "param": failure.param}}
    intent = failure.payment_intent or {}
    if isinstance(intent.get("id"), str):
        result.psp_reference = intent["id"]
    return result


def garbled(exchange: Exchange, message: str) -> Result:
    """Return the class of a success answer that cannot be read: it may have happened."""
    return Result(cls="unknown", message=message[:_TEXT_LIMIT], **_facts(exchange))


def _facts(exchange: Exchange) -> dict[str, Any]:
    return {"http_status": exchange.status, "request_id": exchange.headers.get("request-id")}


def _judge(status: int, failure: Failure | None) -> tuple[Class, bool]:
    """Return the class, and whether the same request with the same key may be sent again."""
    if status in {408, 409, 425, 429}:
        return "busy", True
    if status in {502, 503, 504} or 520 <= status <= 529:
        return "unknown", True
    # Stripe replays a stored 500 for the same key. Any other answer that is not in its own words
    # comes from something between us, which may or may not have passed the request on.
    if failure is None or not 400 <= status < 500:
        return "unknown", False
    if failure.type == "idempotency_error":
        return "mismatch", False
    if status in {401, 403}:
        return "not_sent", True
    if status == 402:
        # A decline that comes with an intent that did not fail contradicts itself.
        state = (failure.payment_intent or {}).get("status")
        going = state in {"succeeded", "requires_capture", "processing"}
        return ("unknown", False) if going else ("declined", False)
    if failure.code == "rate_limit":
        return "busy", True
    return "rejected", False


def _failure(body: bytes) -> Failure | None:
    try:
        return msgspec.json.decode(body, type=_Envelope).error
    except (msgspec.DecodeError, RecursionError):
        return None


def wait_of(value: str | None, at: datetime | None) -> float | None:
    """Return the seconds that Retry-After asks for, at most an hour; None for anything odd.

    It is a number of seconds or a date, which counts from `at`: the answer's own Date, or the
    moment at which it was asked for.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _MOST_SECONDS)
    if at is None or not text.endswith("GMT"):
        return None
    until = _date(text)
    return None if until is None else min(max(0.0, (until - at).total_seconds()), _MOST_SECONDS)


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError, IndexError):
        return None
    return found if found.tzinfo is not None else None
