"""Applying received events: the PSP's object is asked for, so their order does not matter."""

from datetime import timedelta
from typing import Any, NoReturn

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.inbox.models import ReceivedEvent
from app.jobs import Bury, Claim, NotNow, Postpone
from app.payments import outcomes, processing, resolving, reviving, suspense
from app.payments.attempts import installation_of
from app.payments.change import lock
from app.payments.models import Attempt, Payment
from app.payments.refunding import Adopted, adopt, refund_of, take_back
from app.payments.ruling import DONE, Ruling
from app.payments.states import ATTEMPT_FINAL, BESIDE, FINAL, OTHER_AMOUNT, RETURNED
from app.psp.gates import LOOKUP
from app.psp.port import FAILED_LOOKS, Class, RefundSeen, Result
from app.runtime import Runtime

_PARKED_FOR = timedelta(hours=24)  # Then an event of a row that never came is ignored.
_REFUND_WORDS: dict[str, Class] = {
    "succeeded": "succeeded",
    "failed": "declined",
    "pending": "pending",
}
_TELLS_OF_MONEY = frozenset(
    {
        "payment_intent.succeeded",
        "payment_intent.amount_capturable_updated",
        "payment_intent.processing",
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
    }
)
_NO_EFFECT = "The PSP tells of money from an attempt that was held to have had no effect."
_NOT_LISTED = "The PSP does not list the refund of this event yet."
_ONCE_MORE = "Its money is booked; the PSP is asked once more."
_NO_ROOM = "A refund made at the PSP finds no room yet."
_NOT_OF_A_SALE = (
    "A refund was made at the PSP of a payment that has ended otherwise, and the PSP shows nothing "
    "that it could have taken the money from."
)


async def apply(rt: Runtime, job: Claim) -> None:
    """Bring about what a received event tells of, once.

    Not ours: noted as foreign. Ours but unknown (our own commit may still be under way):
    parked and tried again.
    """
    async with rt.sessions.read() as session:
        event = await session.get(ReceivedEvent, job.args["event_id"])
        if event is None or event.state not in {"received", "parked"}:
            return None
        attempt, over = await _attempt(session, event)
        ours = await installation_of(session, rt)
    if event.about == "other":
        return await _note(rt, job, event, "ignored", "Nothing that we act on.")
    if attempt is None:
        if event.installation != ours and not await _may_become_ours(rt, event):
            return await _note(rt, job, event, "foreign", "Of another system.")
        return await _park(rt, job, event)
    ruling = await _bring_about(rt, job, event, attempt, over=over)
    if ruling.action == "look":
        seconds = ruling.seconds or 0.0
        raise Postpone(processing.backoff(rt, job.tries, cap=60.0, at_least=seconds), ruling.reason)
    await _note(rt, job, event, "applied", None, attempt, ruling)
    return None


async def _may_become_ours(rt: Runtime, event: ReceivedEvent) -> bool:
    """Tell whether an event without a mark may be of a charge that we have yet to hear of.

    A refund made by hand carries none. Of a checkout we know the page alone until the customer's
    payment is found, and if its own event was lost, the refund's comes first.
    """
    if event.installation is not None or event.about != "refund":
        return False
    async with rt.sessions.read() as session:
        found = await session.scalar(
            select(Attempt.id)
            .where(
                Attempt.connection_id == event.connection_id,
                Attempt.livemode == event.livemode,
                Attempt.kind == "checkout",
                Attempt.created_at <= event.received_at,
                Attempt.state.in_(("created", "sent", "unknown", "open")),
            )
            .limit(1)
        )
    return found is not None


async def _bring_about(
    rt: Runtime, job: Claim, event: ReceivedEvent, attempt: Attempt, *, over: bool
) -> Ruling:
    if event.about == "refund" or event.type == "charge.refunded":
        await _refunds(rt, job, event, attempt)
        return DONE
    if attempt.state == "needs_review":
        return await _goes_on(rt, job, attempt)
    if attempt.state == "succeeded":
        # What is paid holds nothing back any more; that is never undone, so no lock is needed.
        return DONE if over else await resolving.look_at_hold(rt, attempt_id=attempt.id)
    news = event.type in _TELLS_OF_MONEY and attempt.code != RETURNED
    if attempt.state in {"rejected", "not_sent"} and news:
        return await _after_all(rt, job, attempt)
    if attempt.state in ATTEMPT_FINAL:
        return DONE
    ruling = await resolving.resolve(rt, attempt_id=attempt.id)
    failed = event.type == "payment_intent.payment_failed" and attempt.kind == "checkout"
    if failed and event.object_reference and ruling.action == "done":
        reference = event.object_reference
        await resolving.look_at_decline(rt, attempt_id=attempt.id, reference=reference)
    return ruling


