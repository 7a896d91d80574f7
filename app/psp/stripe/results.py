"""Stripe's objects as results: what their state means for an attempt, and whether they match it."""

from datetime import UTC, datetime
from typing import Literal

from app.psp.port import AttemptKind, Class, RefundSeen, Request, Result
from app.psp.stripe.amounts import NotRepresentableError, fee_to_ours, to_ours
from app.psp.stripe.objects import BalanceTransaction, Charge, Intent, Refund, Session

_WAITING = {"requires_payment_method", "requires_confirmation", "requires_action"}
_PAID_OR_LATER = {"succeeded", "requires_capture", "processing"}
_REFUND_STATUS: dict[str, Literal["pending", "succeeded", "failed"]] = {
    "pending": "pending",
    "requires_action": "pending",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "failed",
}


def of_intent(intent: Intent, request: Request, *, livemode: bool) -> Result:
    """Return what an intent's state means for an attempt of the request's kind."""
    result = Result(
        cls=_intent_class(intent, request.kind),
        psp_reference=intent.id,
        currency=intent.currency,
        attempt_id=intent.metadata.get("attempt_id"),
        installation=intent.metadata.get("installation"),
        livemode=intent.livemode,
        psp_created_at=_moment(intent.created),
        raw={"payment_intent": intent.id, "status": intent.status},
    )
    if intent.charge is not None:
        result.raw["amount_refunded"] = intent.charge.amount_refunded
        result.method = intent.charge.method
        _add_fee(result, intent.charge.balance_transaction)
    if intent.last_payment_error is not None:
        result.code = intent.last_payment_error.code
        result.decline_code = intent.last_payment_error.decline_code
        result.message = intent.last_payment_error.message
    try:
        result.amount = to_ours(intent.amount, intent.currency)
        result.amount_captured = to_ours(intent.amount_received, intent.currency)
    except NotRepresentableError as error:
        return _differs(result, str(error))
    if request.kind == "capture" and intent.status == "succeeded":
        result.amount = result.amount_captured
    return _checked(result, request, intent.metadata, livemode=livemode)


def of_session(session: Session, request: Request, *, livemode: bool) -> Result:
    """Return what a page's state, or that of the intent behind it, means for an attempt."""
    intent = session.payment_intent
    if isinstance(intent, Intent) and intent.status in _PAID_OR_LATER:
        result = of_intent(intent, request, livemode=livemode)
        # The customer was faster than a cancel, which never had an effect on this intent.
        if request.kind == "void" and intent.status == "requires_capture":
            result.cls = "authorized"
        return _with_page(result, session)
    result = Result(
        cls=_session_class(session, request.kind),
        # Also when an intent exists by now: only the session tells whether the page is open.
        psp_reference=session.id,
        currency=session.currency,
        attempt_id=session.metadata.get("attempt_id"),
        installation=session.metadata.get("installation"),
        livemode=session.livemode,
        psp_created_at=_moment(session.created),
        raw={"session": session.id, "status": session.status, "paid": session.payment_status},
    )
    if isinstance(intent, Intent) and intent.last_payment_error is not None:
        result.code = intent.last_payment_error.code
        result.decline_code = intent.last_payment_error.decline_code
        result.message = intent.last_payment_error.message
    try:
        result.amount = to_ours(session.amount_total, session.currency)
    except NotRepresentableError as error:
        return _differs(result, str(error))
    _with_page(result, session)
    return _checked(result, request, session.metadata, livemode=livemode)


def of_refund(refund: Refund, request: Request) -> Result:
    """Return what a refund's state means for a refund attempt."""
    status = _REFUND_STATUS.get(refund.status)
    classes: dict[str | None, Class] = {
        "pending": "pending",
        "succeeded": "succeeded",
        "failed": "declined",
    }
    known = refund.metadata or {}
    result = Result(
        cls=classes.get(status, "unknown"),
        psp_reference=refund.id,
        currency=refund.currency,
        attempt_id=known.get("attempt_id"),
        installation=known.get("installation"),
        psp_created_at=_moment(refund.created),
        raw={"refund": refund.id, "status": refund.status},
    )
    if status == "failed":
        result.code = refund.failure_reason or f"refund_{refund.status}"
    _add_fee(result, refund.balance_transaction)
    if refund.payment_intent != request.psp_reference:
        return _differs(result, f"it gives back {refund.payment_intent}")
    try:
        result.amount = to_ours(refund.amount, refund.currency)
    except NotRepresentableError as error:
        return _differs(result, str(error))
    return _checked(result, request, known, livemode=None)


