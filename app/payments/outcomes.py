"""What a PSP's answer does to a payment: the one place that settles attempts.

A worker's own call, a look-up and a received event all end here, under the payment's lock, so
whichever comes first does the work and the others find it done.
"""

from datetime import datetime, timedelta
from typing import cast

import structlog

from app.payments.attempts import beside, installation_of, is_carried, target_of
from app.payments.change import Change, attempts_of
from app.payments.ending import close, hold_left, payable, unwanted, without_effect
from app.payments.freezing import DIFFERS, freeze, is_frozen, note_taken
from app.payments.freezing import NOT_FOUND as NOT_FOUND
from app.payments.holding import keep_back, look_again
from app.payments.models import Attempt
from app.payments.receipts import end_attempt, note_decline, paid
from app.payments.refunding import fail_refund, refund_of, settle_refund
from app.payments.reviving import end_beside
from app.payments.ruling import DONE, Ruling
from app.payments.states import (
    ALARM_AFTER,
    ATTEMPT_FINAL,
    FINAL,
    HELD_TWICE,
    REVIEW_AFTER,
    SAYS_TWICE,
    UNEXPECTED,
    next_check,
)
from app.psp.port import AttemptKind, Result

log = structlog.get_logger(__name__)

STILL_UNKNOWN = "The PSP has not said for a day what became of it. We go on asking."
_ASK_AGAIN = 20.0  # Seconds, at most, until a look-up that nobody answered is made again,
_ASK_FOR = timedelta(hours=6)  # for so long: what fails for longer is no outage.
_SLOW_PSP = 60.0  # Seconds between looks at what the PSP itself has not decided, at first.


async def apply(change: Change, attempt: Attempt, result: Result, *, found: bool = False) -> Ruling:
    """Settle what is known now; nothing that is unknown is called failed.

    `found`: the PSP was asked what it keeps; otherwise it answered a request of ours.
    """
    if attempt.state in ATTEMPT_FINAL or _comes_late(attempt, result):
        return DONE
    if is_frozen(attempt, result, found=found):
        return await note_taken(change, attempt, result) if found else DONE
    if result.cls in {"succeeded", "authorized"} and not await _as_asked(change, attempt, result):
        result.cls = "mismatch"
    if result.cls == "mismatch" and not found and attempt.code != "mismatch":
        return _doubted(change, attempt, result)
    _remember(attempt, result)
    if result.cls == "mismatch":
        return await freeze(change, attempt, result)
    if result.cls == "rejected":
        return await _rejected(change, attempt, result)
    if result.cls in {"not_sent", "busy"}:
        return await _again(change, attempt, result)
    if result.cls == "next":
        return await _next(change, attempt, result)
    if result.cls in {"unknown", "not_found"}:
        return unknown(change, attempt, result)
    if result.cls == "pending":
        return await _pending(change, attempt)
    attempt.next_check_at = None
    attempt.updated_at = change.now
    if attempt.kind == "refund":
        return await _refund(change, attempt, result)
    if attempt.kind == "void":
        return await _void(change, attempt, result, found=found)
    return await _charge(change, attempt, result)


def _comes_late(attempt: Attempt, result: Result) -> bool:
    """Tell whether a call was given up, or refused, whose page a look-up has found meanwhile."""
    return attempt.state == "open" and result.cls in {"unknown", "not_sent", "busy", "rejected"}


def _remember(attempt: Attempt, result: Result) -> None:
    attempt.session_reference = result.session_reference or attempt.session_reference
    attempt.psp_reference = result.psp_reference or attempt.psp_reference
    attempt.page_url = result.page_url or attempt.page_url
    attempt.page_expires_at = result.page_expires_at or attempt.page_expires_at
    if attempt.code in {"rejected", "mismatch"} and result.cls in {"open", "pending"}:
        attempt.code = attempt.message = None  # An earlier request had arrived, as it was asked.


async def _as_asked(change: Change, attempt: Attempt, result: Result) -> bool:
    """Tell whether the PSP did what was asked: amount, currency, mode and owner."""
    if attempt.kind == "void":
        return True  # What it found instead is compared with the attempt that it belongs to.
    ours = await installation_of(change.session, change.rt)  # Here it may be asked for first.
    # A capture acts on an intent of another amount: what counts is what was taken of it.
    amount = result.amount_captured if attempt.kind == "capture" else result.amount
    return (
        amount in {None, attempt.amount}
        and result.currency in {None, attempt.currency}
        and result.livemode in {None, attempt.livemode}
        and (attempt.kind == "capture" or result.attempt_id in {None, attempt.id})
        and result.installation in {None, ours}
    )


