"""Sums over payments for the overview: volume and success by day, what needs attention."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import BigInteger, and_, case, cast, func, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import to_micros
from app.payments.models import Payment


class Day(msgspec.Struct, kw_only=True):
    """One UTC day of one currency: volume in minor units, counts, and the share that succeeded."""

    day: datetime
    volume: int = 0
    payments: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def rate(self) -> float | None:
        """Percent of decided payments that succeeded; None when none was decided."""
        decided = self.succeeded + self.failed
        return 100.0 * self.succeeded / decided if decided else None


async def days(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    currency: str,
    since: datetime,
    until: datetime,
) -> list[Day]:
    """Return every UTC day from `since` (a midnight) to `until`, quiet ones included."""
    if session.get_bind().dialect.name == "sqlite":
        length = 86_400_000_000
        nth = (type_coerce(Payment.created_at, BigInteger) - to_micros(since)) // length
        number: Any = cast(nth, BigInteger)
    else:
        number = cast(
            func.floor(func.extract("epoch", Payment.created_at - since) / 86_400), BigInteger
        )
    decided = case((Payment.status.in_(("failed", "expired")), 1), else_=0)
    query = (
        select(
            number.label("nth"),
            func.count(),
            func.sum(Payment.amount_captured),
            func.sum(case((Payment.status == "succeeded", 1), else_=0)),
            func.sum(decided),
        )
        .where(
            Payment.merchant_id == merchant_id,
            Payment.livemode == livemode,
            Payment.currency == currency,
            Payment.created_at >= since,
            Payment.created_at < until,
        )
        .group_by("nth")
    )
    rows = (await session.execute(query)).all()
    found = {int(row[0]): tuple(row[1:]) for row in rows}
    out = []
    for index in range(-(-int((until - since).total_seconds()) // 86_400)):
        count, volume, succeeded, failed = (int(n or 0) for n in found.get(index, (0, 0, 0, 0)))
        out.append(
            Day(
                day=since + timedelta(days=index),
                volume=volume,
                payments=count,
                succeeded=succeeded,
                failed=failed,
            )
        )
    return out


async def counts(session: AsyncSession, *, merchant_id: str, livemode: bool) -> dict[str, int]:
    """Return how many payments need attention and how many are in progress (a bounded count)."""
    attention = ("outcome_unknown", "held_for_operator", "held_for_review")
    progress = and_(
        Payment.status.in_(("processing", "requires_action", "requires_capture")),
        or_(Payment.status_reason.is_(None), Payment.status_reason.not_in(attention)),
    )
    row = (
        await session.execute(
            select(
                func.sum(case((Payment.status_reason.in_(attention), 1), else_=0)),
                func.sum(case((progress, 1), else_=0)),
            ).where(
                Payment.merchant_id == merchant_id,
                Payment.livemode == livemode,
                Payment.status.not_in(("succeeded", "failed", "canceled", "expired")),
            )
        )
    ).one()
    return {"attention": int(row[0] or 0), "in_progress": int(row[1] or 0)}


async def currencies(session: AsyncSession, *, merchant_id: str, livemode: bool) -> list[str]:
    """Return the currencies that a merchant was ever paid in."""
    query = (
        select(Payment.currency)
        .where(Payment.merchant_id == merchant_id, Payment.livemode == livemode)
        .distinct()
    )
    return sorted((await session.scalars(query)).all())
