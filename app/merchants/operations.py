"""Writes about shops: their terms and their API keys; each leaves an audit row."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.audit import operations as audit
from app.audit.operations import Actor
from app.errors import Conflict, FieldError, Invalid
from app.ids import Ids
from app.merchants import keys, queries
from app.merchants.models import ApiKey, Merchant
from app.secrets import sha256

NOTE_USE_EVERY = timedelta(minutes=1)
MAX_OVERLAP = timedelta(days=7)


class KeyEnded(Conflict):
    """The key is revoked or has expired; nothing can be done with it any more."""

    code = "api_key_ended"


def _wrong(param: str, detail: str) -> Invalid:
    return Invalid(f"{param} {detail}", param=param, errors=[FieldError(param, "invalid", detail)])


def _label(param: str, longest: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = value.strip() if isinstance(value, str) else ""
        if not 1 <= len(text) <= longest or not text.isprintable():
            raise _wrong(param, f"must be 1 to {longest} printable characters")
        return text

    return check


def _whole(param: str, low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _wrong(param, f"must be a whole number from {low} to {high}")
        return value

    return check


def _flag(param: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise _wrong(param, "must be true or false")
        return value

    return check


def _currency(value: Any) -> str:
    code = value.lower() if isinstance(value, str) else ""
    if code not in money.CURRENCIES:
        raise _wrong("currency", "must be an ISO 4217 code")
    return code


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _label("name", 120),
    "currency": _currency,
    "step_up_limit": _whole("step_up_limit", 0, money.MAX_AMOUNT),
    "fee_basis_points": _whole("fee_basis_points", 0, 10_000),
    "fee_fixed": _whole("fee_fixed", 0, money.MAX_AMOUNT),
    "fee_return": _flag("fee_return"),
    "settle_delay_seconds": _whole("settle_delay_seconds", 0, 90 * 86_400),
    "overdraft_limit": _whole("overdraft_limit", 0, money.MAX_AMOUNT),
}
SETTINGS = ("name", "currency", "step_up_limit")  # An owner's to change.
TERMS = tuple(name for name in _CHECKS if name not in SETTINGS)  # The platform's.


def _checked(values: Mapping[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    for name in values:
        if name not in allowed:
            raise _wrong(name, "cannot be changed here")
    return {name: _CHECKS[name](value) for name, value in values.items()}


async def create_merchant(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    name: str,
    terms: Mapping[str, Any] | None = None,
) -> Merchant:
    """Make a shop; `terms` may hold any of SETTINGS and TERMS. Raises Invalid."""
    values = _checked({"name": name, **(terms or {})}, _CHECKS)
    shop = Merchant(id=ids("mer"), created_at=now, updated_at=now, **values)
    session.add(shop)
    await session.flush()
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action="merchant.created",
        object_id=shop.id,
        merchant_id=shop.id,
        livemode=None,
        after={field: getattr(shop, field) for field in _CHECKS},
    )
    return shop


async def _change(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    action: str,
    changes: Mapping[str, Any],
) -> Merchant:
    shop = await queries.merchant(session, merchant_id=merchant_id, lock=True)
    before = {name: getattr(shop, name) for name in changes}
    if before == dict(changes):
        return shop
    for name, value in changes.items():
        setattr(shop, name, value)
    shop.updated_at = now
    await session.flush()
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action=action,
        object_id=shop.id,
        merchant_id=shop.id,
        livemode=None,
        before={name: _told(value) for name, value in before.items()},
        after={name: _told(value) for name, value in changes.items()},
    )
    return shop


def _told(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


async def change_settings(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    changes: Mapping[str, Any],
) -> Merchant:
    """Change what an owner may change (SETTINGS). Raises Invalid, NotFound."""
    return await _change(
        session,
        ids=ids,
        now=now,
        actor=actor,
        merchant_id=merchant_id,
        action="merchant.settings_changed",
        changes=_checked(changes, SETTINGS),
    )


async def change_terms(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    changes: Mapping[str, Any],
) -> Merchant:
    """Change the platform's terms for a shop (TERMS). Raises Invalid, NotFound."""
    return await _change(
        session,
        ids=ids,
        now=now,
        actor=actor,
        merchant_id=merchant_id,
        action="merchant.terms_changed",
        changes=_checked(changes, TERMS),
    )


