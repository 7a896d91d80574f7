"""Money that fits no payment: held apart until the PSP's own list shows that it went back.

Each charge whose money is held has one receipt in the ledger. A refund of it that the PSP shows
takes its part out again, and puts it back should the PSP fail that refund afterwards. The keys of
the postings say what is booked, so the list can be followed any number of times.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.ledger import postings
from app.ledger.models import PostingRow
from app.ledger.postings import Posting
from app.money import Money
from app.payments.change import Change
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
    """What was held apart of a charge, in minor units, and the PSP's refunds booked of it."""

    amount: int
    account: str  # The receivable that it came to, which tells connection and currency.
    returned: frozenset[str]
    reversed: frozenset[str]

    def left(self, seen: Sequence[RefundSeen]) -> int:
        """Return what has not gone back by the PSP's list of the charge's refunds."""
        return self.amount - sum(one.amount for one in seen if one.status == "succeeded")

    def gone(self, seen: Sequence[RefundSeen]) -> list[RefundSeen]:
        """Return the refunds that have succeeded and are not booked."""
        return [
            one
            for one in seen
            if one.status == "succeeded" and one.psp_reference not in self.returned
        ]

    def came_back(self, seen: Sequence[RefundSeen]) -> list[RefundSeen]:
        """Return the refunds that are booked as gone, and that the PSP has failed since."""
        return [
            one
            for one in seen
            if one.status == "failed" and one.psp_reference in self.returned - self.reversed
        ]


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
        returned=_ids(booked, "suspense_return"),
        reversed=_ids(booked, "suspense_reversal"),
    )


def _ids(keys: Iterable[str], kind: str) -> frozenset[str]:
    parts = (key.partition(":") for key in keys)
    return frozenset(psp_id for of, _, psp_id in parts if of == kind)


async def follow(change: Change, *, reference: str, seen: Sequence[RefundSeen]) -> bool:
    """Bring the books of a charge that is held apart in line with the PSP's list of its refunds.

    What went back, all of it, closes the open items about it and ends the attempt that waited for a
    person. False: none of the charge's money was ever held apart. Raises TooMuch.
    """
    held = await apart(change.session, payment_id=change.payment.id, reference=reference)
    if held is None:
        return False
    left, gone, came_back = held.left(seen), held.gone(seen), held.came_back(seen)
    if left < 0:
        raise TooMuch(f"The PSP shows more gone back of {reference} than it took.")
    if not gone and not came_back:
        return True
    booked = [_posting(change, one, postings.suspense_reversal) for one in came_back]
    booked += [_posting(change, one, postings.suspense_return) for one in gone]
    if any(held.account not in _accounts(each) for each in booked):
        raise TooMuch(f"The PSP shows another currency gone back than {reference} took.")
    for each in booked:
        change.post(each)
    attempt = await _asked_about(change, reference)
    if left == 0:
        await reviews.close_returned(
            change.session, attempt_id=attempt.id, how=_WENT_BACK, now=change.now
        )
        if attempt.state == "needs_review":
            await did_not_happen(change, attempt, code=RETURNED)
        return True
    if came_back:
        change.review(
            attempt,
            "unexpected_receipt",
            _CAME_BACK,
            amount=left,
            currency=came_back[0].currency,
            suggestion="refund_at_psp",
            reference=reference,
        )
    await reviews.correct(change.session, attempt_id=attempt.id, amount=left, reference=reference)
    return True


def _accounts(posting: Posting) -> set[str]:
    (transfer,) = posting.transfers
    return {transfer.debit, transfer.credit}


def _posting(change: Change, seen: RefundSeen, how: Callable[..., Posting]) -> Posting:
    payment = change.payment
    return how(
        psp_id=seen.psp_reference,
        payment_id=payment.id,
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        connection_id=payment.connection_id,
        amount=Money(seen.amount, seen.currency),
    )


async def _asked_about(change: Change, reference: str) -> Attempt:
    """Return the attempt whose item asked a person about a charge: each receipt has one."""
    query = (
        select(Attempt)
        .join(Review, Review.attempt_id == Attempt.id)
        .where(Review.payment_id == change.payment.id, Review.reference == reference[:255])
        .order_by(Review.id.desc())
        .limit(1)
    )
    found = await change.session.scalar(query.execution_options(populate_existing=True))
    if found is None:
        raise RuntimeError(f"nobody was asked about {reference}, which is held apart")
    return found
