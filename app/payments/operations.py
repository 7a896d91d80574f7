"""What is asked for later: capture, cancel, refund; each in the caller's transaction."""

from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import operations as audit
from app.audit.models import AuditRow
from app.audit.operations import Actor
from app.errors import Conflict, Refused, Stale
from app.ledger import postings
from app.ledger.postings import AnswerJob
from app.merchants.models import Merchant
from app.payments import limits, schemas
from app.payments.attempts import look_soon
from app.payments.change import Change, PaymentUnknown, attempts_of, lock, work_key
from app.payments.ending import drop_unsent, payable, under_way
from app.payments.models import Payment, Refund
from app.payments.refunding import new_refund
from app.payments.states import FINAL
from app.runtime import Runtime


class PaymentBusy(Conflict):
    """A charge, capture or cancel of this payment is under way or its outcome is unknown."""

    code = "payment_busy"


class PaymentAlreadyPaid(Conflict):
    """The customer was faster: a paid payment is refunded, not cancelled."""

    code = "payment_already_paid"


class PaymentWrongState(Conflict):
    """The payment's status does not allow this."""

    code = "payment_wrong_state"


class AmountTooLarge(Refused):
    """More than the authorization holds."""

    code = "amount_too_large"


class AmountExceedsRefundable(Refused):
    """More than what is left of the captured amount."""

    code = "amount_exceeds_refundable"


class RefundAmountStale(Stale):
    """`refund_amount_available` is not what is left now."""

    code = "refund_amount_available_stale"


def _audit(change: Change, actor: Actor, action: str, object_id: str, after: Any) -> None:
    payment = change.payment
    change.row(
        AuditRow,
        audit.row(
            ids=change.rt.ids,
            now=change.now,
            actor=actor,
            action=action,
            object_id=object_id,
            merchant_id=payment.merchant_id,
            livemode=payment.livemode,
            before={"status": payment.status},
            after=after,
        ),
    )


def _check_step(change: Change, amount: int) -> None:
    payment = change.payment
    taken = change.rt.psp(payment.connection_id).limits(payment.currency)
    limits.check_step(taken, amount=amount, currency=payment.currency)


async def request_capture(
    session: AsyncSession,
    *,
    rt: Runtime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    payment_id: str,
    amount: int | None,
) -> schemas.PaymentShape:
    """Ask for the money that is held; null captures all. What is left of the hold is released.

    Raises PaymentUnknown, PaymentBusy, PaymentWrongState, AmountTooLarge, AmountNotRepresentable.
    """
    change = await lock(
        session, rt, payment_id=payment_id, merchant_id=merchant_id, livemode=livemode
    )
    payment = change.payment
    if payment.status != "requires_capture":
        if payment.status == "processing":
            raise PaymentBusy("This payment is being worked on; try again when it is known.")
        raise PaymentWrongState(f"A payment that is {payment.status} cannot be captured.")
    if amount is not None and amount > payment.amount:
        raise AmountTooLarge(
            f"The authorization holds {payment.amount} minor units.", param="amount"
        )
    wanted = payment.amount if amount is None else amount
    _check_step(change, wanted)
    _audit(change, actor, "payment.capture", payment.id, {"amount": wanted})
    change.move("processing")
    args = {"payment_id": payment.id, "amount": wanted}
    change.job("payments.capture", queue="psp", args=args)
    await change.save()
    return change.shape()


async def request_cancel(
    session: AsyncSession,
    *,
    rt: Runtime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    payment_id: str,
) -> schemas.PaymentShape:
    """Ask for an end without a charge; only the PSP's confirmation ends a payment it knows of.

    While a charge is under way the cancel is kept as a wish and carried out when it is known.
    Raises PaymentUnknown, PaymentAlreadyPaid, PaymentWrongState.
    """
    change = await lock(
        session, rt, payment_id=payment_id, merchant_id=merchant_id, livemode=livemode
    )
    payment = change.payment
    if payment.status == "succeeded":
        raise PaymentAlreadyPaid("This payment has been paid; refund it instead.")
    if payment.status in FINAL:
        raise PaymentWrongState(f"This payment is {payment.status} already.")
    if payment.cancel_requested_at is not None:
        return change.shape()
    attempts = await attempts_of(session, payment.id)
    if any(row.state == "needs_review" for row in attempts):
        raise PaymentWrongState("A person compares this payment with the PSP's records first.")
    _audit(change, actor, "payment.cancel", payment.id, None)
    payment.cancel_requested_at = change.now
    # A capture that was accepted and not sent gives way: the later word of the shop holds.
    drop_unsent(change, attempts, "checkout", "charge", "capture")
    if not payable(attempts):
        # Nothing at the PSP can be paid, so nobody else needs to agree.
        drop_unsent(change, attempts, "void")
        change.move("canceled")
    else:
        change.move("processing", "canceling")
        if not under_way(attempts):
            change.job("payments.void", queue="psp", args={"payment_id": payment.id})
        else:
            await look_soon(change)
    await change.save()
    return change.shape()