async def _goes_on(rt: Runtime, job: Claim, attempt: Attempt) -> Ruling:
    """See what became of what waits for a person: it may be taken at the PSP, or end there."""
    result = await resolving.look_back(rt, attempt_id=attempt.id)
    if result is not None and result.cls in FAILED_LOOKS:
        why = result.message or "The PSP did not answer."
        processing.give_up(job, rt, why)
        return Ruling("look", why, 5.0)
    async with rt.sessions.read() as session:
        found = await session.get(Attempt, attempt.id)
    if found is None or found.state != "needs_review":
        return DONE
    return Ruling("bury", found.message or "The PSP did something else than we asked for.")


async def _after_all(rt: Runtime, job: Claim, attempt: Attempt) -> Ruling:
    """Find out about an attempt that was held to have had no effect, and of which money came.

    A request that was given up may have arrived late, after its own replay had been refused.
    """
    result = await resolving.look_back(rt, attempt_id=attempt.id)
    if result is None or result.cls in {"closed", "declined"}:
        return DONE  # What the event told of is over, and moved nothing.
    async with rt.sessions.read() as session:
        found = await session.get(Attempt, attempt.id)
        held = select(Attempt.id).where(
            Attempt.payment_id == attempt.payment_id,
            Attempt.kind.in_(("checkout", "charge")),
            Attempt.state == "succeeded",
        )
        held_twice = await session.scalar(held.limit(1)) is not None
    unchanged = found is not None and found.state == attempt.state
    if unchanged and held_twice and result.cls == "authorized":
        return Ruling("bury", outcomes.HELD_TWICE)
    if unchanged:
        # The PSP does not show it yet, or another call about this payment is under way.
        processing.give_up(job, rt, _NO_EFFECT)
        return Ruling("look", _NO_EFFECT, 5.0)
    if found is not None and found.state == "needs_review":
        return Ruling("bury", found.message or _NO_EFFECT)
    return DONE


async def _attempt(session: AsyncSession, event: ReceivedEvent) -> tuple[Attempt | None, bool]:
    """Find what an event is about, by our own id in its metadata, else by the object.

    The second value tells whether what it says of money is known: its payment is paid, or has
    ended otherwise and this event brings none.
    """
    query = select(Attempt, Payment.status).join(Payment, Payment.id == Attempt.payment_id)
    if event.attempt_id is not None:
        found = (await session.execute(query.where(Attempt.id == event.attempt_id))).first()
        if found is not None and found[0].connection_id == event.connection_id:
            return found[0], _is_over(found[1], event)
    if event.psp_reference is None:
        return None, False
    by_object = query.where(
        Attempt.connection_id == event.connection_id,
        Attempt.livemode == event.livemode,
        Attempt.kind.in_(("checkout", "charge")),
        or_(
            Attempt.psp_reference == event.psp_reference,
            Attempt.session_reference == event.psp_reference,
        ),
    ).limit(1)
    found = (await session.execute(by_object)).first()
    return (None, False) if found is None else (found[0], _is_over(found[1], event))


def _is_over(status: str, event: ReceivedEvent) -> bool:
    return status == "succeeded" or (status in FINAL and event.type not in _TELLS_OF_MONEY)


async def _park(rt: Runtime, job: Claim, event: ReceivedEvent) -> None:
    # One without a mark waits as long as there is a page that it may be about, which ends by itself
    # (after an outage of a day a time would be over before anything was looked at).
    marked = event.installation is not None
    if marked and rt.clock() - event.received_at > _PARKED_FOR:
        await _note(rt, job, event, "ignored", "What it is about never appeared here.")
        return
    async with rt.sessions.begin() as session:
        await session.execute(
            update(ReceivedEvent).where(ReceivedEvent.id == event.id).values(state="parked")
        )
    raise Postpone(
        processing.backoff(rt, job.tries, cap=300.0), "What it is about is not here yet."
    )


