"""The built-in rule set: amounts, velocity, countries and the shop's blocklist; pure.

It is the only provider without RISK_URL. With one it is asked as well, and the stricter answer
holds, so that a shop's own limits never stop to count.
"""

from collections.abc import Collection

import msgspec

from app import money
from app.risk.port import Answer, Decision, Question, Reason

BLOCKED = {
    "email": "This customer's e-mail address is on your blocklist.",
    "method": "This saved card is on your blocklist.",
    "country": "The customer's or the card's country is on your blocklist.",
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts of one currency in minor units; None means no limit.

    `pass_up_to` is what goes through while the risk provider does not answer.
    """

    hold_above: int | None = None
    refuse_above: int | None = None
    pass_up_to: int = 10_000


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a shop has set; the defaults stop nobody who shops as people do."""

    limits: dict[str, Limits] = {}
    customer_per_hour: int | None = 500
    merchant_per_hour: int | None = None
    country_mismatch: bool = True

    def of(self, currency: str) -> Limits:
        """Return the limits of a currency (lower case)."""
        return self.limits.get(currency) or Limits()


class RuleSet:
    """The rule set as a provider: what the shop has set, and which blocks a payment meets."""

    name = "rules"

    def __init__(self, terms: Terms, blocked: Collection[str] = ()) -> None:
        self._terms, self._blocked = terms, blocked

    async def ask(self, question: Question) -> Answer:
        """Return what the rules say; they are never down."""
        return judge(question, self._terms, self._blocked)


def judge(question: Question, terms: Terms, blocked: Collection[str]) -> Answer:
    """Return what the rules say; `blocked` are the kinds of the blocks that the payment meets."""
    refuse = [Reason(f"blocked_{kind}", BLOCKED[kind]) for kind in BLOCKED if kind in blocked]
    hold: list[Reason] = []
    limits = terms.of(question.currency)
    if limits.refuse_above is not None and question.amount > limits.refuse_above:
        refuse.append(_above(question, limits.refuse_above, "never take"))
    elif limits.hold_above is not None and question.amount > limits.hold_above:
        hold.append(_above(question, limits.hold_above, "look at"))
    counts = question.counts
    if terms.customer_per_hour is not None and counts.customer_hour >= terms.customer_per_hour:
        text = f"This customer made more than {terms.customer_per_hour} payments within an hour."
        hold.append(Reason("customer_velocity", text))
    if terms.merchant_per_hour is not None and counts.merchant_hour >= terms.merchant_per_hour:
        text = f"Your shop took more than {terms.merchant_per_hour} payments within an hour."
        hold.append(Reason("merchant_velocity", text))
    if terms.country_mismatch and _differ(question):
        text = f"The customer is in {question.country}, the card is from {question.card_country}."
        hold.append(Reason("country_mismatch", text))
    decision: Decision = "refuse" if refuse else "hold" if hold else "allow"
    return Answer(decision=decision, reasons=(*refuse, *hold))


def _above(question: Question, limit: int, verb: str) -> Reason:
    text = money.text(limit, question.currency)
    code = "amount_refused" if verb == "never take" else "amount_held"
    return Reason(code, f"You {verb} payments above {text}.")


def _differ(question: Question) -> bool:
    known = question.country is not None and question.card_country is not None
    return known and question.country != question.card_country
