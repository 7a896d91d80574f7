"""Reads of the audit log: by shop and mode, by object, by person, and the platform's own."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditRow
from app.errors import NotFound


def _of_shop(merchant_id: str, livemode: bool) -> tuple[ColumnElement[bool], ...]:
    # Rows without a mode concern the shop in both: members, terms, the name.
    return (
        AuditRow.merchant_id == merchant_id,
        or_(AuditRow.livemode == livemode, AuditRow.livemode.is_(None)),
    )


def _of_what(action: str | None, object_id: str | None) -> list[ColumnElement[bool]]:
    wanted = []
    if action:
        group = AuditRow.action.startswith(action, autoescape=True)
        wanted.append(group if action.endswith(".") else AuditRow.action == action)
    if object_id:
        wanted.append(AuditRow.object_id == object_id)
    return wanted


async def page(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    limit: int = 50,
    starting_after: str | None = None,
    ending_before: str | None = None,
    action: str | None = None,
    actor_id: str | None = None,
    object_id: str | None = None,
) -> tuple[Sequence[AuditRow], bool]:
    """Return rows of a shop and mode, newest first, and whether there are more that way.

    `starting_after` goes to older rows, `ending_before` to newer ones. `action` may end in a dot
    to ask for a whole group (`key.`).
    """
    wanted = [*_of_shop(merchant_id, livemode), *_of_what(action, object_id)]
    if actor_id:
        wanted.append(AuditRow.actor_id == actor_id)
    return await _slice(session, wanted, limit, starting_after, ending_before)


async def row(session: AsyncSession, *, merchant_id: str, livemode: bool, row_id: str) -> AuditRow:
    """Return one row of a shop and mode. Raises NotFound."""
    found = await session.scalar(
        select(AuditRow).where(*_of_shop(merchant_id, livemode), AuditRow.id == row_id)
    )
    if found is None:
        raise NotFound
    return found


async def platform_page(
    session: AsyncSession,
    *,
    limit: int = 50,
    starting_after: str | None = None,
    ending_before: str | None = None,
    action: str | None = None,
    actor_name: str | None = None,
    object_id: str | None = None,
) -> tuple[Sequence[AuditRow], bool]:
    """Return the platform's own rows (of no shop), newest first; for platform admins.

    Cursors and `action` are those of `page`; people are asked for by the name that was written.
    """
    wanted = [AuditRow.merchant_id.is_(None), *_of_what(action, object_id)]
    if actor_name:
        wanted.append(AuditRow.actor_name == actor_name)
    return await _slice(session, wanted, limit, starting_after, ending_before)


async def platform_row(session: AsyncSession, *, row_id: str) -> AuditRow:
    """Return one of the platform's own rows. Raises NotFound."""
    found = await session.scalar(
        select(AuditRow).where(AuditRow.merchant_id.is_(None), AuditRow.id == row_id)
    )
    if found is None:
        raise NotFound
    return found


async def of_object(
    session: AsyncSession, *, merchant_id: str, livemode: bool, object_id: str, limit: int = 100
) -> Sequence[AuditRow]:
    """Return what was done to one object of a shop, oldest first."""
    found = await session.scalars(
        select(AuditRow)
        .where(*_of_shop(merchant_id, livemode), AuditRow.object_id == object_id)
        .order_by(AuditRow.id)
        .limit(limit)
    )
    return found.all()


async def of_person(
    session: AsyncSession,
    *,
    user_id: str,
    limit: int = 50,
    starting_after: str | None = None,
    ending_before: str | None = None,
) -> tuple[Sequence[AuditRow], bool]:
    """Return what was done to a person's account, by them or anybody, newest first.

    Cursors are those of `page`. For that person alone: rows of their shops are among them.
    """
    wanted = [AuditRow.object_id == user_id]
    return await _slice(session, wanted, limit, starting_after, ending_before)


async def _slice(
    session: AsyncSession,
    wanted: Sequence[ColumnElement[bool]],
    limit: int,
    starting_after: str | None,
    ending_before: str | None,
) -> tuple[Sequence[AuditRow], bool]:
    statement = select(AuditRow).where(*wanted).limit(limit + 1)
    if ending_before:
        statement = statement.where(AuditRow.id > ending_before).order_by(AuditRow.id)
        rows = list(await session.scalars(statement))
        return rows[:limit][::-1], len(rows) > limit
    if starting_after:
        statement = statement.where(AuditRow.id < starting_after)
    rows = list(await session.scalars(statement.order_by(AuditRow.id.desc())))
    return rows[:limit], len(rows) > limit
