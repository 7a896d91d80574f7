"""Whether an effect at the PSP is still to be brought about, when its job comes to it."""

from app.payments import attempts
from app.payments.change import Change
from app.payments.ending import drop_unsent, hold_left
from app.payments.models import Attempt, Refund
from app.payments.states import ATTEMPT_FINAL, FINAL, RISK_REFUSED
from app.psp.port import AttemptKind

_TRIED_AGAIN = frozenset({None, "held_for_operator", "psp_unavailable"})


async def is_wanted(
    change: Change,
    rows: list[Attempt],
    kind: AttemptKind,
    current: Attempt | None,
    refund_id: str | None,
) -> bool:
    """Tell whether the effect is still to be brought about."""
    payment = change.payment
    if current is not None and current.state in {"succeeded", "open", "needs_review", "declined"}:
        return False
    if kind == "refund":
        refund = await change.session.get(Refund, refund_id, populate_existing=True)
        return refund is not None and refund.status == "pending"
    asked = payment.cancel_requested_at is not None
    if kind == "void" and payment.status in FINAL:
        # A hold that came after the end is let go of; money that came is a person's to refund.
        return hold_left(payment, rows) is not None
    carried = any(row.pays for row in rows)
    if kind == "void":
        # What a person is asked about is the end itself, unless the money has come: then it is the
        # capture, or the end of what the risk check refused.
        asked_about = not carried or payment.failure_code == RISK_REFUSED
        stuck = payment.status_reason == "held_for_operator" and asked_about
        ending = asked or payment.status_reason == "canceling" or stuck
        frozen = payment.status_reason == "held_for_review"
        return payment.status == "processing" and ending and not frozen
    if asked or payment.status in FINAL:
        return False
    if kind != "capture" and carried:
        return False  # One that was held to have had no effect has turned up.
    if kind == "checkout":
        # In processing a person has had it tried again, perhaps while the PSP was away.
        return payment.status == "requires_action" or payment.status_reason in _TRIED_AGAIN
    return payment.status == "processing"


async def drop_idle_void(change: Change, rows: list[Attempt]) -> None:
    """End a void that was never sent and is not wanted: nobody may come to it before a capture.

    Its job may lie in the dead letters, while the customer was faster than the end of the page.
    """
    if not await is_wanted(change, rows, "void", None, None):
        drop_unsent(change, rows, "void")
        await change.session.flush()  # The database refuses a second one that waits.


def of_hold(change: Change, rows: list[Attempt], voids: list[Attempt]) -> list[Attempt]:
    """Return the voids that are not settled, after ending what waits to let go of another hold."""
    hold = hold_left(change.payment, rows)
    open_ = [row for row in voids if row.state not in ATTEMPT_FINAL]
    for row in open_:
        if row.state == "created" and attempts.target_of(change, row, rows) is not hold:
            drop_unsent(change, [row], "void")
    return [row for row in open_ if row.state not in ATTEMPT_FINAL]


def time_is_over(change: Change) -> bool:
    """Tell whether a payment may not be paid any more."""
    ends = change.payment.expires_at
    return ends is not None and ends <= change.now
