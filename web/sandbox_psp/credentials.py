"""Who may call the API, and how that changes while requests are under way."""

import base64
import binascii
import hmac
from typing import Any

from web.sandbox_psp import events
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.work import Sandbox, Work, new_id

_FACT = "credentials"


def check(sandbox: Sandbox, header: str, now: float) -> None:
    """Raise ApiError 401 unless an Authorization header names a key that is valid now."""
    given = _key_of(header)
    if given is None:
        raise ApiError(401, "You did not provide an API key.")
    known = False
    for key, until in _keys(sandbox).items():
        if hmac.compare_digest(given.encode(), key.encode()):
            if until is None or now < until:
                return
            known = True
    if known:
        raise ApiError(401, "Expired API Key provided.", code="api_key_expired")
    raise ApiError(401, "Invalid API Key provided.", code="api_key_invalid")


def rotate(work: Work, *, key: str | None, overlap: float) -> str:
    """Make another key the valid one; those before it last `overlap` seconds. Return the key."""
    new = key or f"sk_test_{new_id('rotated').removeprefix('rotated_')}"
    keys = _ended(_keys(work.sandbox), work.now + overlap)
    work.book.set_fact(_FACT, {**keys, new: None})
    return new


def revoke(work: Work) -> None:
    """End every key at once."""
    work.book.set_fact(_FACT, _ended(_keys(work.sandbox), work.now))


def restore(work: Work) -> None:
    """Go back to the one key that the process was started with."""
    work.book.set_fact(_FACT, None)


def valid(sandbox: Sandbox, now: float) -> int:
    """Return how many keys are valid now."""
    return sum(until is None or now < until for until in _keys(sandbox).values())


def rotate_webhook_secret(work: Work, *, secret: str | None, overlap: float) -> str:
    """Give every endpoint that the process was started with another secret; return it.

    For `overlap` seconds each event carries two signatures, of the new secret and of the old.
    """
    new = secret or new_id("whsec")
    for endpoint in events.endpoints(work):
        if endpoint.private.get("fixed"):
            old = endpoint.private["secret"]
            endpoint.private |= {
                "secret": new,
                "old_secret": old,
                "old_until": work.now + overlap,
                # A restart with the same environment must not take the rotation back.
                "configured": endpoint.private.get("configured", old),
            }
            work.book.save(endpoint)
    return new


def _keys(sandbox: Sandbox) -> dict[str, float | None]:
    kept: dict[str, float | None] | None = sandbox.book.fact(_FACT)
    return kept or {sandbox.config.secret_key: None}


def _ended(keys: dict[str, float | None], moment: float) -> dict[str, float | None]:
    return {key: moment if until is None else min(until, moment) for key, until in keys.items()}


def _key_of(header: str) -> str | None:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip() or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest).decode().split(":", 1)[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def describe(sandbox: Sandbox, now: float) -> dict[str, Any]:
    """Return what the control API shows of the credentials; never a key itself."""
    return {"valid": valid(sandbox, now), "rotated": sandbox.book.fact(_FACT) is not None}
