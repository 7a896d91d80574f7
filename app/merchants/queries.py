"""Reads of shops and keys, and who an API key proves to be."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Forbidden, NotFound, Unauthenticated
from app.merchants import keys
from app.merchants.keys import KeyIdentity
from app.merchants.models import ApiKey, Merchant
from app.secrets import sha256


class MerchantDisabled(Forbidden):
    """The shop is switched off; its keys do nothing."""

    code = "merchant_disabled"


async def merchant(session: AsyncSession, *, merchant_id: str, lock: bool = False) -> Merchant:
    """Return a shop, with `lock` held to the transaction's end. Raises NotFound."""
    statement = select(Merchant).where(Merchant.id == merchant_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = await session.scalar(statement)
    if found is None:
        raise NotFound
    return found


async def merchants(
    session: AsyncSession, *, limit: int = 50, starting_after: str | None = None
) -> tuple[Sequence[Merchant], bool]:
    """Return shops, newest first, and whether there are older ones; for platform admins."""
    statement = select(Merchant).order_by(Merchant.id.desc()).limit(limit + 1)
    if starting_after:
        statement = statement.where(Merchant.id < starting_after)
    rows = (await session.scalars(statement)).all()
    return rows[:limit], len(rows) > limit


async def any_merchant(session: AsyncSession) -> bool:
    """Tell whether there is a shop at all."""
    return await session.scalar(select(Merchant.id).limit(1)) is not None


async def api_keys(
    session: AsyncSession, *, merchant_id: str, livemode: bool, limit: int = 200
) -> Sequence[ApiKey]:
    """Return the keys of a shop and mode, newest first, ended ones too."""
    found = await session.scalars(
        select(ApiKey)
        .where(ApiKey.merchant_id == merchant_id, ApiKey.livemode == livemode)
        .order_by(ApiKey.id.desc())
        .limit(limit)
    )
    return found.all()


async def key(
    session: AsyncSession, *, merchant_id: str, livemode: bool, key_id: str, lock: bool = False
) -> ApiKey:
    """Return one key of a shop, with `lock` held to the transaction's end. Raises NotFound."""
    statement = select(ApiKey).where(
        ApiKey.id == key_id, ApiKey.merchant_id == merchant_id, ApiKey.livemode == livemode
    )
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = await session.scalar(statement)
    if found is None:
        raise NotFound
    return found


async def authenticate(session: AsyncSession, *, secret: str, now: datetime) -> KeyIdentity:
    """Return who an API key proves to be.

    Raises Unauthenticated for a key that is unknown, revoked or expired, and MerchantDisabled.
    The caller notes the use with `operations.note_use` when `last_used_at` is over a minute old.
    """
    if not keys.looks_like_secret(secret):
        raise Unauthenticated
    row = (
        await session.execute(
            select(
                ApiKey.id,
                ApiKey.merchant_id,
                ApiKey.livemode,
                ApiKey.scopes,
                ApiKey.api_version,
                ApiKey.hint,
                ApiKey.expires_at,
                ApiKey.last_used_at,
                ApiKey.revoked_at,
                Merchant.disabled_at,
            )
            .join(Merchant, Merchant.id == ApiKey.merchant_id)
            .where(ApiKey.hash == sha256(secret))
        )
    ).first()
    if row is None or row.revoked_at is not None:
        raise Unauthenticated
    if row.expires_at is not None and row.expires_at <= now:
        raise Unauthenticated("This API key has expired")
    if row.disabled_at is not None:
        raise MerchantDisabled("This shop is switched off.")
    return KeyIdentity(
        key_id=row.id,
        merchant_id=row.merchant_id,
        livemode=row.livemode,
        scopes=frozenset(row.scopes),
        api_version=row.api_version,
        hint=row.hint,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
