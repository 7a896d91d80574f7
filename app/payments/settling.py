"""What follows from a charge by itself: the PSP's own fee, and the day when it is available."""

from typing import Any

from sqlalchemy import select

from app import jobs
from app.jobs import Claim, NotNow, Postpone
from app.ledger import postings
from app.money import Money
from app.payments.change import Change, lock
from app.payments.models import Payment
from app.payments.processing import backoff
from app.payments.receipts import post_fee
from app.psp.gates import LOOKUP
from app.psp.port import Result
from app.runtime import Runtime


async def fetch_fee(rt: Runtime, job: Claim) -> None:
    """Post the PSP's fee of a charge, once the PSP knows it."""
    payment_id = job.args["payment_id"]
    async with rt.sessions.read() as session:
        payment = await session.get(Payment, payment_id)
    if payment is None or payment.psp_reference is None:
        return
    result = await _ask(rt, payment.connection_id, payment.psp_reference)
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=payment_id)
        known = result.cls == "succeeded" and post_fee(change, result)
        if known:
            await change.save()
            await jobs.finish(session, job=job, now=rt.clock())
    if not known:
        raise Postpone(backoff(rt, job.tries), "The PSP does not know its fee yet.")


async def _ask(rt: Runtime, connection_id: str, reference: str) -> Result:
    adapter = rt.psp(connection_id)
    result = await rt.gates.through(connection_id, LOOKUP, lambda: adapter.fee(reference))
    if result.turned_away:
        raise NotNow(result.retry_after or 0.0, result.message or "")
    return result


async def settle_due(rt: Runtime, *, limit: int = 500) -> int:
    """Release payments whose delay is over from pending to available; returns how many."""
    async with rt.sessions.begin() as session:
        query: Any = (
            select(Payment)
            .where(Payment.settled_at.is_(None), Payment.available_on <= rt.clock())
            .order_by(Payment.available_on)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        due = list((await session.scalars(query)).all())
        for payment in due:
            change = Change(session, rt, payment, None)
            if payment.amount_pending > 0:
                change.post(
                    postings.settle(
                        payment_id=payment.id,
                        merchant_id=payment.merchant_id,
                        livemode=payment.livemode,
                        amount=Money(payment.amount_pending, payment.currency),
                    )
                )
            payment.amount_pending = 0
            payment.settled_at = payment.updated_at = change.now
            await change.save()
        return len(due)
