"""Opens review items, and closes those that answered themselves; in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.reviews.models import Review

SETTLED = "Settled by the PSP's word."
_OTHER_BY_NOW = "The PSP shows another amount by now."
_OF_MONEY = ("mismatch", "unexpected_receipt")


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
    """Let the open items about money say how much is in question, of which object of the PSP.

    What a person has said about another amount is asked again.
    """
    await session.execute(
        update(Review)
        .where(Review.attempt_id == attempt_id, Review.state == "open", Review.kind.in_(_OF_MONEY))
        .values(
            amount=amount,
            reference=reference,
            stage=None,
            finding=case((Review.stage.is_(None), Review.finding), else_=_OTHER_BY_NOW),
            version=Review.version + 1,
        )
        .execution_options(synchronize_session=False)
    )


async def close_returned(
    session: AsyncSession, *, attempt_id: str, how: str, now: datetime
) -> None:
    """Close the items about money of an attempt that has gone back."""
    await _close(session, Review.attempt_id == attempt_id, Review.kind.in_(_OF_MONEY), how, now)


async def close_answered(
    session: AsyncSession, *, attempt_ids: Sequence[str], now: datetime
) -> None:
    """Close the items of attempts that the PSP has answered for meanwhile.

    Money that came unexpectedly is another question: it stays open until it has gone back.
    """
    asked = Review.kind != "unexpected_receipt"
    await _close(session, Review.attempt_id.in_(attempt_ids), asked, SETTLED, now)


async def _close(
    session: AsyncSession,
    whose: ColumnElement[bool],
    which: ColumnElement[bool],
    how: str,
    now: datetime,
) -> None:
    await session.execute(
        update(Review)
        .where(whose, which, Review.state == "open")
        .values(
            state="closed", stage=None, closed_at=now, closed_how=how, version=Review.version + 1
        )
        .execution_options(synchronize_session=False)
    )