async def _note(
    rt: Runtime,
    job: Claim,
    event: ReceivedEvent,
    state: str,
    note: str | None,
    attempt: Attempt | None = None,
    ruling: Ruling = DONE,
) -> None:
    values: dict[str, Any] = {"state": state, "note": note, "applied_at": rt.clock()}
    if attempt is not None:
        values |= {"merchant_id": attempt.merchant_id, "payment_id": attempt.payment_id}
    async with rt.sessions.begin() as session:
        await session.execute(
            update(ReceivedEvent).where(ReceivedEvent.id == event.id).values(**values)
        )
        if attempt is not None and ruling.action == "bury":
            await _bury(session, rt, attempt, ruling.reason)
        await jobs.finish(session, job=job, now=rt.clock())


async def _bury(session: AsyncSession, rt: Runtime, attempt: Attempt, reason: str) -> None:
    """Put the question about an attempt into the dead letters, unless it lies there already."""
    letters = await session.scalars(
        select(jobs.Job.args).where(
            jobs.Job.payment_id == attempt.payment_id,
            jobs.Job.kind == "janitor.resolve",
            jobs.Job.state == "dead",
        )
    )
    if any(args.get("attempt_id") == attempt.id for args in letters):
        return
    now = rt.clock()
    values = jobs.row(
        id=rt.ids("job"),
        kind="janitor.resolve",
        args={"attempt_id": attempt.id},
        queue="janitor",
        now=now,
        merchant_id=attempt.merchant_id,
        livemode=attempt.livemode,
        payment_id=attempt.payment_id,
    )
    await jobs.bury_at_once(session, values=values, now=now, reason=reason)


async def _refunds(rt: Runtime, job: Claim, event: ReceivedEvent, attempt: Attempt) -> None:
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
    told = event.object_reference if event.about == "refund" else None
    if told is not None and all(refund.psp_reference != told for refund in seen):
        # Lists show what is new a little later; that one is missing there proves nothing.
        _later(rt, job, attempt, _NOT_LISTED, cap=60.0)
    if await _held_apart(rt, job, attempt.payment_id, reference, seen):
        return
    another = payment.status in FINAL and reference != payment.psp_reference
    frozen = attempt.state == "needs_review" and attempt.kind != "refund"
    if (another or frozen) and any(one.status == "succeeded" for one in seen):
        # Money came after the end, or a second time, or after a person was asked what it is about,
        # and this is the first that we hear of it.
        await _find_out(rt, attempt)
        if not await _held_apart(rt, job, attempt.payment_id, reference, seen):
            _later(rt, job, attempt, _NOT_OF_A_SALE)
        return
    # What failed makes room first; and one that finds none keeps no other one from being heard.
    by_hand = []
    for refund in seen:
        named = refund.installation == ours and refund.attempt_id is not None
        if not named or not await _own(rt, attempt.payment_id, refund):
            by_hand.append(refund)
    by_hand.sort(key=lambda one: one.status != "failed")
    became = {await _adopt(rt, attempt.payment_id, refund, reference) for refund in by_hand}
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


async def _own(rt: Runtime, payment_id: str, seen: RefundSeen) -> bool:
    """Bring the refund that we asked for in line; False: the PSP made it, but it is another one."""

    async def work(session: AsyncSession) -> bool:
        change = await lock(session, rt, payment_id=payment_id)
        attempt = await session.get(Attempt, seen.attempt_id, populate_existing=True)
        if attempt is None or attempt.payment_id != payment_id or attempt.kind != "refund":
            return True
        if attempt.psp_reference not in {None, seen.psp_reference}:
            return False
        if attempt.code in {OTHER_AMOUNT, BESIDE}:
            return False  # It is booked as a refund that the PSP made by itself.
        if attempt.state in reviving.NO_EFFECT:
            if seen.status == "failed" or not await reviving.carries(change, attempt):
                return False
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
                await _bury(session, rt, attempt, ruling.reason)
        elif seen.status == "failed":
            take_back(change, await refund_of(change, attempt))
        await change.save()
        return True

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
