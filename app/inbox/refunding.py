"""Refunds that the PSP tells of: ours are brought in line, others are recorded as they are."""

from typing import NoReturn

from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.inbox.models import ReceivedEvent
from app.inbox.operations import bury
from app.jobs import Bury, Claim, NotNow, Postpone
from app.payments import outcomes, processing, resolving, reviving, suspense
from app.payments.attempts import installation_of
from app.payments.change import lock
from app.payments.models import Attempt, Payment
from app.payments.refunding import Adopted, adopt, refund_of, take_back
from app.payments.states import ATTEMPT_FINAL, BESIDE, FINAL, OTHER_AMOUNT
from app.psp.gates import LOOKUP
from app.psp.port import Class, RefundSeen, Result
from app.runtime import Runtime

_REFUND_WORDS: dict[str, Class] = {
    "succeeded": "succeeded",
    "failed": "declined",
    "pending": "pending",
}
_NOT_LISTED = "The PSP does not list the refund of this event yet."
_ONCE_MORE = "Its money is booked; the PSP is asked once more."
_NO_ROOM = "A refund made at the PSP finds no room yet."
_NOT_OF_A_SALE = (
    "A refund was made at the PSP of a payment that has ended otherwise, and the PSP shows nothing "
    "that it could have taken the money from."
)


async def follow_refunds(rt: Runtime, job: Claim, event: ReceivedEvent, attempt: Attempt) -> None:
    """Bring our refunds of a charge in line with the PSP's; adopt what was made there by hand."""
    async with rt.sessions.read() as session:
        payment = await session.get_one(Payment, attempt.payment_id)
        ours = await installation_of(session, rt)
    # The event names the charge; of a page that is open we may know no more than the page.
    reference = event.psp_reference
    if reference is None:
        reference = payment.psp_reference if attempt.kind == "refund" else attempt.psp_reference
    if reference is None:
        raise Postpone(5.0, "The PSP's reference of the charge is not known yet.")
    seen = await _ask(rt, job, attempt.connection_id, reference)
    money = any(one.status == "succeeded" for one in seen)
    if money and attempt.kind != "refund" and payment.status not in FINAL:
        await _find_out(rt, attempt)  # What went back was taken first, and nobody told us.
    told = event.object_reference if event.about == "refund" else None
    if told is not None and all(refund.psp_reference != told for refund in seen):
        # Lists show what is new a little later; that one is missing there proves nothing.
        _later(rt, job, attempt, _NOT_LISTED, cap=60.0)
    if await _held_apart(rt, job, attempt.payment_id, reference, seen):
        return
    another = payment.status in FINAL and reference != payment.psp_reference
    frozen = attempt.state == "needs_review" and attempt.kind != "refund"
    if (another or frozen) and money:
        # Money came after the end, or a second time, or after a person was asked what it is about,
        # and this is the first that we hear of it.
        await _find_out(rt, attempt)
        if not await _held_apart(rt, job, attempt.payment_id, reference, seen):
            _later(rt, job, attempt, _NOT_OF_A_SALE)
        return
    # What failed makes room first; and one that finds none keeps no other one from being heard.
    by_hand, became = [], set()
    for refund in seen:
        named = refund.installation == ours and refund.attempt_id is not None
        own = await _own(rt, attempt.payment_id, refund) if named else None
        became.add(own)
        if own is None:
            by_hand.append(refund)
    by_hand.sort(key=lambda one: one.status != "failed")
    became |= {await _adopt(rt, attempt.payment_id, refund, reference) for refund in by_hand}
    if "no_room" in became:
        _later(rt, job, attempt, _NO_ROOM)
    if "booked" in became:
        raise Postpone(5.0, _ONCE_MORE)  # The bank may have failed it since it was listed.


def _later(rt: Runtime, job: Claim, attempt: Attempt, why: str, *, cap: float = 300.0) -> NoReturn:
    """Try again; for a day, once the charge is settled (before, it may be the reason)."""
    if attempt.finished_at is not None:
        processing.give_up(job, rt, why, since=attempt.finished_at)
    raise Postpone(processing.backoff(rt, job.tries, cap=cap, at_least=5.0), why)


