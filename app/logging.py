"""Logs: one JSON object a line, known fields only, secrets and card numbers blotted out (S41)."""

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

HIDDEN = "[hidden]"
_LONGEST, _LONGEST_TRACE = 2000, 16_000
_OURS = ("app", "web", "workers")

# A field that is not here is dropped and its name is told: what may be logged is decided once.
FIELDS = frozenset(
    (
        "event level timestamp logger exception request_id method path route status ms address "
        "session_id user_id key_id merchant_id livemode payment_id refund_id attempt_id call_id "
        "event_id endpoint_id delivery_id job_id posting_id ledger_id connection_id object_id "
        "kind queue queues code action name count limit seconds tries failures crashes fence owner "
        "error reason state previous version seq position size psp operation outcome worker pid "
        "port signal work step url_path revision setting topic lag age url host"
    ).split()
)
_SECRET = re.compile(
    r"(?:cf_(?:test|live)|sk_(?:test|live)|rk_(?:test|live)|pk_live)_[A-Za-z0-9_]+"
    r"|whsec_[A-Za-z0-9+/=_-]+"
    r"|v1\.[A-Za-z0-9]+\.[A-Za-z0-9_=-]{20,}"  # What our own sealer makes.
    r"|\$argon2id?\$\S+"
    r"|\bv1a?,[A-Za-z0-9+/=]{20,}"
    r"|\bv[01]=[0-9a-f]{32,}"
    r"|otpauth://\S+"
    r"|(?<=/link/)(?P<purpose>[a-z]+)/[0-9a-z]+"
    r"|(?<=/checkout/)[0-9a-z_]+\.[0-9a-z]+"
    r"|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)",  # Credentials in an address.
)
_HEADER = re.compile(
    r"(?i)\b(?P<name>authorization|proxy-authorization|cookie|set-cookie|x-csrf-token|"
    r"stripe-signature|webhook-signature|password|totp_secret|client_secret|csrf)"
    r"(?P<mark>[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic)\s+)?[^\s\"',;&]+(?:;[^\r\n\"']*)?"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def passes_luhn(digits: str) -> bool:
    """Tell whether digits have the check digit of a card number."""
    total = 0
    for index, char in enumerate(reversed(digits)):
        value = int(char) * (2 if index % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _card(found: re.Match[str]) -> str:
    digits = re.sub(r"[ -]", "", found[0])
    return HIDDEN if passes_luhn(digits) else found[0]


def redact(text: str, longest: int = _LONGEST) -> str:
    """Return `text` without secrets, card numbers and e-mail addresses, of a sane length."""
    text = text[: 2 * longest]
    text = _HEADER.sub(lambda found: f"{found['name']}{found['mark']}{HIDDEN}", text)
    text = _BEARER.sub(lambda found: f"{found[1]} {HIDDEN}", text)
    text = _SECRET.sub(
        lambda found: f"{found['purpose']}/{HIDDEN}" if found["purpose"] else HIDDEN, text
    )
    text = _EMAIL.sub(HIDDEN, _DIGITS.sub(_card, text))
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)[:longest]


def _clean(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        # A card number may also come as a number.
        text = redact(str(value))
        return value if text == str(value) else text
    if isinstance(value, dict) and depth < 4:
        return {redact(str(k)): _hidden_or_clean(str(k), v, depth) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 4:
        return [_clean(item, depth + 1) for item in list(value)[:50]]
    return redact(str(value))


def _hidden_or_clean(name: str, value: Any, depth: int) -> Any:
    if re.search(r"(?i)authorization|cookie|signature|secret|password|token|api_key|csrf", name):
        return HIDDEN
    return _clean(value, depth + 1)


def only_known_fields(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop fields that nobody allowed, say which, and redact the rest (a structlog processor)."""
    known = {name: _clean(value) for name, value in line.items() if name in FIELDS}
    if isinstance(trace := line.get("exception"), str):
        known["exception"] = redact(trace, _LONGEST_TRACE)
    if dropped := sorted(redact(str(name)) for name in line if name not in FIELDS):
        known["dropped"] = dropped
    return known


def _dumps(value: Any, **_kw: Any) -> str:
    # ASCII only: a line separator of another script must not begin a line.
    return json.dumps(value, ensure_ascii=True, default=lambda item: redact(repr(item)))


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's loggers to write JSON lines to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # Our own lines and those of libraries pass the same sieve, last of all.
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            only_known_fields,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # At DEBUG libraries write what they handle: the database's driver every value of every row.
    root.setLevel(max(logging.getLevelNamesMapping()[level], logging.INFO))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
