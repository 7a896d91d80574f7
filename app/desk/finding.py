"""Compares what a person says about an attempt with what the PSP says; pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from app import money
from app.payments.models import Attempt
from app.psp.port import RefundSeen, Result

_WORDS = {
    "succeeded": "it happened",
    "authorized": "the money is held",
    "pending": "it has not decided yet",
    "open": "the page is open and nobody has paid",
    "declined": "it was declined",
    "closed": "it is closed unpaid",
    "next": "it has had no effect",
    "not_found": "it knows no such thing",
    "mismatch": "something else happened than we asked for",
}
_PROOFS = {
    "charge": {"succeeded", "authorized"},
    "checkout": {"succeeded", "authorized"},
    "capture": {"succeeded"},
    "void": {"closed"},
    "refund": {"succeeded"},
}


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """What the PSP shows in place of what was asked for; `most` is what could be booked of it."""

    amount: int | None
    currency: str | None
    reference: str | None
    ours: bool
    done: bool
    most: int


def answers(kind: str, attempt_kind: str) -> tuple[str, ...]:
    """Return what a person may say about an item of a kind, about an attempt of a kind."""
    if kind == "unexpected_receipt":
        return ("refunded",)
    if kind == "mismatch" and attempt_kind in {"charge", "checkout"}:
        return ("refunded", "did_not_happen")
    if kind == "mismatch" and attempt_kind in {"capture", "refund"}:
        return ("happened", "otherwise", "did_not_happen")
    return ("happened", "did_not_happen")


class Finding(msgspec.Struct, frozen=True):
    """Whether the PSP agrees with a person, and its word."""

    agrees: bool
    words: str
    amount: int | None = None  # What is booked, where that is not what was asked for.


def of_happened(attempt: Attempt, result: Result, *, named: str) -> Finding:
    """Compare an object that a person named with the attempt: id, owner, amount, currency."""
    said = f"The PSP says: {_WORDS.get(result.cls, result.cls)}."
    if result.cls not in _PROOFS[attempt.kind]:
        return Finding(agrees=False, words=said)
    if named not in {result.psp_reference, result.session_reference}:
        return Finding(agrees=False, words=f"{said} But that is not {named[:80]}.")
    # A capture or cancel acts on an object that another attempt made.
    own = attempt.kind in {"charge", "checkout", "refund"}
    if own and result.attempt_id != attempt.id:
        return Finding(agrees=False, words=f"{said} But it belongs to another attempt.")
    amount = result.amount_captured if attempt.kind == "capture" else result.amount
    if attempt.kind != "void" and (amount, result.currency) != (attempt.amount, attempt.currency):
        seen = money.text(amount or 0, result.currency or attempt.currency)
        return Finding(agrees=False, words=f"{said} But it is about {seen}.")
    return Finding(agrees=True, words=said)


def of_otherwise(attempt: Attempt, other: Other | None, *, named: str) -> Finding:
    """Tell whether an object that a person named is ours, done, and of an amount to book."""
    if other is None or named != other.reference:
        return Finding(agrees=False, words=f"The PSP does not show {named[:80]} for this.")
    if not other.ours:
        return Finding(agrees=False, words="The PSP says: it belongs to something else.")
    if not other.done or not other.amount:
        return Finding(agrees=False, words="The PSP says: no money has moved by it.")
    said = f"The PSP says: {money.text(other.amount, other.currency or attempt.currency)}."
    if other.currency != attempt.currency:
        return Finding(agrees=False, words=f"{said} That is another currency.")
    if other.amount == attempt.amount:
        return Finding(agrees=False, words=f"{said} That is what we asked for.")
    if other.amount > other.most:
        most = money.text(other.most, attempt.currency)
        held = " while other refunds hold the rest" if attempt.kind == "refund" else ""
        return Finding(agrees=False, words=f"{said} At most {most} can be booked{held}.")
    return Finding(agrees=True, words=said, amount=other.amount)


def of_did_not_happen(result: Result, *, now: datetime, key_ends: datetime) -> Finding:
    """Tell whether "it is not there" is proven: not found, when its key can replay no more."""
    said = f"The PSP says: {_WORDS.get(result.cls, result.cls)}."
    if result.cls not in {"not_found", "next", "closed"}:
        return Finding(agrees=False, words=said)
    if now < key_ends:
        return Finding(
            agrees=False, words=f"{said} But its key still counts, so it may be under way."
        )
    return Finding(agrees=True, words=said)


def of_refunded(seen: Sequence[RefundSeen], *, named: str, amount: int, currency: str) -> Finding:
    """Tell whether the money that nobody expected has gone back: all of it, in one or in parts."""
    found = next((one for one in seen if one.psp_reference == named), None)
    if found is None:
        return Finding(agrees=False, words="The PSP knows no such refund of that charge.")
    if found.status != "succeeded":
        return Finding(agrees=False, words=f"The PSP says: that refund is {found.status}.")
    gone = sum(one.amount for one in seen if one.status == "succeeded")
    text = money.text(gone, found.currency)
    if (gone, found.currency) != (amount, currency):
        whole = money.text(amount, currency)
        return Finding(agrees=False, words=f"The PSP says: {text} of {whole} went back.")
    return Finding(agrees=True, words=f"The PSP says: {text} went back.")
