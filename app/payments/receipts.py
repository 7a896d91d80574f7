"""What comes in: money that was charged, its fees, and what a bank says instead of money."""

from datetime import timedelta

from app.ledger import postings
from app.merchants.models import Merchant
from app.money import Money
from app.payments.attempts import is_carried
from app.payments.change import Change
from app.payments.models import Attempt
from app.payments.queries import is_suspended
from app.payments.refunding import adopt
from app.payments.ruling import DONE, Ruling
from app.payments.states import ATTEMPT_FINAL, FINAL, UNEXPECTED
from app.psp.port import Result

_TWICE = "Paid although other money is held for it. Refund it at the PSP: the money is in suspense."
_TOO_LATE = "Paid after the payment had ended. Refund it at the PSP: the money is in suspense."


def end_attempt(change: Change, attempt: Attempt, state: str, result: Result | None = None) -> None:
    """Bring an attempt to a final state; a success keeps no word of earlier failures."""
    change.answered(attempt)
    attempt.state = state
    attempt.next_check_at = None
    attempt.updated_at = attempt.finished_at = change.now
    if state == "succeeded":
        attempt.code = attempt.decline_code = attempt.message = None
    elif result is not None and result.code:
        attempt.code = result.code[:60]
        attempt.decline_code = result.decline_code and result.decline_code[:60]
        attempt.message = (result.message or "")[:500] or None


def note_decline(change: Change, result: Result) -> None:
    """Keep the last decline on the payment, for the merchant to read."""
    payment = change.payment
    payment.failure_code = (result.code or "declined")[:60]
    payment.failure_decline_code = result.decline_code and result.decline_code[:60]
    payment.failure_message = (result.message or "")[:500] or None
    payment.method = result.method or payment.method
    payment.updated_at = change.now


def suspend(change: Change, amount: int, currency: str | None, reference: str) -> None:
    """Hold money that fits no payment apart from every wallet."""
    payment = change.payment
    change.post(
        postings.unexpected_receipt(
            psp_id=reference,
            payment_id=payment.id,
            merchant_id=payment.merchant_id,
            livemode=payment.livemode,
            connection_id=payment.connection_id,
            amount=Money(amount, currency or payment.currency),
        )
    )


async def paid(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """Record that the customer was charged: once, in the ledger, and to the merchant."""
    payment = change.payment
    captured = result.amount_captured or result.amount or attempt.amount
    if attempt.state not in ATTEMPT_FINAL:
        end_attempt(change, attempt, "succeeded")
    if payment.status in FINAL:
        return await _fits_nothing(change, attempt, result, captured, why=_TOO_LATE)
    if await is_carried(change, attempt):
        return await _fits_nothing(change, attempt, result, captured, why=_TWICE)
    merchant = await change.session.get(Merchant, payment.merchant_id)
    if merchant is None:
        raise RuntimeError(f"payment {payment.id} has no merchant")
    fee = postings.platform_fee(captured, merchant.fee_basis_points, merchant.fee_fixed)
    payment.amount_captured, payment.fee = captured, fee
    payment.amount_pending = captured - fee
    payment.captured_at = change.now
    payment.available_on = change.now + timedelta(seconds=merchant.settle_delay_seconds)
    payment.psp_reference = result.psp_reference or payment.psp_reference
    payment.method = result.method or payment.method
    payment.failure_code = payment.failure_decline_code = payment.failure_message = None
    change.post(
        postings.capture(
            attempt_id=attempt.id,
            payment_id=payment.id,
            merchant_id=payment.merchant_id,
            livemode=payment.livemode,
            connection_id=payment.connection_id,
            amount=Money(captured, payment.currency),
            fee=fee,
        )
    )
    if payment.status == "requires_capture":
        change.move("processing")  # The graph has no direct edge: somebody captured at the PSP.
    change.move("succeeded")
    if not post_fee(change, result):
        args = {"payment_id": payment.id}
        change.job("payments.fetch_fee", queue="psp", args=args, after=2.0)
    for seen in result.refunds:
        await adopt(change, seen)
    return DONE


async def _fits_nothing(
    change: Change, attempt: Attempt, result: Result, captured: int, *, why: str
) -> Ruling:
    payment = change.payment
    # A hold and its capture are one object: its money is recorded already.
    same = attempt.kind == "capture" or result.psp_reference == payment.psp_reference
    if payment.status == "succeeded" and same:
        return DONE
    reference = result.psp_reference or attempt.id
    if await is_suspended(change.session, reference):
        return DONE  # A person was asked about it, and may have had it refunded.
    suspend(change, captured, result.currency, reference)
    change.review(
        attempt,
        "unexpected_receipt",
        why,
        amount=captured,
        currency=result.currency,
        suggestion="refund_at_psp",
        reference=reference,
    )
    attempt.code, attempt.message = UNEXPECTED, why
    return Ruling("bury", why)


def post_fee(change: Change, result: Result) -> bool:
    """Post the PSP's own fee, once it is known; the platform bears it."""
    payment = change.payment
    if result.fee is None or result.balance_transaction is None:
        return False
    if result.fee > 0:
        change.post(
            postings.psp_fee(
                balance_transaction=result.balance_transaction,
                payment_id=payment.id,
                merchant_id=payment.merchant_id,
                livemode=payment.livemode,
                connection_id=payment.connection_id,
                amount=Money(result.fee, result.fee_currency or payment.currency),
            )
        )
    return True
