"""Attempts that were held to have had no effect, and whose effect turns up at the PSP.

A request that was given up may arrive after its own replay was refused, or after a person has had
the same made anew.
"""

import structlog

from app.payments.attempts import installation_of
from app.payments.change import Change, attempts_of
from app.payments.ending import drop_unsent
from app.payments.models import Attempt
from app.payments.receipts import end_attempt
from app.payments.refunding import adopt, refund_of
from app.payments.states import (
    ATTEMPT_FINAL,
    BESIDE,
    FINAL,
    HELD_TWICE,
    LANE,
    OTHER_AMOUNT,
    RETURNED,
    SAYS_TWICE,
)
from app.psp.port import RefundSeen, Result

log = structlog.get_logger(__name__)

NO_EFFECT = frozenset({"created", "not_sent", "rejected"})
_BESIDE = "The PSP paid it beside the refund, so it is recorded as a refund of its own."
_OPEN = frozenset({"sent", "unknown", "open", "needs_review"})
_BOOKED_ELSEWHERE = frozenset({OTHER_AMOUNT, RETURNED})
# What a look-up answers when an attempt of this kind has had its effect.
_DONE_AT_PSP: dict[str, set[str]] = {
    "charge": {"succeeded", "authorized", "pending", "mismatch"},
    "checkout": {"succeeded", "authorized", "pending", "open", "mismatch"},
    "capture": {"succeeded", "mismatch"},
    "void": {"closed"},
    "refund": {"succeeded", "pending", "mismatch"},
}


def _had_no_effect(attempt: Attempt) -> bool:
    """Tell whether our rows say so, and what the PSP has done of it is booked nowhere else."""
    return attempt.state in NO_EFFECT and attempt.code not in _BOOKED_ELSEWHERE


async def contradicts(change: Change, attempt: Attempt, result: Result) -> bool:
    """Tell whether the PSP has done what our rows say has had no effect, and it counts.

    Then it is the one: what was made in its place and not sent is ended, and must not be.
    """
    if not _had_no_effect(attempt):
        return False
    if attempt.kind == "capture" and change.payment.amount_captured:
        return False  # Somebody has captured it at the PSP, and that is recorded.
    if result.cls not in _DONE_AT_PSP[attempt.kind]:
        return False
    if attempt.kind == "refund":
        return await carries(change, attempt)
    others = [
        row
        for row in await attempts_of(change.session, attempt.payment_id)
        if row.id != attempt.id and row.kind != "refund"
    ]
    carried = attempt.kind not in {"capture", "void"} and any(row.pays for row in others)
    ended = change.payment.status in FINAL - {"succeeded"}
    if carried and not ended and not result.amount_captured and result.cls != "succeeded":
        # Another hold carries the payment; this one must not take its place. It is let go of
        # at the PSP, by a person (who is told by the letter of its event) or by its time.
        if result.cls == "authorized":
            log.error("held_twice", attempt_id=attempt.id)
            attempt.code, attempt.message = HELD_TWICE, SAYS_TWICE
        return False
    if any(row.kind in LANE and row.state in {"sent", "unknown"} for row in others):
        return False
    pages = [row for row in others if row.kind == attempt.kind == "checkout"]
    if result.cls in {"pending", "open"} and any(row.state in _OPEN for row in pages):
        return False  # Two are never open by our rows; should this one be paid, it is heard of.
    drop_unsent(change, others, *(LANE if attempt.kind in LANE else {"checkout"}))
    await change.session.flush()
    return True


async def hear(change: Change, attempt: Attempt, result: Result) -> None:
    """Take up what the PSP says of an attempt that our rows hold to have had no effect."""
    # Asked for here, as a query later would write what the database must not see yet.
    await installation_of(change.session, change.rt)
    if await contradicts(change, attempt, result):
        attempt.state = "unknown"  # The PSP knows better.
        log.error("attempt_had_happened", attempt_id=attempt.id, kind=attempt.kind)
    elif attempt.kind == "refund" and result.cls == "succeeded":
        await settle_beside(change, attempt, result)


async def carries(change: Change, attempt: Attempt) -> bool:
    """Tell whether what an attempt has done after all is its refund.

    By then the refund may be paid by a later attempt, or have failed: that money has gone beside
    it. And while a later one is under way, nobody knows which of them will be the refund.
    """
    refund = await refund_of(change, attempt)
    rivals = await _rivals(change, attempt)
    if refund.status != "pending" or any(row.state in _OPEN for row in rivals):
        return False
    drop_unsent(change, rivals, "refund")
    return True


async def undecided(change: Change, attempt: Attempt) -> bool:
    """Tell whether what the PSP paid for a refund's attempt may still be that refund.

    Also when that is certain by now and its rows do not say so yet: whoever asks takes it up next.
    """
    if attempt.kind != "refund":
        return attempt.state not in ATTEMPT_FINAL
    rows = [attempt, *await _rivals(change, attempt)]
    if any(row.state in _OPEN for row in rows):
        return True
    return _had_no_effect(attempt) and (await refund_of(change, attempt)).status == "pending"


async def _rivals(change: Change, attempt: Attempt) -> list[Attempt]:
    rows = await attempts_of(change.session, attempt.payment_id)
    same = [row for row in rows if row.kind == "refund" and row.refund_id == attempt.refund_id]
    return [row for row in same if row.id != attempt.id]


async def settle_beside(change: Change, attempt: Attempt, result: Result) -> None:
    """Book what an attempt without effect has paid after all, where it cannot be its refund."""
    if _had_no_effect(attempt) and not await undecided(change, attempt):
        await _beside(change, attempt, result)


async def end_beside(change: Change, attempt: Attempt, result: Result) -> bool:
    """End an attempt whose refund was paid by a later one, or has failed, in the meantime.

    False: what the PSP says does not end it, or what it paid finds no room yet.
    """
    if result.cls == "declined":
        end_attempt(change, attempt, "declined", result)
        return True
    if result.cls != "succeeded" or not await _beside(change, attempt, result):
        return False
    end_attempt(change, attempt, "succeeded")
    attempt.code, attempt.message = BESIDE, _BESIDE
    return True


async def _beside(change: Change, attempt: Attempt, result: Result) -> bool:
    """Book a refund that was paid beside the one that it was to be; False: it has no room yet."""
    seen = RefundSeen(
        psp_reference=result.psp_reference or attempt.id,
        amount=result.amount or attempt.amount,
        currency=result.currency or attempt.currency,
        status="succeeded",
    )
    return await adopt(change, seen) != "no_room"
