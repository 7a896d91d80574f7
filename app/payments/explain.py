"""One plain sentence: why a payment is in its state, what happens next, what can be done; pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from app import money
from app.payments.models import Attempt, Payment, PspCall, Refund
from app.payments.schemas import refundable
from app.payments.states import FINAL, RETURNED, RISK_REFUSED, UNEXPECTED
from app.risk.models import RiskCheck

_GOES_BACK = "None of it came to your wallet; it goes back to the customer."
_TOOK_OTHERWISE = f"The PSP took something else than was asked for. {_GOES_BACK}"
_CAME_OTHERWISE = f"The PSP has something else than was asked for. {_GOES_BACK}"
_FURTHER = f"A further payment came that did not fit. {_GOES_BACK}"
# How a payment has ended without money, where money came that is not its own.
_ENDED = {
    "failed": "The payment failed",
    "canceled": "The payment was cancelled",
    "expired": "The payment was not paid in time",
}
_AGAIN = "Your shop can start a new payment, with the same reference too."
_DECLINES = {
    "insufficient_funds": "not enough money",
    "lost_card": "the card is reported lost",
    "stolen_card": "the card is reported stolen",
    "expired_card": "the card has expired",
    "incorrect_cvc": "the security code is wrong",
    "incorrect_number": "the card number is wrong",
    "processing_error": "the bank could not process it",
    "authentication_required": "the bank wants the customer to confirm it",
    "fraudulent": "the bank suspects fraud",
    "do_not_honor": "the bank gave no reason",
    "generic_decline": "the bank gave no reason",
    "card_declined": "the bank gave no reason",
}


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Three plain texts; `then` and `can` are empty where there is nothing to say."""

    why: str
    then: str = ""
    can: str = ""

    @property
    def text(self) -> str:
        """Return all of it as one paragraph."""
        return " ".join(part for part in (self.why, self.then, self.can) if part)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment's rows say, with the time for which it is explained."""

    payment: Payment
    attempts: Sequence[Attempt] = ()
    calls: Sequence[PspCall] = ()
    refunds: Sequence[Refund] = ()
    risk: RiskCheck | None = None
    now: datetime


def decline_words(code: str | None, decline_code: str | None = None) -> str:
    """Say why a bank said no, as the PSP's codes tell; empty when we do not know the codes."""
    return _DECLINES.get(decline_code or "") or _DECLINES.get(code or "") or ""


def came_apart(payment: Payment, attempts: Sequence[Attempt]) -> bool:
    """Tell whether money came that is not the payment's, is held apart and goes back (or has gone).

    While a payment that does not fit is frozen, that is its state, and no such money.
    """
    final = payment.status in FINAL
    return payment.failure_code == RETURNED or any(
        row.code in {UNEXPECTED, RETURNED} or (final and _differs(row)) for row in attempts
    )


def _differs(attempt: Attempt) -> bool:
    charges = attempt.kind in {"checkout", "charge", "capture"}
    return charges and attempt.state == "needs_review" and attempt.code == "mismatch"


def explain(facts: Facts) -> Explanation:
    """Return why the payment is in its state, what happens next and what can be done."""
    said = _explained(facts)
    if not came_apart(facts.payment, facts.attempts):
        return said
    if facts.payment.status in _ENDED:
        return _paid_after(facts)
    return msgspec.structs.replace(said, why=f"{said.why} {_FURTHER}")


def _paid_after(facts: Facts) -> Explanation:
    payment, codes = facts.payment, {row.code for row in facts.attempts}
    again = _AGAIN if payment.status != "canceled" else ""
    if UNEXPECTED not in codes:
        taken = RETURNED in {payment.failure_code, *codes}  # Else it may be held only.
        return Explanation(why=_TOOK_OTHERWISE if taken else _CAME_OTHERWISE, can=again)
    why = f"{_ENDED[payment.status]}, but money came for it all the same. {_GOES_BACK}"
    return Explanation(why=why, can=again)


