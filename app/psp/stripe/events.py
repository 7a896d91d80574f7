"""Events as they arrive: verified over the raw bytes, and read down to what they speak of."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from app.psp.port import EventRefused, PspEvent
from app.psp.stripe.objects import Epoch

TOLERANCE_SECONDS = 300
_HEADER = "stripe-signature"
_HEADER_LIMIT = 4096
_SIGNATURES = 8
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
# Ids and metadata of ours; anything else is not looked at, so no odd text reaches a database.
_NAME = re.compile(r"[A-Za-z0-9_.:\-]{1,255}")
_About = Literal["checkout", "intent", "refund", "other"]


class _Data(msgspec.Struct, frozen=True):
    object: dict[str, Any]


class _Event(msgspec.Struct, frozen=True, tag_field="object", tag="event"):
    id: str
    type: str
    created: Epoch
    livemode: bool
    data: _Data


# A struct alone would accept a body without `object`; a union insists on the tag.
class _Thin(msgspec.Struct, frozen=True, tag_field="object", tag="v2.core.event"):
    id: str


def verify_event(
    body: bytes, headers: Mapping[str, str], now: datetime, secrets: tuple[str, ...]
) -> PspEvent:
    """Return a received event. Several secrets may be valid while one replaces another.

    Raises EventRefused, and nothing else, for whatever is not a true event of this minute.
    """
    header = next((value for name, value in headers.items() if name.lower() == _HEADER), "")
    stamp, signatures = _parts(header)
    # A signature over an old or future moment proves nothing about now.
    if abs(now.timestamp() - int(stamp)) > TOLERANCE_SECONDS:
        raise EventRefused("the timestamp is more than 300 s away")
    message = stamp.encode() + b"." + body
    true = False
    for secret in secrets:
        expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
        for signature in signatures:
            true |= hmac.compare_digest(expected, signature)
    if not true:
        raise EventRefused("no signature matches")
    return _read(body)


def _parts(header: str) -> tuple[str, list[str]]:
    if len(header) > _HEADER_LIMIT:
        raise EventRefused("the signature header is too long")
    stamps, signatures = [], []
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name == "t":
            stamps.append(value)
        elif name == "v1" and _SIGNATURE.fullmatch(value):
            signatures.append(value)
    if len(stamps) != 1 or not _TIMESTAMP.fullmatch(stamps[0]):
        raise EventRefused("the signature header has no timestamp")
    if not 1 <= len(signatures) <= _SIGNATURES:
        raise EventRefused("the signature header has no usable signature")
    return stamps[0], signatures


def _read(body: bytes) -> PspEvent:
    try:
        # Parts that are not read here are not validated either, yet the body is kept as text.
        event = msgspec.json.decode(body.decode(), type=_Event | _Thin)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise EventRefused(f"the body is no event: {error}") from error
    if isinstance(event, _Thin) or _name(event.id) is None or _name(event.type) is None:
        raise EventRefused("the body is no event of a supported shape")
    subject = event.data.object
    known = subject.get("metadata")
    known = known if isinstance(known, dict) else {}
    about, reference = _about(subject)
    return PspEvent(
        id=event.id,
        type=event.type,
        created_at=datetime.fromtimestamp(event.created, UTC),
        livemode=event.livemode,
        about=about,
        psp_reference=reference,
        installation=_name(known.get("installation")),
        attempt_id=_name(known.get("attempt_id")),
        charge_reference=_intent_of(subject) if about == "refund" else None,
    )


def _about(subject: dict[str, Any]) -> tuple[_About, str | None]:
    """Return what an event's object is and the id to look it up by."""
    kind, own = subject.get("object"), _name(subject.get("id"))
    if kind == "charge":
        # A charge is a part of its intent; one without an intent is none of ours.
        intent = _intent_of(subject)
        return ("intent", intent) if intent else ("other", own)
    kinds: dict[Any, _About] = {
        "checkout.session": "checkout",
        "payment_intent": "intent",
        "refund": "refund",
    }
    about = kinds.get(kind, "other") if isinstance(kind, str) else "other"
    return (about, own) if own else ("other", None)


def _intent_of(subject: dict[str, Any]) -> str | None:
    intent = subject.get("payment_intent")
    return _name(intent.get("id") if isinstance(intent, dict) else intent)


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None