async def _find_out(rt: Runtime, attempt: Attempt) -> None:
    """Have the PSP say what became of an attempt, whatever our rows say of it."""
    if attempt.state == "succeeded":
        await resolving.look_at_hold(rt, attempt_id=attempt.id)
    else:
        await resolving.look_back(rt, attempt_id=attempt.id)


async def _ask(rt: Runtime, job: Claim, connection_id: str, reference: str) -> list[RefundSeen]:
    """List the refunds of a charge at the PSP. Raises NotNow or Postpone without an answer."""
    adapter = rt.psp(connection_id)
    seen = await rt.gates.through(connection_id, LOOKUP, lambda: adapter.look_up_refunds(reference))
    if not isinstance(seen, Result):
        return seen
    why = seen.message or "The PSP did not answer."
    if seen.turned_away:
        raise NotNow(seen.retry_after or 0.0, why)
    raise Postpone(processing.backoff(rt, job.tries, cap=30.0, at_least=5.0), why)


async def _held_apart(
    rt: Runtime, job: Claim, payment_id: str, reference: str, seen: list[RefundSeen]
) -> bool:
    """Book refunds of a charge whose money fits no payment; False: it is none of those.

    Raises Postpone when something was booked: the PSP is asked once more, because a bank may have
    failed a refund between its list and our lock, with an event that found nothing to undo.
    """

    async def work(session: AsyncSession) -> bool | None:
        change = await lock(session, rt, payment_id=payment_id)
        try:
            booked = await suspense.follow(change, reference=reference, seen=seen)
        except suspense.TooMuch as error:
            raise Bury(str(error)) from None
        await jobs.check(session, job=job)
        await change.save()
        return booked

    booked = await rt.sessions.run(work)
    if booked:
        raise Postpone(5.0, _ONCE_MORE)
    return booked is not None


async def _own(rt: Runtime, payment_id: str, seen: RefundSeen) -> Adopted | None:
    """Bring the refund that we asked for in line; None: it is not (yet) our attempt's own."""

    async def work(session: AsyncSession) -> Adopted | None:
        change = await lock(session, rt, payment_id=payment_id)
        attempt = await session.get(Attempt, seen.attempt_id, populate_existing=True)
        if attempt is None or attempt.payment_id != payment_id or attempt.kind != "refund":
            return "known"
        if attempt.psp_reference not in {None, seen.psp_reference}:
            return None
        if attempt.code in {OTHER_AMOUNT, BESIDE}:
            return None  # It is booked as a refund that the PSP made by itself.
        revived = attempt.state in reviving.NO_EFFECT
        if revived:
            if seen.status == "failed" or not await reviving.carries(change, attempt):
                return None
            attempt.state = "unknown"  # It was held to have had no effect; the PSP knows better.
        if attempt.state not in ATTEMPT_FINAL:
            cls = _REFUND_WORDS[seen.status]
            result = Result(
                cls=cls,
                psp_reference=seen.psp_reference,
                amount=seen.amount,
                currency=seen.currency,
                code="refund_failed" if cls == "declined" else None,
            )
            ruling = await outcomes.apply(change, attempt, result, found=True)
            if ruling.action == "bury":
                await bury(session, rt, attempt, ruling.reason)
        elif seen.status == "failed":
            take_back(change, await refund_of(change, attempt))
        await change.save()
        return "booked" if revived else "known"

    return await rt.sessions.run(work)


async def _adopt(rt: Runtime, payment_id: str, seen: RefundSeen, reference: str) -> Adopted:
    async def work(session: AsyncSession) -> Adopted:
        change = await lock(session, rt, payment_id=payment_id)
        named = await session.get(Attempt, seen.attempt_id) if seen.attempt_id else None
        money = seen.status == "succeeded"
        if money and named is not None and await reviving.undecided(change, named):
            return "no_room"  # Which of the PSP's refunds is whose is not known yet.
        if money and reference != change.payment.psp_reference:
            return "no_room"  # Of another charge than the one that has paid it meanwhile.
        # Of what names an attempt of ours, only what is not that attempt's comes here.
        became = await adopt(change, seen, disowned=True)
        await change.save()
        return became

    return await rt.sessions.run(work)
