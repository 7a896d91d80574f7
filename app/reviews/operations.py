"""Opens review items, and closes those that answered themselves; in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.reviews.models import Review

SETTLED = "Settled by the PSP's word."


def row(
    *,
    id: str,  # noqa: A002 - the column's name
    merchant_id: str,
    livemode: bool,
    payment_id: str,
    attempt_id: str,
    kind: str,
    amount: int,
    currency: str,
    why: str,
    now: datetime,
    suggestion: str = "compare",
    reference: str | None = None,
) -> dict[str, Any]:
    """Return the values of an open item; `amount` in minor units."""
    return {
        "id": id,
        "merchant_id": merchant_id,
        "livemode": livemode,
        "payment_id": payment_id,
        "attempt_id": attempt_id,
        "kind": kind,
        "state": "open",
        "amount": amount,
        "currency": currency,
        "reference": reference and reference[:255],
        "why": why[:500],
        "suggestion": suggestion,
        "version": 0,
        "opened_at": now,
    }


async def open_once(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Open an item (values as of `row`) unless one of its attempt and kind is open already."""
    return await db.insert_once(session, Review, values)


async def correct(session: AsyncSession, *, attempt_id: str, amount: int, reference: str) -> None:
    """Let the open item about a mismatch say what the PSP has taken in the end."""
    await session.execute(
        update(Review)
        .where(Review.attempt_id == attempt_id, Review.state == "open", Review.kind == "mismatch")
        .values(amount=amount, reference=reference, version=Review.version + 1)
        .execution_options(synchronize_session=False)
    )


async def close_answered(
    session: AsyncSession, *, attempt_ids: Sequence[str], now: datetime
) -> None:
    """Close the items of attempts that the PSP has answered for meanwhile.

    Money that came unexpectedly is another question: it stays open until it has gone back.
    """
    await session.execute(
        update(Review)
        .where(
            Review.attempt_id.in_(attempt_ids),
            Review.state == "open",
            Review.kind != "unexpected_receipt",
        )
        .values(
            state="closed",
            stage=None,
            closed_at=now,
            closed_how=SETTLED,
            version=Review.version + 1,
        )
        .execution_options(synchronize_session=False)
    )
