"""Reads of people: by address, by shop, by one-time link."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import column, func, select, table
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.identity import LinkRefused
from app.accounts.models import Membership, OneTimeLink, RecoveryCode, User
from app.errors import NotFound
from app.secrets import sha256

# Shops are another feature, so its table is named here and not imported.
_MERCHANTS = table("merchants", column("id"), column("name"), column("disabled_at"))


class Shop(msgspec.Struct, frozen=True):
    """A shop that a person belongs to, for the switcher."""

    merchant_id: str
    name: str
    role: str


class Member(msgspec.Struct, frozen=True):
    """A person of a shop. `is_active` is false until the invitation was used."""

    user_id: str
    email: str
    name: str | None
    role: str
    is_active: bool
    has_second_factor: bool
    since: datetime


async def demo_users_present(session: AsyncSession) -> bool:
    """Tell whether there are users whose passwords are no secret; they need loopback."""
    return await session.scalar(select(User.id).where(User.is_demo).limit(1)) is not None


async def any_user(session: AsyncSession) -> bool:
    """Tell whether there is a user at all."""
    return await session.scalar(select(User.id).limit(1)) is not None


async def user(session: AsyncSession, *, user_id: str, lock: bool = False) -> User:
    """Return a user, with `lock` held to the transaction's end. Raises NotFound."""
    statement = select(User).where(User.id == user_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = await session.scalar(statement)
    if found is None:
        raise NotFound
    return found


async def user_by_email(session: AsyncSession, *, email: str, lock: bool = False) -> User | None:
    """Return the user of a normalised address, or None."""
    statement = select(User).where(User.email == email)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return await session.scalar(statement)


async def users(
    session: AsyncSession, *, limit: int = 50, starting_after: str | None = None
) -> tuple[Sequence[User], bool]:
    """Return users, newest first, and whether there are older ones; for platform admins."""
    statement = select(User).order_by(User.id.desc()).limit(limit + 1)
    if starting_after:
        statement = statement.where(User.id < starting_after)
    rows = (await session.scalars(statement)).all()
    return rows[:limit], len(rows) > limit


async def shops_of(session: AsyncSession, *, user_id: str) -> list[Shop]:
    """Return the shops that a person belongs to, by name."""
    found = await session.execute(
        select(_MERCHANTS.c.id, _MERCHANTS.c.name, Membership.role)
        .join(Membership, Membership.merchant_id == _MERCHANTS.c.id)
        .where(Membership.user_id == user_id)
        .order_by(_MERCHANTS.c.name, _MERCHANTS.c.id)
    )
    return [Shop(*values) for values in found]


async def members(session: AsyncSession, *, merchant_id: str) -> list[Member]:
    """Return the people of a shop, by address."""
    found = await session.execute(
        select(User, Membership.role, Membership.created_at)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.merchant_id == merchant_id)
        .order_by(User.email)
    )
    return [
        Member(
            user_id=person.id,
            email=person.email,
            name=person.name,
            role=role,
            is_active=person.password_hash is not None and person.disabled_at is None,
            has_second_factor=person.totp_sealed is not None,
            since=since,
        )
        for person, role, since in found
    ]


async def open_link(
    session: AsyncSession, *, purpose: str, token: str, now: datetime
) -> OneTimeLink:
    """Return an unused link; reading it uses nothing. Raises LinkRefused."""
    found = await session.scalar(
        select(OneTimeLink).where(
            OneTimeLink.hash == sha256(token),
            OneTimeLink.purpose == purpose,
            OneTimeLink.used_at.is_(None),
            OneTimeLink.expires_at > now,
        )
    )
    if found is None:
        raise LinkRefused("This link has been used or is too old.")
    return found


async def recovery_codes_left(session: AsyncSession, *, user_id: str) -> int:
    """Return how many recovery codes are unused."""
    found = await session.scalar(
        select(func.count())
        .select_from(RecoveryCode)
        .where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
    )
    return int(found or 0)
