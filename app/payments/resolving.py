"""Finding out what became of an attempt: look first, send the same again only inside the window."""

from datetime import datetime, timedelta
from typing import cast

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs import NotNow
from app.payments import attempts, calls, outcomes, reviving
from app.payments.calls import Step
from app.payments.change import Change, attempts_of, lock
from app.payments.ending import unwanted, without_effect
from app.payments.holding import look_again, money_held
from app.payments.models import Attempt
from app.payments.processing import call, follow_up
from app.payments.receipts import end_attempt, note_decline
from app.payments.refunding import fail_refund, refund_of
from app.payments.reviving import NO_EFFECT
from app.payments.ruling import DONE, Ruling
from app.payments.states import ATTEMPT_FINAL, FINAL, OTHER_AMOUNT, RETURNED
from app.psp.gates import LOOKUP, Shut
from app.psp.port import FAILED_LOOKS, NOT_TAKEN, AttemptKind, Result
from app.runtime import Runtime

log = structlog.get_logger(__name__)

_PAGE_GONE = timedelta(hours=1)  # After a page's end; the PSP promises that it cannot be paid.
_LOOK_SOON = 30.0
_NOT_CHARGED = "The PSP confirms that nobody was charged. Start a new payment."
_GONE = "The PSP does not know it, and its key is too old to be sent again. Compare the records."
_CLOSED_BY_PEOPLE = {
    "not_charged": _NOT_CHARGED,
    OTHER_AMOUNT: "The PSP paid another amount than was asked for, which is recorded instead.",
    RETURNED: "What the PSP took did not fit, and went back to the customer.",
}
_WORK = {"capture": "payments.capture", "void": "payments.void"}

_Settled = tuple[Step | None, Ruling]


async def resolve(rt: Runtime, *, attempt_id: str) -> Ruling:
    """Find out what became of an attempt: look it up, and where nothing happened send it again.

    The replay has the same key and the frozen parameters, inside the PSP's key window only.
    Returns what is known now; `look` means that it is still unknown.
    """
    step = await start_look_up(rt, attempt_id=attempt_id)
    ruling = DONE
    while step is not None:
        result, duration = await call(rt, step)
        step, ruling = await _settle(rt, step, result, duration)
    return ruling


async def start_look_up(rt: Runtime, *, attempt_id: str, held: bool = False) -> Step | None:
    """Note a look-up of an attempt that is not settled (`held`: of one that holds money).

    None: there is nothing to find out. Raises NotNow while the PSP may not be asked.
    """

    async def work(session: AsyncSession) -> Step | Shut | None:
        payment_id = await attempts.payment_id_of(session, attempt_id)
        if payment_id is None:
            return None
        change = await lock(session, rt, payment_id=payment_id)
        attempt = await attempts.find(session, attempt_id)
        if attempt is None:
            return None
        holds = held and await money_held(change, attempt)
        gone = attempt.state == "needs_review" and attempt.code == outcomes.NOT_FOUND
        asked = gone or attempt.state in {"sent", "unknown", "open"}
        if not (holds if held else asked):
            if held and attempt.next_check_at is not None:
                look_again(change, attempt)
            return None
        shut = rt.gates.shut(attempt.connection_id, LOOKUP)
        if shut is not None:
            # The sweep looks at this moment, too, and is to leave it alone until then.
            attempt.next_check_at = change.now + timedelta(seconds=shut.seconds)
            return shut
        step = attempts.look(change, attempt)
        await change.save()
        return step

    found = await rt.sessions.run(work)
    if isinstance(found, Shut):
        raise NotNow(found.seconds, found.reason)
    return found


async def _settle(rt: Runtime, step: Step, result: Result, duration: float) -> _Settled:
    async def work(session: AsyncSession) -> _Settled:
        change = await lock(session, rt, payment_id=step.payment_id)
        attempt = await attempts.find(session, step.attempt_id)
        if attempt is None:
            return None, DONE
        await calls.complete(change, step, result, duration)
        if result.turned_away:
            attempts.not_let_out(attempt, step)
            return None, _not_now(change, attempt, result.retry_after, result.message)
        settled = await _judge(rt, change, attempt, step, result)
        await change.save()
        return settled

    return await rt.sessions.run(work)


