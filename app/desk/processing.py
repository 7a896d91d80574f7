"""Carries a person's decision out: start, ask the PSP, compare, and only then act on it.

What the PSP shows counts whether it agrees or not: it is booked as any answer is.
"""

from contextlib import suppress
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.desk import operations
from app.desk.finding import (
    Finding,
    Other,
    of_did_not_happen,
    of_happened,
    of_otherwise,
    of_refunded,
)
from app.jobs import Claim, Postpone
from app.payments import attempts, calls, outcomes, resolving, suspense
from app.payments.calls import Step
from app.payments.change import Change, lock
from app.payments.models import Attempt
from app.payments.processing import backoff, call
from app.payments.receipts import paid
from app.payments.refunding import adopt
from app.payments.states import OTHER_AMOUNT
from app.psp.gates import LOOKUP
from app.psp.port import FAILED_LOOKS, RefundSeen, Result
from app.reviews.models import Review
from app.runtime import Runtime

_SILENT = "The PSP has not told us; the decision waits."
_HOW = {
    "happened": "Recorded as happened, as the PSP confirmed.",
    "otherwise": "Recorded with the amount that the PSP shows.",
    "did_not_happen": "Closed as not happened, as the PSP confirmed.",
    "refunded": "The money went back at the PSP.",
}


class _Asked(msgspec.Struct):
    """What is asked of the PSP: a look-up of the attempt, or the refunds of a charge."""

    step: Step
    refunds_of: str | None = None


async def look(rt: Runtime, job: Claim) -> None:
    """Ask the PSP about the attempt of an item, for the person who reads it."""
    await resolving.look_back(rt, attempt_id=str(job.args["attempt_id"]))


async def settle(rt: Runtime, job: Claim) -> None:
    """Compare a decision with the PSP's word; act on it, ask a second person, or send it back."""
    review_id, version = str(job.args["review_id"]), int(job.args["version"])
    asked = await rt.sessions.run(lambda session: _start(session, rt, review_id, version))
    if asked is None:
        return
    result, duration = await call(rt, asked.step)
    refunds: list[RefundSeen] | Result = []
    if asked.refunds_of is not None:
        refunds = await _refunds(rt, asked.step.connection_id, asked.refunds_of)

    async def finish(session: AsyncSession) -> bool:
        change = await lock(session, rt, payment_id=asked.step.payment_id)
        await calls.complete(change, asked.step, result, duration)
        attempt = await attempts.find(session, asked.step.attempt_id)
        review = await operations.current(session, review_id)
        silent = result.cls in FAILED_LOOKS or isinstance(refunds, Result)
        if review is None or attempt is None or not _is_on(review, version):
            await change.save()
        elif silent:
            await change.save()
            await jobs.check(session, job=job)
            return False
        else:
            review.looked_at = rt.clock()
            finding = await _compare(
                change, review, attempt, result, refunds, asked_at=asked.step.noted_at
            )
            review.finding = finding.words[:500]
            await _follow(change, review, attempt, result, finding)
            if await _gone_back(change, review, refunds):
                args = {"attempt_id": attempt.id, "reference": review.reference}
                change.job(operations.ONCE_MORE, queue="janitor", args=args)
            if finding.amount is not None and review.state == "closed":
                await _as_it_is(change, attempt, result, _named(refunds, review.evidence or ""))
            await change.save()
        await jobs.finish(session, job=job, now=rt.clock())
        return True

    if not await rt.sessions.run(finish):
        raise Postpone(backoff(rt, job.tries, cap=300.0, at_least=5.0), _SILENT)


async def once_more(rt: Runtime, job: Claim) -> None:
    """List the refunds of a charge again of which some have just been booked.

    A bank may have failed one between the first list and our lock, and the event of that found
    nothing to undo.
    """
    attempt_id, reference = str(job.args["attempt_id"]), str(job.args["reference"])
    async with rt.sessions.read() as session:
        attempt = await session.get_one(Attempt, attempt_id)
    refunds = await _refunds(rt, attempt.connection_id, reference)
    if isinstance(refunds, Result):
        raise Postpone(backoff(rt, job.tries, cap=300.0, at_least=5.0), _SILENT)
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=attempt.payment_id)
        with suppress(suspense.TooMuch):
            await suspense.follow(change, reference=reference, seen=refunds)
        await jobs.check(session, job=job)
        await change.save()


async def _refunds(rt: Runtime, connection_id: str, reference: str) -> list[RefundSeen] | Result:
    adapter = rt.psp(connection_id)
    return await rt.gates.through(connection_id, LOOKUP, lambda: adapter.look_up_refunds(reference))


def _is_on(review: Review, version: int) -> bool:
    return (review.state, review.stage, review.version) == ("open", "looking", version)


async def _start(session: AsyncSession, rt: Runtime, review_id: str, version: int) -> _Asked | None:
    review = await session.get(Review, review_id)
    if review is None or not _is_on(review, version):
        return None
    change = await lock(session, rt, payment_id=review.payment_id)
    attempt = await attempts.find(session, review.attempt_id)
    if attempt is None:
        return None
    step = attempts.look(change, attempt)
    if review.decision == "happened":
        step.reference = review.evidence
    await change.save()
    if review.decision == "refunded":
        return _Asked(step, review.reference)
    otherwise = review.decision == "otherwise" and attempt.kind == "refund"
    return _Asked(step, change.payment.psp_reference if otherwise else None)