def of_fee(intent: Intent) -> Result:
    """Return the fee of an intent's charge: `succeeded` with it, or `pending`."""
    result = Result(cls="pending", psp_reference=intent.id, currency=intent.currency)
    if intent.charge is not None:
        _add_fee(result, intent.charge.balance_transaction)
    if result.fee is not None:
        result.cls = "succeeded"
    return result


def seen(refund: Refund) -> RefundSeen:
    """Return a refund as look-ups of its charge tell it. Raises NotRepresentableError."""
    known = refund.metadata or {}
    return RefundSeen(
        psp_reference=refund.id,
        amount=to_ours(refund.amount, refund.currency),
        currency=refund.currency,
        status="released" if _released(refund) else _REFUND_STATUS.get(refund.status, "pending"),
        attempt_id=known.get("attempt_id"),
        installation=known.get("installation"),
        created_at=_moment(refund.created),
    )


def _released(refund: Refund) -> bool:
    """Tell whether it lets go of what was held and never taken, which is no money given back.

    After a capture of a part, or the end of a hold, Stripe may list the rest as a refund of the
    charge: of exactly that amount, and without a line on the account.
    """
    charge = refund.charge
    if not isinstance(charge, Charge) or charge.amount_captured is None:
        return False
    rest = charge.amount - charge.amount_captured
    moved_nothing = refund.status == "succeeded" and refund.balance_transaction is None
    return moved_nothing and not refund.metadata and refund.amount == rest > 0


def _intent_class(intent: Intent, kind: AttemptKind) -> Class:
    status = intent.status
    plain: dict[str, Class] = {
        "succeeded": "succeeded",
        "processing": "pending",
        "canceled": "closed",
    }
    if status in plain:
        return plain[status]
    if status == "requires_capture":
        return "next" if kind in {"capture", "void"} else "authorized"
    if status not in _WAITING:
        return "unknown"
    if kind == "void":
        return "next"
    if kind == "checkout":
        return "open"
    if status == "requires_payment_method" and intent.last_payment_error is not None:
        return "declined"
    if kind == "capture":
        return "unknown"
    # Nobody is there to act, yet the intent can still be paid until it is canceled.
    return "pending" if status == "requires_action" else "next"


def _session_class(session: Session, kind: AttemptKind) -> Class:
    if session.status == "open":
        return "next" if kind == "void" else "open"
    if session.status == "expired":
        return "closed"
    if session.status != "complete":
        return "unknown"
    if session.payment_status == "no_payment_required":
        return "mismatch"
    intent = session.payment_intent
    if session.payment_status == "paid" or not isinstance(intent, Intent):
        # Money moved, and the object that proves how much is not in the answer.
        return "unknown"
    # A payment that failed after the page was completed: nobody can try again there.
    failed = intent.status == "canceled" or intent.last_payment_error is not None
    return "closed" if failed else "pending"


def _checked(
    result: Result, request: Request, known: dict[str, str], *, livemode: bool | None
) -> Result:
    """Return the result, or a mismatch when it is not what was asked for."""
    if livemode is not None and result.livemode != livemode:
        return _differs(result, f"livemode is {result.livemode}")
    if result.currency != request.currency:
        return _differs(result, f"the currency is {result.currency}")
    if result.installation != request.installation:
        return _differs(result, "it belongs to another installation")
    if known.get("payment_id") != request.payment_id:
        return _differs(result, "it belongs to another payment")
    if request.kind == "void":
        return result
    if request.kind == "capture":
        if result.cls == "succeeded" and result.amount != request.amount:
            return _differs(result, f"{result.amount} was captured")
        return result
    if result.attempt_id != request.attempt_id:
        return _differs(result, "it belongs to another attempt")
    if result.cls == "closed" and not result.amount_captured:
        return result  # It can take nothing any more, whatever its amount was.
    if request.kind == "refund" and result.cls == "declined":
        return result  # Nothing went back.
    if result.amount != request.amount:
        return _differs(result, f"the amount is {result.amount}")
    whole = request.kind in {"charge", "checkout"} and request.capture_method == "automatic"
    if whole and result.cls == "succeeded" and result.amount_captured != request.amount:
        return _differs(result, f"{result.amount_captured} was received")
    return result


def _differs(result: Result, how: str) -> Result:
    result.cls = "mismatch"
    result.message = f"the PSP's object differs from the request: {how}"
    return result


def _with_page(result: Result, session: Session) -> Result:
    result.session_reference = session.id
    result.page_url = session.url
    result.page_expires_at = _moment(session.expires_at)
    return result


def _add_fee(result: Result, line: BalanceTransaction | str | None) -> None:
    if isinstance(line, BalanceTransaction):
        result.fee = fee_to_ours(line.fee, line.currency)
        result.fee_currency = line.currency
        result.balance_transaction = line.id


def _moment(epoch: int) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
