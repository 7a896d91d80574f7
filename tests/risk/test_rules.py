"""The built-in rules, the fallback and what is stricter; pure."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.risk import fallback
from app.risk.port import Answer, Counts, Decision, Question, Reason, stricter
from app.risk.rules import Limits, RuleSet, Terms, judge

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def question(amount: int = 10_000, currency: str = "eur", **more: Any) -> Question:
    return Question(
        payment_id="pay_1",
        merchant_id="mer_1",
        livemode=False,
        amount=amount,
        currency=currency,
        hosted=False,
        created_at=NOW,
        **more,
    )


@pytest.mark.parametrize(
    ("amount", "decision"),
    [(5_000, "allow"), (5_001, "hold"), (9_000, "hold"), (9_001, "refuse")],
)
async def test_limits_are_the_last_amount_that_is_let_through(amount: int, decision: str) -> None:
    terms = Terms(limits={"eur": Limits(hold_above=5_000, refuse_above=9_000)})
    assert (await RuleSet(terms).ask(question(amount))).decision == decision
    assert judge(question(amount, "usd"), terms, ()).decision == "allow"


def test_all_reasons_are_told_and_the_strictest_decides() -> None:
    terms = Terms(limits={"eur": Limits(hold_above=1)}, customer_per_hour=3)
    asked = question(
        country="DE", card_country="FR", counts=Counts(customer_hour=3, merchant_hour=3)
    )
    said = judge(asked, terms, {"email"})
    assert said.decision == "refuse"
    assert [one.code for one in said.reasons] == [
        "blocked_email",
        "amount_held",
        "customer_velocity",
        "country_mismatch",
    ]
    assert judge(asked, Terms(country_mismatch=False), ()).decision == "allow"


@pytest.mark.parametrize("known", [{"country": "DE"}, {"card_country": "DE"}, {}])
def test_what_is_not_known_is_no_mismatch(known: Any) -> None:
    assert judge(question(**known), Terms(), ()).decision == "allow"


@pytest.mark.parametrize(
    ("amount", "currency", "decision"),
    [
        (10_000, "eur", "allow"),
        (10_001, "eur", "hold"),
        (500, "usd", "allow"),
        (501, "usd", "hold"),
        (1, "jpy", "hold"),
    ],
)
def test_the_fallback_knows_the_limit_of_each_currency(
    amount: int, currency: str, decision: str
) -> None:
    limits = {"usd": Limits(pass_up_to=500), "jpy": Limits(pass_up_to=0)}
    assert fallback.decide(question(amount, currency), Terms(limits=limits)).decision == decision


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        ("allow", "allow", "allow"),
        ("allow", "hold", "hold"),
        ("refuse", "hold", "refuse"),
        ("hold", "refuse", "refuse"),
    ],
)
def test_the_stricter_answer_holds_with_the_reasons_of_both(
    one: Decision, two: Decision, both: str
) -> None:
    first = Answer(decision=one, reasons=(Reason("a", "A."),), score=7)
    second = Answer(decision=two, reasons=(Reason("b", "B."),))
    found = stricter(first, second)
    assert (found.decision, found.score) == (both, 7)
    assert {reason.code for reason in found.reasons} == {"a", "b"}