def _explained(facts: Facts) -> Explanation:
    held = {"held_for_operator": _held_for_operator, "held_for_review": _held_for_review}
    if facts.payment.status_reason in held:
        return held[facts.payment.status_reason](facts)
    return {
        "requires_action": _requires_action,
        "processing": _processing,
        "requires_capture": _requires_capture,
        "succeeded": _succeeded,
        "failed": _failed,
        "canceled": _canceled,
        "expired": _expired,
    }[facts.payment.status](facts)


def _amount(facts: Facts, minor: int) -> str:
    return money.text(minor, facts.payment.currency)


def _at(facts: Facts, at: datetime) -> str:
    if at.date() == facts.now.date():
        return f"at {at:%H:%M:%S}"
    year = "" if at.year == facts.now.year else f" {at.year}"
    return f"on {at.day} {at:%B}{year} at {at:%H:%M}"


def _declined(facts: Facts) -> str:
    payment = facts.payment
    words = decline_words(payment.failure_code, payment.failure_decline_code)
    return f"declined: {words}" if words else "declined"


def _next_check(facts: Facts) -> datetime | None:
    due = [
        row.next_check_at
        for row in facts.attempts
        if row.state == "unknown" and row.next_check_at is not None
    ]
    return min(due, default=None)


def _ask_again(facts: Facts) -> str:
    at = _next_check(facts)
    if at is None or at <= facts.now:
        return "We are asking the PSP again now"
    return f"We ask the PSP again {_at(facts, at)} and then at longer intervals"


def _requires_action(facts: Facts) -> Explanation:
    payment = facts.payment
    until = f" until {_until(facts, payment.expires_at)}" if payment.expires_at else ""
    can = "You can cancel it; nothing has been charged."
    if payment.failure_code is not None:
        return Explanation(
            why=f"The customer's last card was {_declined(facts)}. Nothing was charged.",
            then=f"They can try another card{until}.",
            can="You can cancel it.",
        )
    if any(row.kind == "checkout" and row.state == "open" for row in facts.attempts):
        why = "The customer has the PSP's page and has not paid yet."
        return Explanation(why=why, then=f"The page stays open{until}.", can=can)
    if payment.status_reason == "psp_unavailable":
        return Explanation(
            why="The PSP cannot be asked just now, so its page is not there yet.",
            then="The customer waits on our page, which goes on by itself as soon as it is.",
            can=can,
        )
    return Explanation(
        why="The customer has not paid yet.",
        then=f"We are making the PSP's page; it can be paid{until}.",
        can=can,
    )


def _until(facts: Facts, at: datetime) -> str:
    return _at(facts, at).removeprefix("at ").removeprefix("on ")


def _processing(facts: Facts) -> Explanation:
    payment = facts.payment
    if payment.status_reason == "outcome_unknown":
        return Explanation(
            why=f"We do not know yet whether {_lane_words(facts)}: the PSP's answer was lost.",
            then=f"{_ask_again(facts)}; the customer cannot be charged twice.",
            can="You need not do anything; please do not ask the customer to pay again.",
        )
    if payment.cancel_requested_at is not None:
        return Explanation(
            why="You asked for a cancel, and the PSP has not confirmed it yet.",
            then="It ends as soon as the PSP does. If the customer was faster, it succeeds.",
        )
    if payment.status_reason == "canceling" and payment.failure_code == RISK_REFUSED:
        return Explanation(
            why="The payment was refused, and the held money is being let go.",
            then="It fails as soon as the PSP confirms that; nothing is taken.",
        )
    if payment.status_reason == "canceling":
        return Explanation(
            why="The time to pay is over, and the PSP has not confirmed that yet.",
            then="It expires as soon as the PSP does. If the customer was faster, it succeeds.",
        )
    if payment.status_reason == "psp_unavailable":
        return Explanation(
            why="The PSP cannot be asked just now. Nothing has been charged so far.",
            then="It is tried again by itself, with the same key, so it happens at most once.",
            can="You can cancel it.",
        )
    if any(row.kind == "capture" for row in facts.attempts) or _was_held(facts):
        return Explanation(
            why="The money is held, and we are taking it now.", then="It takes a few seconds."
        )
    pages = {row.state for row in facts.attempts if row.kind == "checkout"}
    if payment.hosted and pages and not pages & {"sent", "open"}:
        return Explanation(
            why="We are making the PSP's page, on which the customer pays.",
            then="Its address is asked for until we know it; nobody has been charged.",
            can="You can cancel it.",
        )
    if payment.hosted:
        return Explanation(
            why="The customer has paid on the PSP's page, and the PSP has not decided yet.",
            then="We record it as soon as the PSP tells; you need not do anything.",
        )
    return Explanation(
        why=f"We are charging {_amount(facts, payment.amount)}.",
        then="The answer usually comes within seconds.",
        can="A cancel that you ask for now is kept and carried out if it is still possible.",
    )


