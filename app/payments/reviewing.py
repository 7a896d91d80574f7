"""What people decide about payments that the risk check holds; and the list of those payments."""

from typing import Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import operations as audit
from app.audit.models import AuditRow
from app.audit.operations import Actor
from app.errors import Conflict, NotFound, Refused
from app.payments import holding
from app.payments.change import Change, lock
from app.payments.models import Payment
from app.risk import queries
from app.risk.models import RiskCheck
from app.runtime import Runtime

SHORTEST_REASON, LONGEST_REASON = 3, 1000
Decision = Literal["approve", "refuse"]


class ReviewUnknown(NotFound):
    """The risk check never held this payment."""

    code = "review_not_found"


class ReviewOver(Conflict):
    """Somebody was faster, or the payment ended by itself."""

    code = "review_over"


class ReviewReason(Refused):
    """A decision is explained to those who read the audit log later."""

    code = "reason_too_short"


class Held(msgspec.Struct, frozen=True):
    """A payment with its risk check."""

    payment: Payment
    check: RiskCheck


async def decide(
    session: AsyncSession,
    *,
    rt: Runtime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    payment_id: str,
    decision: Decision,
    why: str,
    seen: int,
) -> None:
    """Approve or refuse a payment that is held; `seen` is the version that the person looked at.

    Approved: charged (off-session), captured (hosted), or left to the shop that captures by hand.
    Refused: failed with `risk_refused`; what the customer authorised is let go of first.
    Raises PaymentUnknown, ReviewUnknown, ReviewReason, ReviewOver.
    """
    reason = " ".join(why.split())
    if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON or not reason.isprintable():
        detail = f"Write {SHORTEST_REASON} to {LONGEST_REASON:,} characters."
        raise ReviewReason(detail, param="reason")
    change = await lock(
        session, rt, payment_id=payment_id, merchant_id=merchant_id, livemode=livemode
    )
    row = await queries.check_of(session, payment_id)
    if row is None or row.review in {None, "later"}:
        raise ReviewUnknown("This payment does not wait for anybody.")
    if row.review != "waiting" or row.version != seen or not await holding.waits(change):
        raise ReviewOver(over(row))
    approved = decision == "approve"
    row.review = "approved" if approved else "refused"
    row.reviewed_at, row.reviewed_by, row.review_reason = change.now, actor.name[:200], reason
    row.version += 1
    _audit(change, actor, f"payment.review_{row.review}", reason)
    if approved:
        _go_on(change)
    else:
        _end(change)
    await change.save()


def over(row: RiskCheck) -> str:
    """Say why nobody can decide any more; pure."""
    if row.review == "approved":
        return f"{row.reviewed_by} has approved this payment meanwhile. Nothing was done twice."
    if row.review == "refused":
        return f"{row.reviewed_by} has refused this payment meanwhile. Nothing was done twice."
    if row.review == "over":
        return "It was cancelled, has lapsed or was captured meanwhile. Nothing was changed."
    return "This payment has changed since you opened it. Look at it again."


def _go_on(change: Change) -> None:
    payment = change.payment
    args = {"payment_id": payment.id}
    if not payment.hosted:
        change.move("processing")
        change.job("payments.charge", queue="psp", args=args)
    elif payment.capture_method == "manual":
        change.move("requires_capture")
    else:
        change.move("processing")
        change.job("payments.capture", queue="psp", args=args | {"amount": payment.amount})


def _end(change: Change) -> None:
    if not change.payment.hosted:
        holding.refuse(change)
        return
    # The customer's money is held: only the PSP's word that it is free again ends the payment.
    holding.note_refusal(change)
    change.move("processing", "canceling")
    change.job("payments.void", queue="psp", args={"payment_id": change.payment.id})


def _audit(change: Change, actor: Actor, action: str, reason: str) -> None:
    payment = change.payment
    values = audit.row(
        ids=change.rt.ids,
        now=change.now,
        actor=actor,
        action=action,
        object_id=payment.id,
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        before={"status": payment.status, "status_reason": payment.status_reason},
        after={"amount": payment.amount, "currency": payment.currency},
        reason=reason,
    )
    change.row(AuditRow, values)


async def waiting(
    session: AsyncSession, *, merchant_id: str, livemode: bool, limit: int = 100
) -> list[Held]:
    """Return the payments of a shop that wait for a person, oldest first."""
    query = (
        select(Payment, RiskCheck)
        .join(RiskCheck, RiskCheck.payment_id == Payment.id)
        .where(
            RiskCheck.merchant_id == merchant_id,
            RiskCheck.livemode == livemode,
            RiskCheck.review == "waiting",
        )
        .order_by(RiskCheck.held_at, RiskCheck.payment_id)
        .limit(limit)
    )
    return [Held(payment, check) for payment, check in (await session.execute(query)).all()]


async def held(session: AsyncSession, *, merchant_id: str, livemode: bool, payment_id: str) -> Held:
    """Return one payment that a person decides, or has decided. Raises ReviewUnknown."""
    query = (
        select(Payment, RiskCheck)
        .join(RiskCheck, RiskCheck.payment_id == Payment.id)
        .where(
            RiskCheck.payment_id == payment_id,
            RiskCheck.merchant_id == merchant_id,
            RiskCheck.livemode == livemode,
            RiskCheck.review.in_(("waiting", "approved", "refused", "over")),
        )
    )
    found = (await session.execute(query)).first()
    if found is None:
        raise ReviewUnknown("There is no such review.")
    return Held(found[0], found[1])