async def request_refund(
    session: AsyncSession,
    *,
    rt: Runtime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    payment_id: str,
    amount: int | None,
    reason: str | None = None,
    amount_available: int | None = None,
    metadata: dict[str, str] | None = None,
    source: str = "api",
) -> schemas.RefundShape:
    """Set part of a payment aside; the ledger's yes sends it to the PSP, its no fails it.

    Raises PaymentUnknown, PaymentWrongState, RefundAmountStale, AmountExceedsRefundable,
    AmountNotRepresentable.
    """
    change = await lock(
        session, rt, payment_id=payment_id, merchant_id=merchant_id, livemode=livemode
    )
    payment = change.payment
    left = payment.amount_captured - payment.amount_refunded
    if payment.status != "succeeded":
        raise PaymentWrongState(f"A payment that is {payment.status} cannot be refunded.")
    if amount_available is not None and amount_available != left:
        raise RefundAmountStale(
            f"There are {left} minor units left to refund.", param="refund_amount_available"
        )
    wanted = left if amount is None else amount
    if wanted > left or left == 0:
        raise AmountExceedsRefundable(
            f"There are {left} minor units left to refund.", param="amount"
        )
    _check_step(change, wanted)
    if payment.amount_refunded:
        await look_soon(change)  # What became of another refund may be an open question.
    await _take_room(session, payment, wanted)
    merchant = await _merchant(session, merchant_id)
    refund = new_refund(
        change, merchant, amount=wanted, reason=reason, source=source, metadata=metadata or {}
    )
    change.post(
        postings.refund_reserve(
            refund_id=refund.id,
            payment_id=payment.id,
            merchant_id=merchant_id,
            livemode=livemode,
            currency=payment.currency,
            from_pending=refund.from_pending,
            from_available=refund.from_available,
            fee_share=refund.fee_share,
            overdraft_limit=merchant.overdraft_limit,
            answer_accepted_job=_answer(payment, refund, "payments.send_refund"),
            answer_refused_job=_answer(payment, refund, "payments.refund_refused"),
        )
    )
    _audit(change, actor, "refund.create", refund.id, {"amount": wanted, "payment": payment.id})
    await change.save()
    return schemas.refund(refund)


async def _take_room(session: AsyncSession, payment: Payment, amount: int) -> None:
    # The row is locked already; this condition is the belt to those braces, on SQLite as on
    # PostgreSQL: two refunds racing for the last cent cannot both find room.
    taken = await session.execute(
        update(Payment)
        .where(
            Payment.id == payment.id,
            Payment.merchant_id == payment.merchant_id,
            Payment.livemode == payment.livemode,
            Payment.amount_captured - Payment.amount_refunded >= amount,
        )
        .values(amount_refunded=Payment.amount_refunded + amount)
        .returning(Payment.amount_refunded)
        .execution_options(synchronize_session=False)
    )
    row = taken.first()
    if row is None:
        raise AmountExceedsRefundable("Another refund took this amount.", param="amount")
    await session.refresh(payment, ["amount_refunded"])


async def _merchant(session: AsyncSession, merchant_id: str) -> Merchant:
    merchant = await session.get(Merchant, merchant_id)
    if merchant is None:
        raise PaymentUnknown("There is no such merchant.")
    return merchant


def _answer(payment: Payment, refund: Refund, kind: str) -> AnswerJob:
    args = {"payment_id": refund.payment_id, "refund_id": refund.id}
    return AnswerJob(kind=kind, args=args, queue="psp", fair_key=work_key(kind, payment))