async def _judge(
    rt: Runtime, change: Change, attempt: Attempt, step: Step, result: Result
) -> _Settled:
    if attempt.state == "open" and result.cls == "not_found":
        return None, DONE  # A page that is known to be open and was not found is still open.
    if attempt.state == "sent" and step.kind == "replay" and result.cls in NOT_TAKEN:
        return None, DONE  # Somebody has seen meanwhile that the PSP has it and decides later.
    if attempt.state == "created" and result.cls in {"next", "not_found"}:
        return None, DONE  # Its request was turned away meanwhile, and goes again by itself.
    if attempts.gone_on(attempt, step, result):
        return None, DONE
    if attempt.state in ATTEMPT_FINAL:
        await reviving.hear(change, attempt, result)
    if attempt.state == "open" and result.cls in FAILED_LOOKS:
        return None, Ruling("look", result.message or "The look-up failed.", _soon(rt))
    if attempt.state in {"sent", "unknown"}:
        if step.kind == "lookup" and result.cls in {"next", "not_found"}:
            return await _no_effect_so_far(rt, change, attempt, result, asked=step.noted_at)
        if step.kind == "close":
            return None, await _closed_out(change, attempt, result)
        if step.kind == "lookup" and result.cls in FAILED_LOOKS:
            return None, outcomes.unknown(change, attempt, result, unanswered=True)
    found = step.kind == "lookup"
    ruling = await outcomes.apply(change, attempt, result, found=found)
    return await follow_up(rt, change, attempt, step, _quiet(ruling)), ruling


def _soon(rt: Runtime) -> float:
    # Those that failed together are not to come back together.
    return rt.ids.uniform(_LOOK_SOON / 2, _LOOK_SOON)


def _not_now(change: Change, attempt: Attempt, seconds: float | None, why: str | None) -> Ruling:
    """Leave everything as it is known: nothing was let out, and others may have found out."""
    if attempt.state in {"sent", "unknown", "open"}:
        attempt.next_check_at = change.now + timedelta(seconds=seconds or 0.0)
    return Ruling("look", why or "The PSP may not be asked now.", seconds)


def _quiet(ruling: Ruling) -> Ruling:
    # The janitor's own job goes on by itself; it needs no second one.
    return DONE if ruling.action == "look" else ruling


async def _no_effect_so_far(
    rt: Runtime, change: Change, attempt: Attempt, result: Result, *, asked: datetime
) -> _Settled:
    """Decide what follows from a look-up, asked at that moment, that found no effect."""
    if await calls.in_flight(change.session, attempt, now=change.now):
        return None, Ruling("look", "The call itself is still under way.", _soon(rt))
    adapter = rt.psp(attempt.connection_id)
    steps = adapter.steps(cast("AttemptKind", attempt.kind))
    attempt.psp_reference = result.psp_reference or attempt.psp_reference
    if attempt.code == "rejected":
        # It was refused, and the look-up shows that nothing came of it: conclusive, once nothing
        # that was sent before can arrive any more.
        if waits := await _on_its_way(change, attempt, asked):
            return None, waits
        if attempt.kind == "checkout":
            return None, await _page_anew(change, attempt, result)
        return None, await outcomes.refused(change, attempt, result)
    sent = attempt.first_sent_at or attempt.created_at
    over = change.now - sent >= adapter.key_window
    if attempt.kind == "charge" and (over or unwanted(change, attempt)):
        if attempt.step == steps[0]:
            # What it made moves nothing before the next step, which was never sent.
            return None, await _not_charged(change, attempt, result)
        if attempt.psp_reference is not None:
            shut = rt.gates.shut(attempt.connection_id, "void")
            if shut is not None:
                return None, _not_now(change, attempt, shut.seconds, shut.reason)
            return attempts.close(change, attempt), DONE
    if attempt.kind == "capture" and result.cls == "next" and unwanted(change, attempt):
        return None, await without_effect(change, attempt, result)
    page_ends = attempts.request_of(change, attempt).expires_at
    if over or (page_ends is not None and change.now >= page_ends):
        return None, await _too_late(change, attempt, result, asked=asked)
    again = steps[-1] if result.cls == "next" else steps[0]
    if result.cls == "not_found" and attempt.psp_reference is not None:
        again = attempt.step or steps[0]
    retry = attempts.sent_before(attempt, again)
    shut = rt.gates.shut(attempt.connection_id, attempt.kind, retry=retry)
    if shut is not None:
        return None, _not_now(change, attempt, shut.seconds, shut.reason)
    return await attempts.send(change, attempt, again, replay=True), DONE