def _was_held(facts: Facts) -> bool:
    paying = [row for row in facts.attempts if row.kind in {"checkout", "charge"}]
    return any(row.state == "succeeded" for row in paying)


def _lane_words(facts: Facts) -> str:
    unknown = [row.kind for row in facts.attempts if row.state == "unknown"]
    if "capture" in unknown:
        return "the money that is held was taken"
    if "void" in unknown:
        return "the payment has ended"
    return "the customer was charged"


def _held_for_operator(facts: Facts) -> Explanation:
    refused = [row.message for row in facts.attempts if row.state == "rejected" and row.message]
    reason = f" It said: {_quoted(refused[-1])}" if refused else ""
    return Explanation(
        why=f"The PSP refused our request, so nothing was charged by it.{reason}",
        then="We have been told and look at it; the payment goes on or ends after that.",
        can="You need not do anything; your shop sees “processing” until then.",
    )


def _quoted(text: str) -> str:
    cleaned = " ".join(text.split())[:200].rstrip(".")
    return f"“{cleaned}”."


def _held_for_review(facts: Facts) -> Explanation:
    if facts.risk is not None and facts.risk.review == "waiting":
        return _risk_held(facts, facts.risk)
    return Explanation(
        why="What the PSP did does not fit what we asked for, so we stopped here.",
        then="A person compares the two. What came in is held apart from your wallet until then.",
        can="Please do not deliver yet and do not ask the customer to pay again.",
    )


def _risk_held(facts: Facts, risk: RiskCheck) -> Explanation:
    reasons = " ".join(str(one["text"]) for one in risk.reasons)
    amount = _amount(facts, facts.payment.amount)
    then = f"Nothing has been sent to the PSP; {amount} is charged only if somebody approves."
    if facts.payment.hosted:
        then = f"{amount} is held on the customer's card and taken only if somebody approves."
    return Explanation(
        why=f"The risk check asks a person to look first. {reasons}".rstrip(),
        then=then,
        can="Approve or refuse it, or cancel it. Please do not deliver yet.",
    )


def _requires_capture(facts: Facts) -> Explanation:
    amount = _amount(facts, facts.payment.amount)
    return Explanation(
        why=f"{amount} is held on the customer's card; none of it has been taken yet.",
        then="If you do nothing, the PSP lets the money go after some days.",
        can=f"You can capture up to {amount} once, or cancel to let all of it go.",
    )