async def set_disabled(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    disabled: bool,
) -> Merchant:
    """Switch a shop off (its API keys stop to work) or on again. Raises NotFound."""
    shop = await queries.merchant(session, merchant_id=merchant_id, lock=True)
    if disabled == (shop.disabled_at is not None):
        return shop
    return await _change(
        session,
        ids=ids,
        now=now,
        actor=actor,
        merchant_id=merchant_id,
        action="merchant.disabled" if disabled else "merchant.enabled",
        changes={"disabled_at": now if disabled else None},
    )


async def create_key(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    name: str,
    scopes: Collection[str] = keys.SCOPES,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make an API key; return its row and its secret, which is never shown again.

    Raises Invalid, NotFound.
    """
    await queries.merchant(session, merchant_id=merchant_id)
    if expires_at is not None and expires_at <= now:
        raise _wrong("expires_at", "must lie in the future")
    return await _add_key(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action="key.created",
        values={
            "merchant_id": merchant_id,
            "livemode": livemode,
            "name": _label("name", 80)(name),
            "scopes": keys.checked_scopes(scopes),
            "expires_at": expires_at,
        },
    )


async def _add_key(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    action: str,
    values: dict[str, Any],
) -> tuple[ApiKey, str]:
    secret = keys.make_secret(ids, livemode=values["livemode"])
    key = ApiKey(
        id=ids("key"),
        hint=keys.hint(secret),
        hash=sha256(secret),
        api_version=keys.API_VERSION,
        created_by=actor.id,
        created_at=now,
        **values,
    )
    session.add(key)
    await session.flush()
    after = {"name": key.name, "hint": key.hint, "scopes": key.scopes}
    after |= {"expires_at": _told(key.expires_at), "replaces": key.replaces_id}
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action=action,
        object_id=key.id,
        merchant_id=key.merchant_id,
        livemode=key.livemode,
        after=after,
    )
    return key, secret


async def revoke_key(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    key_id: str,
) -> ApiKey:
    """End a key at once. Raises NotFound, KeyEnded when it has ended already."""
    key = await _open_key(session, merchant_id, livemode, key_id, now)
    key.revoked_at = now
    await session.flush()
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action="key.revoked",
        object_id=key.id,
        merchant_id=merchant_id,
        livemode=livemode,
        before={"name": key.name, "hint": key.hint},
    )
    return key


async def rotate_key(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    key_id: str,
    overlap: timedelta = timedelta(hours=24),
) -> tuple[ApiKey, str]:
    """Make the successor of a key; the old one works for `overlap` more (at most 7 days).

    Returns the new row and its secret. Raises Invalid, NotFound, KeyEnded.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise _wrong("overlap", "must be between nothing and 7 days")
    old = await _open_key(session, merchant_id, livemode, key_id, now)
    made = await _add_key(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action="key.rotated",
        values={
            "merchant_id": merchant_id,
            "livemode": livemode,
            "name": old.name,
            "scopes": old.scopes,
            "expires_at": old.expires_at,
            "replaces_id": old.id,
        },
    )
    ends = now + overlap
    old.expires_at = ends if old.expires_at is None else min(old.expires_at, ends)
    await session.flush()
    return made


async def _open_key(
    session: AsyncSession, merchant_id: str, livemode: bool, key_id: str, now: datetime
) -> ApiKey:
    key = await queries.key(
        session, merchant_id=merchant_id, livemode=livemode, key_id=key_id, lock=True
    )
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise KeyEnded("This API key has ended.")
    return key


async def note_use(session: AsyncSession, *, key_id: str, now: datetime) -> bool:
    """Note that a key was used, at most once a minute; tell whether it was written."""
    changed = await session.execute(
        update(ApiKey)
        .where(
            ApiKey.id == key_id,
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - NOTE_USE_EVERY),
        )
        .values(last_used_at=now)
        .returning(ApiKey.id)
    )
    return changed.first() is not None
