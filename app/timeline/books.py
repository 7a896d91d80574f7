"""What the ledger was asked to record and what it did to the wallet, in words; pure."""

from collections.abc import Sequence

from app import money
from app.ledger.queries import Line, PostingState
from app.payments.models import Refund
from app.timeline.schemas import Moment, Tone
from app.timeline.words import sentence

# What the PSP takes from the platform is between these two, and no matter of the shop's wallet.
_HIDDEN = frozenset({"psp_fee"})
_REFUND_FAILED = {
    "insufficient_balance": "Your wallet did not cover it. Nothing was sent to the PSP.",
    "taken_back": "The PSP could not pay it out and took it back.",
}


def ledger_moments(postings: Sequence[PostingState], lines: Sequence[Line]) -> list[Moment]:
    """Tell each posting of a payment with the positions it has."""
    return [_posting(one, _lines_of(one, lines)) for one in postings if one.kind not in _HIDDEN]


def _lines_of(posting: PostingState, lines: Sequence[Line]) -> list[Line]:
    if posting.position is None:
        return []
    first = posting.position - 2 * len(posting.transfers) + 1
    return [line for line in lines if first <= line.position <= posting.position]


def _posting(posting: PostingState, lines: list[Line]) -> Moment:
    title, text, tone, icon = _said(posting, lines)
    return Moment(
        at=posting.answered_at or posting.created_at,
        kind="ledger",
        title=title,
        who="Ledger",
        text=" ".join(part for part in (text, _positions(lines)) if part),
        tone=tone,
        icon=icon,
        about=posting.key,
    )


def _positions(lines: list[Line]) -> str:
    if not lines:
        return ""
    first, last = lines[0].position, lines[-1].position
    return f"Position {first:,}." if first == last else f"Positions {first:,} to {last:,}."


def _sum(lines: list[Line], part: str) -> int:
    return sum(line.change for line in lines if line.part == part)


def _said(posting: PostingState, lines: list[Line]) -> tuple[str, str, Tone, str]:
    def write(minor: int) -> str:
        return money.text(minor, posting.currency)

    if posting.status == "waiting":
        return "Waiting for the ledger", "Written down; the next batch takes it.", "quiet", "clock"
    if posting.status == "refused":
        return "The wallet does not cover this", sentence(posting.reason), "bad", "x"
    if posting.status != "accepted":
        reason = "It could not be recorded as it is; a person has to look."
        return "The ledger could not record this", reason, "bad", "alert-triangle"
    whole = sum(minor for _, _, minor in posting.transfers)
    if posting.kind == "capture":
        paid = max((minor for _, _, minor in posting.transfers), default=0)
        kept = _sum(lines, "pending")
        text = f"{write(paid)} payment less {write(paid - kept)} fee."
        return f"Wallet: {write(kept)} pending", text, "ok", "book-2"
    if posting.kind == "settle":
        return f"Wallet: {write(whole)} became available", "", "ok", "book-2"
    if posting.kind == "refund_reserve":
        parts = [
            f"{write(-_sum(lines, part))} from {part}"
            for part in ("pending", "available")
            if _sum(lines, part)
        ]
        fee = whole + _sum(lines, "pending") + _sum(lines, "available")
        parts += [f"{write(fee)} of the fee given back"] if fee else []
        text = f"{', '.join(parts)}." if parts else ""
        return f"{write(whole)} set aside for the refund", text, "info", "book-2"
    if posting.kind == "refund_settle":
        return f"{write(whole)} left the wallet for the customer", "", "quiet", "book-2"
    if posting.kind == "refund_release":
        back = _sum(lines, "pending") + _sum(lines, "available")
        return f"{write(back)} came back to your wallet", "", "ok", "book-2"
    if posting.kind == "refund_reversal":
        text = "The PSP took the refund back."
        return f"{write(_sum(lines, 'available'))} came back to your wallet", text, "ok", "book-2"
    if posting.kind == "unexpected_receipt":
        text = "It is held apart from your wallet until a person has decided."
        return f"{write(whole)} came unexpectedly", text, "wait", "user-exclamation"
    if posting.kind == "suspense_return":
        text = "It never was in your wallet."
        return f"{write(whole)} went back to the customer at the PSP", text, "quiet", "book-2"
    if posting.kind == "suspense_reversal":
        text = "The PSP could not pay the refund out. It is held apart again."
        return f"{write(whole)} came back to the PSP", text, "wait", "user-exclamation"
    return f"{posting.kind} recorded", "", "quiet", "book-2"


def refund_moments(refunds: Sequence[Refund], people: dict[str, str]) -> list[Moment]:
    """Tell how refunds began and ended; `people` names who asked, by refund id."""
    out = []
    for refund in refunds:
        amount = money.text(refund.amount, refund.currency)
        out.append(_asked(refund, amount, people.get(refund.id)))
        if refund.status == "pending" or refund.finished_at is None:
            continue
        done = refund.status == "succeeded"
        why = _REFUND_FAILED.get(refund.failure_code or "", sentence(refund.failure_message))
        out.append(
            Moment(
                at=refund.finished_at,
                kind="refund",
                title=f"Refund of {amount} " + ("done" if done else "failed"),
                who="Refund",
                text="The customer usually has it in 5 to 10 days." if done else why,
                tone="ok" if done else "bad",
                icon="check" if done else "x",
                about=refund.id,
            )
        )
    return out


def _asked(refund: Refund, amount: str, person: str | None) -> Moment:
    reason = f"Reason: {refund.reason.replace('_', ' ')}." if refund.reason else ""
    if refund.source == "psp":
        title, who = f"Somebody refunded {amount} at the PSP", "PSP to us"
        reason = "Made outside of Counterfoil; we recorded it as it is."
    elif refund.source == "dashboard":
        title, who = f"{person or 'A user'} refunded {amount}", "Dashboard"
    else:
        title, who = f"Your shop asked for a refund of {amount}", "Shop to us"
    return Moment(
        at=refund.created_at,
        kind="refund",
        title=title,
        who=who,
        text=reason,
        tone="info",
        icon="arrow-back-up",
        about=refund.id,
    )