async def _on_its_way(change: Change, attempt: Attempt, asked: datetime) -> Ruling | None:
    """Return when to look again if a request without an answer could arrive after a look.

    What counts is when the PSP was asked: its answer may have lain for long. None: nothing could.
    """
    until = await calls.may_arrive(change, attempt)
    if until is None or asked >= until:
        return None
    attempt.next_check_at = max(until, change.now + timedelta(seconds=1))
    seconds = (attempt.next_check_at - change.now).total_seconds()
    return Ruling("look", "An earlier request may still arrive.", seconds)


async def _too_late(change: Change, attempt: Attempt, result: Result, *, asked: datetime) -> Ruling:
    """Go on where the key is too old to be sent again: never a blind resend."""
    if attempt.kind in _WORK and result.cls == "next":
        if waits := await _on_its_way(change, attempt, asked):
            return waits
        # The object itself shows, a day later, that it had no effect: a new attempt may be made.
        args = {"payment_id": attempt.payment_id}
        if attempt.kind == "capture":
            args["amount"] = cast("str", attempt.amount)
        end_attempt(change, attempt, "not_sent", result)
        change.job(_WORK[attempt.kind], queue="psp", args=args)
        return DONE
    if attempt.kind == "checkout":
        ends = attempts.request_of(change, attempt).expires_at
        if ends is not None and change.now >= ends + _PAGE_GONE:
            end_attempt(change, attempt, "closed")
            await outcomes.close_unless_held(change, attempt, result)
            return DONE
        return outcomes.unknown(change, attempt, result)
    sent = attempt.first_sent_at or attempt.created_at
    after = sent + change.rt.psp(attempt.connection_id).key_window
    if until := await calls.may_arrive(change, attempt):
        after = max(after, until)
    if not await calls.missed_before(change, attempt, after=after, asked=asked):
        return outcomes.unknown(change, attempt, result)
    result.cls, result.code, result.message = "mismatch", outcomes.NOT_FOUND, _GONE
    return await outcomes.apply(change, attempt, result, found=True)


