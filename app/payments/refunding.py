"""How refunds begin and end: set aside; the customer has the money, or it goes back."""

from typing import Any, Literal

from sqlalchemy import select

from app.ledger import postings
from app.merchants.models import Merchant
from app.money import Money
from app.payments.attempts import installation_of
from app.payments.change import Change
from app.payments.models import Attempt, Refund
from app.psp.port import RefundSeen

Adopted = Literal["known", "booked", "no_room"]
_TAKEN_BACK = "The PSP could not pay the refund out and took it back."


def new_refund(
    change: Change,
    merchant: Merchant,
    *,
    amount: int,
    reason: str | None,
    source: str,
    metadata: dict[str, str],
) -> Refund:
    """Add a refund whose room is taken already, with the parts it takes from the wallet."""
    payment = change.payment
    share = postings.fee_share(
        fee=payment.fee if merchant.fee_return else 0,
        captured=payment.amount_captured,
        refunded=payment.amount_refunded - amount,
        returned=payment.fee_returned,
        amount=amount,
    )
    from_pending, from_available = postings.split_refund(amount - share, payment.amount_pending)
    payment.fee_returned += share
    payment.amount_pending -= from_pending
    payment.updated_at = change.now
    refund = Refund(
        id=change.rt.ids("re"),
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        payment_id=payment.id,
        amount=amount,
        currency=payment.currency,
        status="pending",
        source=source,
        reason=reason,
        fee_share=share,
        from_pending=from_pending,
        from_available=from_available,
        meta=metadata,
        created_at=change.now,
        updated_at=change.now,
    )
    change.session.add(refund)
    change.refund_event(refund, "refund.created", previous=None)
    return refund


async def refund_of(change: Change, attempt: Attempt) -> Refund:
    """Return the refund that an attempt is for."""
    refund = await change.session.get(Refund, attempt.refund_id, populate_existing=True)
    if refund is None:
        raise RuntimeError(f"attempt {attempt.id} has no refund")
    return refund


def settle_refund(change: Change, refund: Refund) -> None:
    """Record that the customer has the money back."""
    payment = change.payment
    if refund.status != "pending":
        return
    change.post(
        postings.refund_settle(
            refund_id=refund.id,
            payment_id=payment.id,
            merchant_id=payment.merchant_id,
            livemode=payment.livemode,
            connection_id=payment.connection_id,
            amount=Money(refund.amount, refund.currency),
        )
    )
    change.move_refund(refund, "succeeded")


def fail_refund(
    change: Change, refund: Refund, *, code: str, message: str | None, reserved: bool
) -> None:
    """End a refund that did not happen; what was set aside goes back to where it came from.

    `reserved`: whether the ledger has set it aside (a refused reserve has nothing to release).
    """
    payment = change.payment
    if refund.status == "failed":
        return
    settled = payment.settled_at is not None
    taken_back = refund.status == "succeeded"
    payment.amount_refunded -= refund.amount
    payment.fee_returned -= refund.fee_share
    if not settled and not taken_back:
        payment.amount_pending += refund.from_pending
    refund.failure_code = code[:60]
    refund.failure_message = (message or "")[:500] or None
    common: dict[str, Any] = {
        "refund_id": refund.id,
        "payment_id": payment.id,
        "merchant_id": payment.merchant_id,
        "livemode": payment.livemode,
    }
    if taken_back:
        change.post(
            postings.refund_reversal(
                **common,
                connection_id=payment.connection_id,
                currency=refund.currency,
                own=refund.amount - refund.fee_share,
                fee_share=refund.fee_share,
            )
        )
    elif reserved:
        change.post(
            postings.refund_release(
                **common,
                currency=refund.currency,
                from_pending=refund.from_pending,
                from_available=refund.from_available,
                fee_share=refund.fee_share,
                settled=settled,
            )
        )
    elif settled and refund.from_pending:
        # The reserve was refused after the rest had been settled without this part.
        amount = Money(refund.from_pending, refund.currency)
        change.post(postings.settle(**common, amount=amount))
    change.move_refund(refund, "failed")


def take_back(change: Change, refund: Refund) -> None:
    """Compensate a refund that had succeeded and that the PSP has taken back."""
    if refund.status == "succeeded":
        fail_refund(change, refund, code="taken_back", message=_TAKEN_BACK, reserved=True)


async def adopt(change: Change, seen: RefundSeen, *, disowned: bool = False) -> Adopted:
    """Record a refund that somebody made at the PSP: the money has gone, so it is not guarded.

    `disowned`: it names an attempt of ours, which has another refund. `no_room`: it finds none in
    the payment (yet), because refunds of ours are still in flight.
    """
    payment = change.payment
    ours = await installation_of(change.session, change.rt)
    if seen.installation == ours and seen.attempt_id is not None and not disowned:
        return "known"  # One of our own, which its attempt settles.
    known = await change.session.scalar(
        select(Refund).where(Refund.psp_reference == seen.psp_reference)
    )
    if known is not None:
        if seen.status == "failed":
            take_back(change, known)
        return "known"
    if seen.status != "succeeded":
        return "known"  # Its event comes when it is known.
    room = payment.amount_captured - payment.amount_refunded
    if seen.currency != payment.currency or seen.amount > room:
        return "no_room"
    merchant = await change.session.get(Merchant, payment.merchant_id)
    if merchant is None:
        raise RuntimeError(f"payment {payment.id} has no merchant")
    payment.amount_refunded += seen.amount
    refund = new_refund(
        change, merchant, amount=seen.amount, reason=None, source="psp", metadata={}
    )
    refund.psp_reference = seen.psp_reference
    change.post(
        postings.refund_reserve(
            refund_id=refund.id,
            payment_id=payment.id,
            merchant_id=payment.merchant_id,
            livemode=payment.livemode,
            currency=payment.currency,
            from_pending=refund.from_pending,
            from_available=refund.from_available,
            fee_share=refund.fee_share,
            overdraft_limit=None,
        )
    )
    settle_refund(change, refund)
    return "booked"
