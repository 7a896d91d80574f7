"""Payments that the risk check holds or refuses: how they are stopped, and how they are told apart.

`held_for_review` is also what a mismatch freezes a payment with. Only the risk check's row says
which it is: while that waits for a person, the payment may be cancelled and may lapse.
"""

from datetime import timedelta

from app.payments.change import Change, attempts_of
from app.payments.models import Attempt
from app.payments.states import FINAL, HELD, RISK_REFUSED, UNEXPECTED
from app.risk import queries
from app.risk.models import RiskCheck

_LOOK_EVERY = timedelta(days=1)
_REFUSED = "The risk check refused this payment. Nothing was charged."


def awaits_person(row: RiskCheck) -> bool:
    """Tell whether a held payment is (or will be) for a person to decide."""
    return row.decision == "hold" and row.review in {"later", "waiting"}


async def waits(change: Change) -> bool:
    """Tell whether a payment waits for a person to approve or refuse it."""
    payment = change.payment
    if payment.status != "processing" or payment.status_reason != HELD:
        return False
    row = await queries.check_of(change.session, payment.id)
    return row is not None and row.review == "waiting"


async def money_held(change: Change, attempt: Attempt) -> bool:
    """Tell whether an attempt may hold money that nobody has asked to take yet."""
    if attempt.state != "succeeded":
        return False
    if change.payment.status in FINAL:
        # It is to be let go of, and somebody may have taken it first.
        return not change.payment.amount_captured and attempt.code != UNEXPECTED
    if change.payment.status_reason == "held_for_operator":
        # A person is asked about a capture that was refused; it may have ended meanwhile.
        return not await _busy(change)
    return change.payment.status == "requires_capture" or await waits(change)


async def _busy(change: Change) -> bool:
    rows = await attempts_of(change.session, change.payment.id)
    return any(row.state in {"sent", "unknown", "needs_review"} for row in rows)


def look_again(change: Change, attempt: Attempt) -> None:
    """Have a hold looked at once a day while its payment is not over: its events may be lost."""
    over = change.payment.status in FINAL
    attempt.next_check_at = None if over else change.now + _LOOK_EVERY


async def keep_back(change: Change) -> bool:
    """Keep what the customer has just authorised for a person, if the risk check said so."""
    row = await queries.check_of(change.session, change.payment.id)
    if row is None or not awaits_person(row):
        return False
    row.review, row.held_at, row.version = "waiting", change.now, row.version + 1
    change.move("processing", HELD)
    return True


def note_refusal(change: Change) -> None:
    """Say on a payment that its risk was refused; how it ends depends on what is held."""
    payment = change.payment
    payment.failure_code, payment.failure_decline_code = RISK_REFUSED, None
    payment.failure_message = _REFUSED


def refuse(change: Change) -> None:
    """Fail a payment of which the PSP has never heard."""
    note_refusal(change)
    if change.payment.status == "requires_action":
        # The graph has no direct edge; shops hear of the failure alone.
        change.move("processing", tell=False)
    change.move("failed")
