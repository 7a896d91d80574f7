"""What does not fit what we asked for: frozen until a person has compared it with the PSP."""

import structlog

from app.payments.change import Change
from app.payments.models import Attempt
from app.payments.queries import is_suspended
from app.payments.receipts import suspend
from app.payments.refunding import refund_of
from app.payments.ruling import DONE, Ruling
from app.payments.states import FINAL
from app.psp.port import Result
from app.reviews import operations as reviews

log = structlog.get_logger(__name__)

DIFFERS = "The PSP's answer does not match what we asked for."
NOT_FOUND = "not_found"  # The code of an attempt that the PSP does not know any more.
_CONCLUSIVE = frozenset({"succeeded", "authorized", "declined", "closed"})


def is_frozen(attempt: Attempt, result: Result, *, found: bool) -> bool:
    """Tell whether a person must compare first.

    What could not be found may still turn up, and what has ended without money is no question.
    """
    if attempt.state != "needs_review":
        return False
    if attempt.code == NOT_FOUND:
        differs = found and result.cls == "mismatch"
        return result.cls not in _CONCLUSIVE and not differs
    without_money = "declined" if attempt.kind == "refund" else "closed"
    return not found or result.cls != without_money


async def freeze(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """Freeze: the wallet is not touched, the money that was taken is held in suspense."""
    why = result.message or DIFFERS
    gone = result.code == NOT_FOUND
    attempt.state, attempt.code = "needs_review", NOT_FOUND if gone else "mismatch"
    attempt.message = why[:500]
    attempt.next_check_at, attempt.updated_at = None, change.now
    log.error("attempt_needs_review", attempt_id=attempt.id, code=attempt.code)
    change.review(
        attempt,
        "unknown_outcome" if gone else "mismatch",
        why,
        amount=result.amount_captured or result.amount,
        currency=result.currency,
        reference=result.psp_reference,
    )
    # What is held only, or not confirmed, is nobody's money yet.
    if attempt.kind in {"checkout", "charge"} and result.amount_captured and result.psp_reference:
        suspend(change, result.amount_captured, result.currency, result.psp_reference)
    if attempt.kind == "refund":
        refund = await refund_of(change, attempt)
        refund.status_reason, refund.updated_at = "held_for_review", change.now
    elif change.payment.status not in FINAL:
        change.move("processing", "held_for_review")
    return Ruling("bury", why)


async def note_taken(change: Change, attempt: Attempt, result: Result) -> Ruling:
    """Hold apart what the PSP has taken since a person was asked."""
    taken, reference = result.amount_captured, result.psp_reference
    if attempt.code != "mismatch" or attempt.kind not in {"checkout", "charge"}:
        return DONE
    if taken and reference and not await is_suspended(change.session, reference):
        suspend(change, taken, result.currency, reference)
        attempt.psp_reference = reference  # So far only its page may have been known.
        await reviews.taken(
            change.session, attempt_id=attempt.id, amount=taken, reference=reference
        )
    return DONE