def _succeeded(facts: Facts) -> Explanation:
    payment = facts.payment
    left = refundable(payment)
    pending = [row for row in facts.refunds if row.status == "pending"]
    if pending:
        can = f"You can refund up to {_amount(facts, left)} more." if left else ""
        amount = _amount(facts, sum(row.amount for row in pending))
        if any(row.status_reason for row in pending):
            then = "The refund is not confirmed yet; a person looks at it."
        elif _refund_unknown(facts):
            then = f"The PSP's answer was lost: {_ask_again(facts)[0].lower()}"
            then += f"{_ask_again(facts)[1:]}; it cannot happen twice."
        else:
            then = "The money is set aside; the customer usually has it in 5 to 10 days."
        return Explanation(why=f"You are giving {amount} back.", then=then, can=can)
    if payment.amount_refunded and not left:
        whole = _amount(facts, payment.amount_refunded)
        return Explanation(why=f"The customer paid and got everything back, {whole}.")
    can = f"You can refund up to {_amount(facts, left)}." if left else ""
    return Explanation(why=_charged(facts), then=_available(facts), can=can)


def _refund_unknown(facts: Facts) -> bool:
    return any(row.kind == "refund" and row.state == "unknown" for row in facts.attempts)


def _charged(facts: Facts) -> str:
    payment = facts.payment
    if payment.amount_refunded:
        back = _amount(facts, payment.amount_refunded)
        return f"The customer paid {_amount(facts, payment.amount_captured)} and got {back} back."
    kept = _amount(facts, payment.amount_captured)
    if payment.amount_captured < payment.amount:
        rest = _amount(facts, payment.amount - payment.amount_captured)
        return f"You took {kept} of what was held; the other {rest} was let go."
    if came_apart(payment, facts.attempts):
        return f"The customer paid {kept}."  # Not “once”: there was a further payment.
    moves = {row.id for row in facts.attempts if row.kind in {"charge", "capture"}}
    lost = any(
        call.attempt_id in moves
        and call.kind in {"request", "replay"}
        and call.outcome in {None, "unknown"}
        for call in facts.calls
    )
    asked = any(call.attempt_id in moves and call.kind == "lookup" for call in facts.calls)
    if lost and asked:
        return (
            "The customer was charged once. The PSP's first answer was lost, so we asked it what "
            "had happened instead of charging again."
        )
    return "The customer was charged once."


def _available(facts: Facts) -> str:
    payment = facts.payment
    if payment.settled_at is not None or payment.available_on is None:
        return "The money is in your available balance."
    amount = _amount(facts, payment.amount_pending)
    if not payment.amount_pending:
        return ""
    if payment.available_on <= facts.now:
        return f"{amount} is just becoming available."
    return f"{amount} becomes available {_at(facts, payment.available_on)}."


def _failed(facts: Facts) -> Explanation:
    payment = facts.payment
    if payment.failure_code is None:
        return Explanation(why="The payment could not be carried out.", can=_AGAIN)
    if payment.failure_code == "authentication_required":
        return Explanation(
            why="The bank wants the customer to confirm this payment. Nothing was charged.",
            can="Start a hosted payment, so that the customer can.",
        )
    if payment.failure_code == "not_charged":
        return Explanation(
            why="The PSP never carried the charge out and confirms that nobody was charged.",
            can=_AGAIN,
        )
    if payment.failure_code == RISK_REFUSED:
        reasons = "" if facts.risk is None else " ".join(str(r["text"]) for r in facts.risk.reasons)
        who = "A person" if facts.risk is not None and facts.risk.review else "The risk check"
        return Explanation(
            why=f"{who} refused this payment, and nothing was charged. {reasons}".rstrip()
        )
    if payment.failure_code == "discarded":
        return Explanation(why="We gave this payment up. Nothing was charged.", can=_AGAIN)
    why = f"The customer's bank or the PSP said no ({_declined(facts)}). Nothing was charged."
    return Explanation(why=why, can=_AGAIN)


def _canceled(facts: Facts) -> Explanation:
    if facts.payment.status_reason == "authorization_expired":
        return Explanation(
            why="The PSP let the held money go before it was captured. Nothing was taken."
        )
    return Explanation(why="It was cancelled before anything was charged. This is final.")


def _expired(facts: Facts) -> Explanation:
    return Explanation(
        why="The customer did not pay in time. Nothing was charged, and the page is closed.",
        can=_AGAIN,
    )
