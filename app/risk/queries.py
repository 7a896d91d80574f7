"""Reads of the risk check: a payment's decision, a shop's terms, and how the provider is doing."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.risk.models import RiskBlock, RiskCheck, RiskSettings
from app.risk.port import Question
from app.risk.rules import Terms

_DAY = timedelta(days=1)


class ProviderState(msgspec.Struct, frozen=True, kw_only=True):
    """The risk check at one moment, over all shops.

    `failing`: the newest failure is at most five minutes old. `fallbacks` counts payments that the
    fallback rule decided, ever and within a day; `waiting` those that wait for a person.
    """

    fallbacks: int = 0
    fallbacks_day: int = 0
    last_failure_at: datetime | None = None
    last_failure: str | None = None
    waiting: int = 0
    oldest_at: datetime | None = None
    failing: bool = False


async def check_of(session: AsyncSession, payment_id: str) -> RiskCheck | None:
    """Return a payment's decision as it is now; who changes it holds the payment's lock."""
    query = select(RiskCheck).where(RiskCheck.payment_id == payment_id)
    return await session.scalar(query.execution_options(populate_existing=True))


async def terms(session: AsyncSession, *, merchant_id: str) -> Terms:
    """Return what a shop has set, or the defaults."""
    row = await session.scalar(select(RiskSettings).where(RiskSettings.merchant_id == merchant_id))
    return Terms() if row is None else msgspec.convert(row.terms, Terms)


async def met_blocks(session: AsyncSession, question: Question) -> frozenset[str]:
    """Return the kinds of a shop's blocks that a payment meets."""
    countries = [code for code in (question.country, question.card_country) if code is not None]
    conditions = [
        (RiskBlock.kind == kind) & RiskBlock.value.in_(values)
        for kind, values in (
            ("email", [question.email_hash] if question.email_hash else []),
            ("method", [question.method_hash] if question.method_hash else []),
            ("country", countries),
        )
        if values
    ]
    if not conditions:
        return frozenset()
    query = select(RiskBlock.kind).where(
        RiskBlock.merchant_id == question.merchant_id, or_(*conditions)
    )
    return frozenset((await session.scalars(query)).all())


async def blocks(
    session: AsyncSession, *, merchant_id: str, limit: int = 500
) -> Sequence[RiskBlock]:
    """Return a shop's blocks, newest first."""
    query = select(RiskBlock).where(RiskBlock.merchant_id == merchant_id)
    return (await session.scalars(query.order_by(RiskBlock.id.desc()).limit(limit))).all()


async def count_waiting(session: AsyncSession, *, merchant_id: str, livemode: bool) -> int:
    """Return how many payments of a shop wait for a person to approve or refuse them."""
    query = select(func.count()).where(
        RiskCheck.merchant_id == merchant_id,
        RiskCheck.livemode == livemode,
        RiskCheck.review == "waiting",
    )
    return await session.scalar(query) or 0


async def provider_state(session: AsyncSession, *, now: datetime) -> ProviderState:
    """Return how the risk check is doing; each part comes from a small, partial index."""
    day = func.count().filter(RiskCheck.asked_at > now - _DAY)
    ever, today = (await session.execute(select(func.count(), day).where(RiskCheck.fallback))).one()
    newest = (
        select(RiskCheck.answered_at, RiskCheck.failure)
        .where(RiskCheck.fallback)
        .order_by(RiskCheck.asked_at.desc())
        .limit(1)
    )
    last = (await session.execute(newest)).first()
    waiting, oldest = (
        await session.execute(
            select(func.count(), func.min(RiskCheck.held_at)).where(RiskCheck.review == "waiting")
        )
    ).one()
    return ProviderState(
        fallbacks=ever,
        fallbacks_day=today,
        last_failure_at=last.answered_at if last else None,
        last_failure=last.failure if last else None,
        waiting=waiting,
        oldest_at=oldest,
        failing=last is not None and now - last.answered_at < timedelta(minutes=5),
    )