def _doubted(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """Look at what the PSP keeps before a person must: an answer alone may be wrong."""
    if attempt.state == "open":
        return DONE  # What it keeps has been seen already.
    ruling = unknown(change, attempt, result)
    attempt.code, attempt.message = "mismatch", (result.message or DIFFERS)[:500]
    attempt.next_check_at = change.now
    return Ruling("look", ruling.reason)


async def _rejected(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """400, 404, 422: nothing came of it, and the same request would be refused again."""
    why = (result.message or "The PSP refused the request.")[:500]
    earlier = attempt.state == "unknown"
    acts = attempt.kind in {"capture", "void"}
    if earlier or (acts and attempt.code != "rejected"):
        # Mostly the object moved on by itself (it was paid, expired or lapsed): ask for it. And of
        # an earlier request, whose answer was lost, the refusal of its replay tells nothing.
        attempt.state, attempt.code, attempt.message = "unknown", "rejected", why
        attempt.next_check_at, attempt.updated_at = change.now, change.now
        return Ruling("look", why)
    return await refused(change, attempt, result)


async def refused(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """End an attempt that the PSP refused and that surely had no effect: a person must look."""
    result.cls = "rejected"
    if unwanted(change, attempt):
        return await without_effect(change, attempt, result)
    why = result.message or attempt.message or "The PSP refused the request."
    code = result.code or attempt.code
    end_attempt(change, attempt, "rejected")
    attempt.code, attempt.message = (code or "rejected")[:60], why[:500]
    attempt.decline_code = result.decline_code and result.decline_code[:60]
    if attempt.kind == "refund":
        refund = await refund_of(change, attempt)
        refund.status_reason, refund.updated_at = "held_for_operator", change.now
    elif change.payment.status not in FINAL and not await _needless(change, attempt):
        change.move("processing", "held_for_operator")
    return Ruling("bury", f"The PSP refused the request: {why}")


async def _needless(change: Change, attempt: Attempt) -> bool:
    """Tell whether an attempt to charge is of no use: another one's hold carries the payment."""
    return attempt.kind in {"charge", "checkout"} and await is_carried(change, attempt)


async def _next(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """Go on with the attempt's next step, unless a cancel came: what was done moves nothing."""
    first = change.rt.psp(attempt.connection_id).steps(cast("AttemptKind", attempt.kind))[0]
    if attempt.step == first and unwanted(change, attempt):
        return await without_effect(change, attempt, result)
    return Ruling("next")


async def _again(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """The request surely had no effect: the same attempt goes again with the same key."""
    why = result.message or ("The PSP is busy." if result.cls == "busy" else "Never left us.")
    attempt.updated_at = change.now
    if attempt.state == "unknown":
        return unknown(change, attempt, result)  # An earlier try may still have had one.
    if unwanted(change, attempt):
        return await without_effect(change, attempt, result)
    attempt.state, attempt.next_check_at = "created", None
    payment = change.payment
    waits = payment.status not in FINAL and attempt.kind != "refund"
    if waits and not payment.status_reason and not await _needless(change, attempt):
        change.move(payment.status, "psp_unavailable")
    return Ruling("again", why, result.retry_after)


def unknown(
    change: Change, attempt: Attempt, result: Result, *, unanswered: bool = False
) -> Ruling:
    """It may or may not have happened: say so, and look at it again on schedule.

    `unanswered` is a look-up of which nothing was heard. It has told nothing, so the schedule does
    not move on; a PSP that comes back after an hour is asked within half a minute.
    """
    before = attempt.updated_at
    attempt.state, attempt.updated_at = "unknown", change.now
    since = attempt.first_sent_at or attempt.created_at
    seconds = next_check(attempt.checks, since=since, now=change.now)
    unanswered = unanswered and change.now - since < _ASK_FOR
    if unanswered:
        seconds = change.rt.ids.uniform(_ASK_AGAIN / 2, _ASK_AGAIN)
    if result.retry_after is not None:
        seconds = max(seconds, min(result.retry_after, 3600.0))
    attempt.checks += not unanswered
    attempt.misses += 1 if result.cls == "not_found" else 0
    attempt.next_check_at = change.now + timedelta(seconds=seconds)
    _overdue(change, attempt, before)
    payment = change.payment
    if attempt.kind in {"charge", "capture", "void"} and payment.status not in FINAL:
        if payment.cancel_requested_at is not None:
            change.move("processing", "canceling")
        elif attempt.kind != "void":  # The end of a page, whose customer may have been faster.
            change.move("processing", "outcome_unknown")
    return Ruling("look", result.message or "The outcome is unknown.", seconds)


def _overdue(change: Change, attempt: Attempt, before: datetime) -> None:
    """Ring each hour for an outcome that is unknown for one; after a day ask a person as well.

    `before` is when it was looked at last.
    """
    since = attempt.first_sent_at or attempt.created_at
    waits = change.now - since
    hours, rung = (int((at - since).total_seconds() // 3600) for at in (change.now, before))
    if waits < ALARM_AFTER:
        return
    if hours > rung:
        log.error("outcome_unknown_too_long", attempt_id=attempt.id, kind=attempt.kind, hours=hours)
    if waits >= REVIEW_AFTER:
        change.review(attempt, "unknown_outcome", STILL_UNKNOWN)


def interrupted(change: Change, attempt: Attempt) -> None:
    """A call was cut off (a crash, a shutdown): its outcome is unknown from here on."""
    unknown(change, attempt, Result(cls="unknown", message="The call was cut off."))


async def _pending(change: Change, attempt: Attempt) -> Ruling:
    """The PSP has it and decides later; a sweep looks now and then, should its event be lost."""
    change.answered(attempt)
    attempt.state = "open" if attempt.state == "open" else "sent"
    since = attempt.first_sent_at or attempt.created_at
    seconds = max(_SLOW_PSP, next_check(attempt.checks, since=since, now=change.now))
    attempt.checks += 1
    attempt.next_check_at = change.now + timedelta(seconds=seconds)
    attempt.updated_at = change.now
    payment = change.payment
    charges = attempt.kind in {"checkout", "charge"} and payment.status not in FINAL
    if charges and not await _needless(change, attempt):
        ending = payment.cancel_requested_at or payment.status_reason == "canceling"
        change.move("processing", "canceling" if ending else None)
    return DONE


async def _charge(change: Change, attempt: Attempt, result: Result) -> Ruling:
    if result.cls == "succeeded":
        return await paid(change, attempt, result)
    if result.cls == "authorized":
        return await _authorized(change, attempt, result)
    if result.cls == "closed":
        end_attempt(change, attempt, "closed")
        await close_unless_held(change, attempt, result)
    elif attempt.kind == "checkout":
        # A decline on the PSP's page ends nothing: the customer may try another card.
        if result.cls == "declined":
            note_decline(change, result)
        await _open(change, attempt, result)
    else:
        end_attempt(change, attempt, "declined", result)
        if change.payment.status not in FINAL and not await is_carried(change, attempt):
            note_decline(change, result)
            change.move("failed")
    return DONE


async def close_unless_held(change: Change, attempt: Attempt, result: Result) -> None:
    """End a payment with its object at the PSP, unless another one may be paid or holds money."""
    payment = change.payment
    if not payable(await beside(change, attempt)):
        close(change, attempt, result)
    elif payment.cancel_requested_at is not None and payment.status not in FINAL:
        change.job("payments.void", queue="psp", args={"payment_id": payment.id})


async def _open(change: Change, attempt: Attempt, result: Result) -> None:
    payment, was = change.payment, attempt.state
    change.answered(attempt)
    attempt.state = "open"
    if was == "open":
        return
    args = {"payment_id": payment.id}
    if attempt.page_expires_at is not None:
        # A minute later, so that the PSP's own end of the page comes first.
        ends = (attempt.page_expires_at - change.now).total_seconds() + 60.0
        change.job("payments.expire", queue="psp", args=args, after=ends)
    if payment.status in FINAL:
        return
    payment.psp_reference = payment.psp_reference or result.session_reference
    if payment.cancel_requested_at is not None:
        change.job("payments.void", queue="psp", args=args)
    elif await is_carried(change, attempt):
        return  # Another page carries the payment.
    elif payment.status_reason != "canceling":
        change.move("requires_action")


async def _authorized(change: Change, attempt: Attempt, result: Result) -> Ruling:
    payment = change.payment
    if attempt.kind == "capture":
        # The look-up shows the money still held: the capture did not happen.
        if unwanted(change, attempt):
            return await without_effect(change, attempt, result)
        end_attempt(change, attempt, "rejected", result)
        change.move("requires_capture")
        return DONE
    if await is_carried(change, attempt) and payment.status not in FINAL - {"succeeded"}:
        # Another hold carries the payment, whose place this one must not take.
        twice = Result(cls="rejected", code=HELD_TWICE, message=SAYS_TWICE)
        end_attempt(change, attempt, "rejected", twice)
        return Ruling("bury", SAYS_TWICE)
    end_attempt(change, attempt, "succeeded")
    if payment.status in FINAL:
        # Held for a payment that has ended: nobody may capture it, so it is let go.
        change.job("payments.void", queue="psp", args={"payment_id": payment.id})
        return DONE
    payment.psp_reference = result.psp_reference or payment.psp_reference
    payment.method = result.method or payment.method
    payment.failure_code = payment.failure_decline_code = payment.failure_message = None
    if payment.cancel_requested_at is not None:
        change.move("processing", "canceling")
        change.job("payments.void", queue="psp", args={"payment_id": payment.id})
    elif not await keep_back(change):
        change.move("requires_capture")
    look_again(change, attempt)
    return DONE


async def _void(change: Change, attempt: Attempt, result: Result, *, found: bool) -> Ruling:
    rows = await attempts_of(change.session, change.payment.id)
    target = target_of(change, attempt, rows)
    if result.cls in {"closed", "declined"}:
        end_attempt(change, attempt, "succeeded")
        # A page that somebody has paid, also with another amount, has not lapsed unpaid.
        held = target is not None and (target.pays or target.code == "mismatch")
        if target is not None:
            attempt.psp_reference = target.psp_reference or target.session_reference
        if target is not None and target.state not in ATTEMPT_FINAL:
            end_attempt(change, target, "closed")
        close(change, attempt, result, held=held)
        if hold_left(change.payment, rows) is not None:
            change.job("payments.void", queue="psp", args={"payment_id": change.payment.id})
        return DONE
    if result.cls == "open":
        # Still payable after the PSP refused to end it: a person must look.
        return await refused(change, attempt, result)
    # The customer was faster.
    end_attempt(change, attempt, "rejected")
    attempt.code, attempt.message = "already_paid", "The customer was faster."
    if target is None or target.state == "needs_review":
        return DONE
    payment = change.payment
    ending = payment.cancel_requested_at or payment.status_reason == "canceling"
    if result.cls == "authorized" and target.state == "succeeded" and ending:
        # That is known already, and whoever was to let go of the money waited for this outcome.
        change.job("payments.void", queue="psp", args={"payment_id": payment.id})
        return DONE
    if target.state in ATTEMPT_FINAL:
        return await hold_changed(change, target, result)
    if not await _as_asked(change, target, result):
        if found or target.code == "mismatch":
            _remember(target, result)
            return await freeze(change, target, result)
        _doubted(change, target, result)
        change.job("janitor.resolve", queue="janitor", args={"attempt_id": target.id})
        return DONE
    _remember(target, result)
    return await _charge(change, target, result)


async def hold_changed(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """Record what became of money that was held, where it was not us: captured, or let go."""
    payment = change.payment
    if payment.amount_captured or attempt.code == UNEXPECTED:
        return DONE
    ended = result.cls == "closed" and payment.status not in FINAL
    if ended and not payable(await beside(change, attempt)):
        close(change, attempt, result, held=True)
    if result.cls == "succeeded":
        return await paid(change, attempt, result)
    return DONE


async def _refund(change: Change, attempt: Attempt, result: Result) -> Ruling:
    refund = await refund_of(change, attempt)
    if refund.status != "pending":
        settled = await end_beside(change, attempt, result)
        return DONE if settled else unknown(change, attempt, result)
    refund.psp_reference = result.psp_reference or refund.psp_reference
    if result.cls == "succeeded":
        end_attempt(change, attempt, "succeeded")
        settle_refund(change, refund)
    elif result.cls == "declined":
        end_attempt(change, attempt, "declined", result)
        code = result.code or "refund_failed"
        fail_refund(change, refund, code=code, message=result.message, reserved=True)
    else:  # No word that a refund's answer can have: nothing is known by it.
        return unknown(change, attempt, result)
    return DONE