async def _compare(
    change: Change,
    review: Review,
    attempt: Attempt,
    result: Result,
    refunds: list[RefundSeen] | Result,
    *,
    asked_at: datetime,
) -> Finding:
    named = review.evidence or ""
    if review.decision == "happened":
        return of_happened(attempt, result, named=named)
    if review.decision == "refunded" and isinstance(refunds, list):
        held = await suspense.apart(
            change.session, payment_id=review.payment_id, reference=review.reference
        )
        if held is None:
            return Finding(
                agrees=False, words="No money of this is held apart so far. Ask the PSP first."
            )
        return of_refunded(refunds, named=named, amount=held.amount, currency=review.currency)
    if review.decision == "otherwise":
        other = await _other(change, attempt, result, refunds, named)
        return of_otherwise(attempt, other, named=named)
    window = change.rt.psp(attempt.connection_id).key_window
    ends = (attempt.first_sent_at or attempt.created_at) + window
    if until := await calls.may_arrive(change, attempt):
        ends = max(ends, until)
    return of_did_not_happen(result, now=asked_at, key_ends=ends)


async def _other(
    change: Change,
    attempt: Attempt,
    result: Result,
    refunds: list[RefundSeen] | Result,
    named: str,
) -> Other | None:
    """Return what the PSP shows of a capture, or of the refund that a person named."""
    payment = change.payment
    ours = await attempts.installation_of(change.session, change.rt)
    if attempt.kind == "refund":
        one = _named(refunds, named)
        if one is None:
            return None
        return Other(
            amount=one.amount,
            currency=one.currency,
            # Another refund that names this attempt is taken as one made by hand, when it is known
            # which of them is the attempt's own.
            reference=attempt.psp_reference or result.psp_reference,
            ours=(one.installation, one.attempt_id) == (ours, attempt.id),
            done=one.status == "succeeded",
            most=payment.amount_captured - payment.amount_refunded + attempt.amount,
        )
    return Other(
        amount=result.amount_captured,
        currency=result.currency,
        reference=result.psp_reference,
        # It acts on the object that another attempt made.
        ours=result.installation == ours
        and result.psp_reference == payment.psp_reference
        and result.livemode in {None, attempt.livemode},
        done=result.cls in {"succeeded", "mismatch"},
        most=payment.amount,
    )


def _named(refunds: list[RefundSeen] | Result, named: str) -> RefundSeen | None:
    seen = refunds if isinstance(refunds, list) else []
    return next((one for one in seen if one.psp_reference == named), None)


async def _follow(
    change: Change, review: Review, attempt: Attempt, result: Result, finding: Finding
) -> None:
    rt, session = change.rt, change.session
    if not finding.agrees or _is_news(review, finding):
        review.stage, review.version = None, review.version + 1
        # The PSP's word counts all the same: what it did is recorded, and answers the question.
        if review.decision == "did_not_happen":
            await outcomes.apply(change, attempt, result, found=True)
        return
    review.amount = finding.amount or review.amount
    weighs = max(review.amount, attempt.amount)
    # What has gone back at the PSP is a fact, to which nobody needs to agree.
    decides = review.decision != "refunded"
    if decides and weighs > rt.settings.second_person_above and review.second_by is None:
        review.stage, review.version = "second", review.version + 1
        return
    # Closed before its effects, so that these do not close it as settled by themselves.
    await operations.close(session, rt=rt, review=review, how=_HOW[review.decision or ""])
    await session.flush()
    if review.decision == "did_not_happen":
        await resolving.did_not_happen(change, attempt, code="not_charged")
    elif review.decision == "happened":
        attempt.state = "unknown"
        await outcomes.apply(change, attempt, result, found=True)


async def _gone_back(change: Change, review: Review, refunds: list[RefundSeen] | Result) -> bool:
    """Book what the PSP shows to have gone back of money that is held apart, agreed to or not."""
    if review.decision == "refunded" and review.reference and isinstance(refunds, list):
        await change.session.flush()
        with suppress(suspense.TooMuch):  # The finding says how much went back, of how much.
            return bool(await suspense.follow(change, reference=review.reference, seen=refunds))
    return False


def _is_news(review: Review, finding: Finding) -> bool:
    """Tell whether the second person has agreed to another amount than the PSP shows by now."""
    if finding.amount is None or review.second_by is None or finding.amount == review.amount:
        return False
    review.finding = f"{finding.words} That is not what was agreed to."[:500]
    return True


async def _as_it_is(
    change: Change, attempt: Attempt, result: Result, refund: RefundSeen | None
) -> None:
    """Record a capture or refund of another amount than was asked for."""
    if attempt.kind == "capture":
        await paid(change, attempt, result)
        return
    # What was set aside for it goes back first, and what the PSP paid is taken as one of its own.
    await resolving.did_not_happen(change, attempt, code=OTHER_AMOUNT)
    if refund is None or await adopt(change, refund, disowned=True) == "no_room":
        raise RuntimeError(f"the refund of {attempt.id} found room and then none")
