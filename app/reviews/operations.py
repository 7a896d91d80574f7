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
OF_MONEY = ("mismatch", "unexpected_receipt")


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


async def correct(
    session: AsyncSession, *, payment_id: str, reference: str, amount: int, why: str | None = None
) -> int:
    """Let the open items about money of an object of the PSP say how much is in question.

    What a person has said about another amount is asked again. Returns how many are open.
    """
    values = {} if why is None else {"why": why}
    return await _correct(session, _about(payment_id, reference), amount=amount, **values)


async def taken(session: AsyncSession, *, attempt_id: str, amount: int, reference: str) -> None:
    """Let the open item about a mismatch say what the PSP has taken in the end, as which object."""
    asked = (Review.attempt_id == attempt_id, Review.kind == "mismatch")
    await _correct(session, asked, amount=amount, reference=reference)


async def _correct(
    session: AsyncSession, which: Sequence[ColumnElement[bool]], **values: Any
) -> int:
    finding = case((Review.stage.is_(None), Review.finding), else_=_OTHER_BY_NOW)
    corrected = await session.execute(
        update(Review)
        .where(*which, Review.state == "open")
        .values(stage=None, finding=finding, version=Review.version + 1, **values)
        .returning(Review.id)
        .execution_options(synchronize_session=False)
    )
    return len(corrected.all())


async def close_returned(
    session: AsyncSession, *, payment_id: str, reference: str, how: str, now: datetime
) -> None:
    """Close the items about money of an object of the PSP that has gone back."""
    await _close(session, _about(payment_id, reference), how, now)


def _about(payment_id: str, reference: str) -> tuple[ColumnElement[bool], ...]:
    return (
        Review.payment_id == payment_id,
        Review.reference == reference,
        Review.kind.in_(OF_MONEY),
    )


async def close_answered(
    session: AsyncSession, *, attempt_ids: Sequence[str], now: datetime
) -> None:
    """Close the items of attempts that the PSP has answered for meanwhile.

    Money that came unexpectedly is another question: it stays open until it has gone back.
    """
    asked = (Review.attempt_id.in_(attempt_ids), Review.kind != "unexpected_receipt")
    await _close(session, asked, SETTLED, now)


async def _close(
    session: AsyncSession, which: Sequence[ColumnElement[bool]], how: str, now: datetime
) -> None:
    await session.execute(
        update(Review)
        .where(*which, Review.state == "open")
        .values(
            state="closed", stage=None, closed_at=now, closed_how=how, version=Review.version + 1
        )
        .execution_options(synchronize_session=False)
    )
