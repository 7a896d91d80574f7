"""How attempts and payments end without money: closed, let go of, given up for a cancel."""

from collections.abc import Sequence

from app.payments.change import Change, attempts_of
from app.payments.models import Attempt, Payment
from app.payments.receipts import end_attempt, note_decline
from app.payments.ruling import DONE, Ruling
from app.payments.states import FINAL, RISK_REFUSED
from app.psp.port import Result

_MAY_BE_PAID = frozenset({"sent", "open", "unknown", "needs_review"})


def payable(attempts: Sequence[Attempt]) -> bool:
    """Tell whether something at the PSP can be paid, may have been, or holds money."""
    charges = [row for row in attempts if row.kind in {"charge", "checkout"}]
    return any(row.pays or row.state in _MAY_BE_PAID for row in charges)


def hold_left(payment: Payment, attempts: Sequence[Attempt]) -> Attempt | None:
    """Return what may hold money for a payment that has ended without any; None: nothing does.

    Such holds come late, and there may be more than one; each is let go of by a void of its own.
    One that lapsed by itself counts until a void has found that out.
    """
    if payment.status not in FINAL - {"succeeded"}:
        return None
    voids = [row for row in attempts if row.kind == "void" and row.state == "succeeded"]
    gone = {row.psp_reference for row in voids}
    for row in attempts:
        if row.pays and not gone & {row.psp_reference, row.session_reference}:
            return row
    return None


def under_way(attempts: Sequence[Attempt]) -> bool:
    """Tell whether a call's outcome is open: what follows from it waits until it is known."""
    return any(row.kind != "refund" and row.state in {"sent", "unknown"} for row in attempts)


def drop_unsent(change: Change, attempts: Sequence[Attempt], *kinds: str) -> None:
    """End attempts that wait to be sent (again): they have had no effect, and never will."""
    for row in attempts:
        if row.state == "created" and row.kind in kinds:
            end_attempt(change, row, "not_sent")


def unwanted(change: Change, attempt: Attempt) -> bool:
    """Tell whether an effect is not to be brought about any more: a cancel came, or the end."""
    payment = change.payment
    if attempt.kind not in {"charge", "checkout", "capture"}:
        return False
    return payment.cancel_requested_at is not None or payment.status in FINAL


async def without_effect(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """End an attempt that surely had no effect and is not wanted any more; carry out the cancel."""
    state = "rejected" if result.cls == "rejected" else "not_sent"
    end_attempt(change, attempt, state, result)
    if change.payment.status in FINAL:
        return DONE
    if payable(await attempts_of(change.session, change.payment.id)):
        change.move("processing", "canceling")
        change.job("payments.void", queue="psp", args={"payment_id": change.payment.id})
    else:
        change.move("canceled")
    return DONE


def close(change: Change, attempt: Attempt, result: Result, *, held: bool = False) -> None:
    """End a payment whose object at the PSP can no longer be paid (`held`: that held money)."""
    payment = change.payment
    if payment.status in FINAL:
        return
    asked = payment.cancel_requested_at is not None
    held = held or attempt.kind == "capture" or payment.status == "requires_capture"
    held = held or attempt.code == "mismatch"  # Of another amount; nobody has let it lapse unpaid.
    if payment.failure_code == RISK_REFUSED:
        change.move("failed")
    elif held:
        change.move("canceled", None if asked else "authorization_expired")
    elif asked or not payment.hosted:
        change.move("canceled")
    elif result.code and payment.status == "processing" and payment.status_reason is None:
        # The customer had paid on the page, and the PSP has said no later.
        note_decline(change, result)
        change.move("failed")
    else:
        change.move("expired")
