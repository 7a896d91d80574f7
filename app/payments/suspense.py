"""Money that fits no payment: held apart until the PSP's own list shows that it went back.

Each charge whose money is held has one receipt in the ledger. A refund of it that the PSP shows
takes its part out again, and puts it back should the PSP fail that refund afterwards. The keys of
the postings say what is booked, so the list can be followed any number of times.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.ledger import postings
from app.ledger.models import PostingRow
from app.ledger.postings import Posting
from app.money import Money
from app.payments.change import Change, attempts_of
from app.payments.models import Attempt
from app.payments.resolving import did_not_happen
from app.payments.states import RETURNED
from app.psp.port import RefundSeen
from app.reviews import operations as reviews
from app.reviews.models import Review

_KINDS = ("unexpected_receipt", "suspense_return", "suspense_reversal")
_WENT_BACK = "The money went back at the PSP."
_CAME_BACK = "The PSP could not pay the refund out and took it back. Refund the charge again."


class TooMuch(Exception):
    """The PSP shows other money gone back than was held apart of the charge."""


class Apart(msgspec.Struct, frozen=True, kw_only=True):
    """What was held apart of a charge, and the PSP's refunds booked of it; in minor units."""

    amount: int
    account: str  # The receivable that it came to, which tells connection and currency.
    returned: dict[str, int]  # By the PSP's id of the refund.
    reversed: frozenset[str]

    def gone(self, seen: Sequence[RefundSeen]) -> list[RefundSeen]:
        """Return the refunds that have succeeded and were never booked."""
        return [
            one
            for one in seen
            if one.status == "succeeded" and one.psp_reference not in self.returned
        ]

    def came_back(self, seen: Sequence[RefundSeen]) -> list[RefundSeen]:
        """Return the refunds that are booked as gone, and that the PSP has failed since."""
        booked = self.returned.keys() - self.reversed
        return [one for one in seen if one.status == "failed" and one.psp_reference in booked]

    def left(self, seen: Sequence[RefundSeen]) -> int:
        """Return what is held apart once these refunds are booked."""
        booked = {n: minor for n, minor in self.returned.items() if n not in self.reversed}
        for one in self.came_back(seen):
            del booked[one.psp_reference]
        return self.amount - sum(booked.values()) - sum(one.amount for one in self.gone(seen))


async def apart(session: AsyncSession, *, payment_id: str, reference: str | None) -> Apart | None:
    """Return what was held apart of a charge of a payment; None: nothing ever."""
    query = select(PostingRow.key, PostingRow.transfers).where(
        PostingRow.payment_id == payment_id, PostingRow.kind.in_(_KINDS)
    )
    booked = {row.key: row.transfers for row in await session.execute(query)}
    receipt = booked.get(f"unexpected_receipt:{reference}")
    if receipt is None:
        return None
    account, _, amount = receipt[0]
    return Apart(
        amount=int(amount),
        account=account,
        returned=_of(booked, f"suspense_return:{reference}:") | _unnamed(booked),
        reversed=frozenset(_of(booked, f"suspense_reversal:{reference}:")),
    )


def _of(booked: dict[str, Any], kind: str) -> dict[str, int]:
    return {
        key.removeprefix(kind): int(transfers[0][2])
        for key, transfers in booked.items()
        if key.startswith(kind)
    }


def _unnamed(booked: dict[str, Any]) -> dict[str, int]:
    """Return what was booked before the keys named the charge: of all charges of the payment."""
    old = _of(booked, "suspense_return:")
    return {name: minor for name, minor in old.items() if ":" not in name}


async def follow(change: Change, *, reference: str, seen: Sequence[RefundSeen]) -> bool | None:
    """Bring the books of a charge that is held apart in line with the PSP's list of its refunds.

    What went back, all of it, closes the open items about it and ends the attempt that waited for a
    person. Returns whether anything was booked; None: none of the charge's money was ever held
    apart. Raises TooMuch.
    """
    held = await apart(change.session, payment_id=change.payment.id, reference=reference)
    if held is None:
        return None
    left, gone, came_back = held.left(seen), held.gone(seen), held.came_back(seen)
    if left < 0:
        raise TooMuch(f"The PSP shows more gone back of {reference} than it took.")
    booked = [_posting(change, reference, one, postings.suspense_reversal) for one in came_back]
    booked += [_posting(change, reference, one, postings.suspense_return) for one in gone]
    if any(held.account not in _accounts(each) for each in booked):
        raise TooMuch(f"The PSP shows another currency gone back than {reference} took.")
    for each in booked:
        change.post(each)
    if booked:
        await _tell_people(change, reference, left, came_back=bool(came_back))
    return bool(booked)


async def _tell_people(change: Change, reference: str, left: int, *, came_back: bool) -> None:
    """Let the items about a charge say what is left of it."""
    about = {"payment_id": change.payment.id, "reference": reference}
    if left == 0:
        await reviews.close_returned(change.session, **about, how=_WENT_BACK, now=change.now)
        for attempt in await attempts_of(change.session, change.payment.id):
            charged = attempt.kind in {"charge", "checkout"} and attempt.psp_reference == reference
            if charged and attempt.state == "needs_review":
                await did_not_happen(change, attempt, code=RETURNED)
        return
    why = _CAME_BACK if came_back else None
    open_items = await reviews.correct(change.session, **about, amount=left, why=why)
    if open_items == 0:
        change.review(
            await _asked_about(change, reference),
            "unexpected_receipt",
            _CAME_BACK,
            amount=left,
            suggestion="refund_at_psp",
            reference=reference,
        )


def _accounts(posting: Posting) -> set[str]:
    (transfer,) = posting.transfers
    return {transfer.debit, transfer.credit}


def _posting(
    change: Change, reference: str, seen: RefundSeen, how: Callable[..., Posting]
) -> Posting:
    payment = change.payment
    return how(
        psp_id=seen.psp_reference,
        charge=reference,
        payment_id=payment.id,
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        connection_id=payment.connection_id,
        amount=Money(seen.amount, seen.currency),
    )


async def _asked_about(change: Change, reference: str) -> Attempt:
    """Return the attempt that a person was asked about when the charge was held apart."""
    query = (
        select(Attempt)
        .join(Review, Review.attempt_id == Attempt.id)
        .where(
            Review.payment_id == change.payment.id,
            Review.reference == reference,
            Review.kind.in_(reviews.OF_MONEY),
        )
        .order_by(Review.id.desc())
        .limit(1)
    )
    found = await change.session.scalar(query.execution_options(populate_existing=True))
    if found is None:
        raise RuntimeError(f"nobody was asked about {reference}, which is held apart")
    return found