async def _closed_out(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """Apply what the PSP says to closing the object of a charge."""
    if result.cls == "closed":
        return await _not_charged(change, attempt, result)
    if result.cls not in {"succeeded", "authorized", "declined", "pending", "mismatch"}:
        result.cls = "unknown"  # Not closed yet, whatever the reason: ask again.
    return await outcomes.apply(change, attempt, result)


async def _not_charged(change: Change, attempt: Attempt, result: Result) -> Ruling:
    if unwanted(change, attempt):
        return await without_effect(change, attempt, result)
    end_attempt(change, attempt, "not_sent")
    note_decline(change, Result(cls="declined", code="not_charged", message=_NOT_CHARGED))
    change.move("failed")
    return DONE


async def did_not_happen(change: Change, attempt: Attempt, *, code: str) -> None:
    """End an attempt of which people and the PSP agree that it has had no lasting effect.

    `code` says why, for the attempt and a payment that fails by it: not_charged, refunded_at_psp,
    and other_amount of a refund.
    """
    none = Result(cls="declined", code=code, message=_CLOSED_BY_PEOPLE[code])
    payment = change.payment
    if attempt.kind == "refund":
        end_attempt(change, attempt, "not_sent", none)
        refund = await refund_of(change, attempt)
        fail_refund(change, refund, code="not_refunded", message=none.message, reserved=True)
        return
    reached = attempt.kind == "checkout" or code == RETURNED  # The PSP has had it.
    end_attempt(change, attempt, "closed" if reached else "not_sent", none)
    if payment.status in FINAL:
        return
    held = attempt.kind == "capture"
    if attempt.kind in {"charge", "checkout"}:
        held = await attempts.is_carried(change, attempt)
    if held and payment.cancel_requested_at is None:
        change.move("requires_capture")
    elif held or attempt.kind == "void":
        change.move("processing", "canceling")
        change.job("payments.void", queue="psp", args={"payment_id": payment.id})
    elif payment.cancel_requested_at is not None:
        change.move("canceled")
    else:
        note_decline(change, none)
        if payment.status == "requires_action":
            change.move("processing", tell=False)
        change.move("failed")


async def _page_anew(change: Change, attempt: Attempt, result: Result) -> Ruling:
    # No try has made the page, mostly as too little of its time was left by then: a new page.
    end_attempt(change, attempt, "rejected", result)
    payment = change.payment
    if payment.cancel_requested_at is not None or payment.status_reason == "canceling":
        await outcomes.close_unless_held(change, attempt, result)
    elif payment.status not in FINAL:
        change.job("payments.open_checkout", queue="psp", args={"payment_id": payment.id})
    return DONE


async def look_back(rt: Runtime, *, attempt_id: str) -> Result | None:
    """Ask the PSP about an attempt in whatever state, and record what it has done; send nothing.

    For decisions of people, who need the PSP's own word first. Returns what the PSP said (`unknown`
    when it did not), None when there is nothing left to ask with.
    """

    async def begin(session: AsyncSession) -> Step | None:
        payment_id = await attempts.payment_id_of(session, attempt_id)
        if payment_id is None:
            return None
        change = await lock(session, rt, payment_id=payment_id)
        attempt = await attempts.find(session, attempt_id)
        if attempt is None or not attempt.params_sealed:
            return None
        step = attempts.look(change, attempt)
        await change.save()
        return step

    step = await rt.sessions.run(begin)
    if step is None:
        return None
    result, duration = await call(rt, step)

    async def end(session: AsyncSession) -> None:
        change = await lock(session, rt, payment_id=step.payment_id)
        await calls.complete(change, step, result, duration)
        attempt = await attempts.find(session, attempt_id)
        if attempt is not None:
            await reviving.hear(change, attempt, result)
        if attempt is not None and attempt.kind == "capture" and result.cls == "closed":
            await _hold_ended(change, attempt, result)
        if attempt is not None and result.cls not in {*FAILED_LOOKS, "next", "not_found"}:
            await outcomes.apply(change, attempt, result, found=True)
        await change.save()

    await rt.sessions.run(end)
    return result


async def _hold_ended(change: Change, capture: Attempt, result: Result) -> None:
    """End a payment whose hold is gone, as the look at its refused capture shows."""
    hold = attempts.target_of(change, capture, await attempts_of(change.session, change.payment.id))
    if capture.state in NO_EFFECT and hold is not None and await money_held(change, hold):
        await outcomes.hold_changed(change, hold, result)


async def look_at_hold(rt: Runtime, *, attempt_id: str) -> Ruling:
    """Find out whether money that is held was captured, or let go, by somebody else."""
    step = await start_look_up(rt, attempt_id=attempt_id, held=True)
    if step is None:
        return DONE
    result, duration = await call(rt, step)

    async def work(session: AsyncSession) -> Ruling:
        change = await lock(session, rt, payment_id=step.payment_id)
        await calls.complete(change, step, result, duration)
        attempt = await attempts.find(session, step.attempt_id)
        ruling = DONE
        if result.cls in FAILED_LOOKS:
            ruling = Ruling("look", result.message or "The look-up failed.", _soon(rt))
        elif attempt is not None and await money_held(change, attempt):
            ruling = await outcomes.hold_changed(change, attempt, result)
            look_again(change, attempt)
        await change.save()
        return ruling

    return await rt.sessions.run(work)


async def look_at_decline(rt: Runtime, *, attempt_id: str, reference: str) -> None:
    """Keep a decline on the PSP's page for the merchant; the customer may try another card."""
    step = await start_look_up(rt, attempt_id=attempt_id)
    if step is None:
        return
    step.reference = reference
    result, duration = await call(rt, step)
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=step.payment_id)
        await calls.complete(change, step, result, duration)
        # A decline leaves the page open; the code tells it.
        told = result.cls in {"open", "declined"} and result.code is not None
        if told and change.payment.status == "requires_action":
            note_decline(change, result)
        await change.save()
