"""Reading review items over all shops; for the platform's admins."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk.operations import LOOK, ReviewUnknown
from app.jobs import Job
from app.merchants.models import Merchant
from app.payments.models import Attempt, Payment, PspCall
from app.reviews.models import Review


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A review item with the rows that it is about."""

    review: Review
    payment: Payment
    attempt: Attempt
    merchant: Merchant
    calls: list[PspCall] = []
    looking: bool = False


async def items(
    session: AsyncSession,
    *,
    state: str,
    kind: str | None,
    limit: int,
    starting_after: str | None = None,
    ending_before: str | None = None,
) -> tuple[list[Item], bool]:
    """Return a page of items, newest first, and whether there are more."""
    query = select(Review).where(Review.state == state)
    if kind is not None:
        query = query.where(Review.kind == kind)
    if ending_before is not None:
        query = query.where(Review.id > ending_before).order_by(Review.id)
    else:
        if starting_after is not None:
            query = query.where(Review.id < starting_after)
        query = query.order_by(Review.id.desc())
    rows = list(await session.scalars(query.limit(limit + 1)))
    page, more = rows[:limit], len(rows) > limit
    if ending_before is not None:
        page.reverse()
    return [await _with_rows(session, one) for one in page], more


async def counts(session: AsyncSession) -> dict[str, int]:
    """Return how many items are open, by kind."""
    query = select(Review.kind, func.count()).where(Review.state == "open").group_by(Review.kind)
    return {kind: number for kind, number in (await session.execute(query)).all()}  # noqa: C416 # Rows, not tuples.


async def item(session: AsyncSession, *, review_id: str) -> Item:
    """Return one item with the calls about its attempt. Raises ReviewUnknown."""
    review = await session.get(Review, review_id, populate_existing=True)
    if review is None:
        raise ReviewUnknown("There is no such review item.")
    found = await _with_rows(session, review)
    calls = await session.scalars(
        select(PspCall).where(PspCall.attempt_id == review.attempt_id).order_by(PspCall.id)
    )
    asked = select(Job.id).where(
        Job.payment_id == review.payment_id, Job.kind == LOOK, Job.state == "due"
    )
    looking = await session.scalar(asked.limit(1)) is not None
    return msgspec.structs.replace(found, calls=list(calls), looking=looking)


async def _with_rows(session: AsyncSession, review: Review) -> Item:
    rows: Sequence[object] = [
        await session.get(table, key, populate_existing=True)
        for table, key in (
            (Payment, review.payment_id),
            (Attempt, review.attempt_id),
            (Merchant, review.merchant_id),
        )
    ]
    payment, attempt, merchant = rows
    if not (
        isinstance(payment, Payment)
        and isinstance(attempt, Attempt)
        and isinstance(merchant, Merchant)
    ):
        raise ReviewUnknown("There is no such review item.")
    return Item(review=review, payment=payment, attempt=attempt, merchant=merchant)
