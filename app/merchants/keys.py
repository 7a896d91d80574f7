"""What an API key looks like, what it may do, and who it proves to be."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from app.audit.operations import Actor
from app.errors import FieldError, Forbidden, Invalid
from app.ids import Ids

API_VERSION = "2026-11-22"
SCOPES = (
    "payments:read",
    "payments:write",
    "refunds:write",
    "ledger:read",
    "events:read",
    "webhooks:write",
)
TEST_PREFIX, LIVE_PREFIX = "cf_test_", "cf_live_"
_TOKEN_CHARS = 52  # 256 bits in base32.
_ALPHABET = frozenset("0123456789abcdefghjkmnpqrstvwxyz")


class ScopeMissing(Forbidden):
    """The key is known, but was not made for this."""

    code = "scope_missing"


class KeyIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid API key proves; a shell may keep it for a second, not longer (S23)."""

    key_id: str
    merchant_id: str
    livemode: bool
    scopes: frozenset[str]
    api_version: str
    hint: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    def require(self, scope: str) -> None:
        """Raise ScopeMissing unless the key has `scope`."""
        if scope not in self.scopes:
            raise ScopeMissing(f"This API key lacks the scope {scope}.")

    def actor(self, *, address: str | None = None, request_id: str | None = None) -> Actor:
        """Return who acts, for the audit log."""
        return Actor(
            kind="key", id=self.key_id, name=self.hint, address=address, request_id=request_id
        )


def make_secret(ids: Ids, *, livemode: bool) -> str:
    """Return a new secret: a prefix that tells the mode, and 256 random bits."""
    return (LIVE_PREFIX if livemode else TEST_PREFIX) + ids.token(32)


def looks_like_secret(value: str) -> bool:
    """Tell whether `value` has the form of an API key; anything else needs no look-up."""
    if not value.startswith((TEST_PREFIX, LIVE_PREFIX)):
        return False
    token = value[len(TEST_PREFIX) :]
    return len(token) == _TOKEN_CHARS and _ALPHABET.issuperset(token)


def hint(secret: str) -> str:
    """Return what a person recognises a secret by, and nobody can use."""
    return f"{secret[: len(TEST_PREFIX) + 2]}…{secret[-4:]}"


def checked_scopes(scopes: Iterable[str]) -> list[str]:
    """Return the scopes in their usual order, each once. Raises Invalid."""
    wanted = set(scopes)
    unknown = sorted(wanted - set(SCOPES))
    if unknown or not wanted:
        detail = f"unknown scope {unknown[0]}" if unknown else "choose at least one scope"
        raise Invalid(detail, param="scopes", errors=[FieldError("scopes", "invalid", detail)])
    return [scope for scope in SCOPES if scope in wanted]
