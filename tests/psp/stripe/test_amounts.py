"""Stripe's minor units are not always ISO's, and what it accepts is told beforehand."""

import pytest

from app.money import CURRENCIES
from app.psp.stripe import amounts

PAIRS = [
    ("eur", 12840, 12840),
    ("jpy", 500, 500),
    ("isk", 5, 500),
    ("ugx", 1200, 120_000),
    ("mga", 500, 5),
    ("kwd", 5120, 5120),
    ("krw", 1000, 1000),
    ("huf", 17_500, 17_500),
]


@pytest.mark.parametrize(("currency", "ours", "theirs"), PAIRS)
def test_amounts_go_both_ways(currency: str, ours: int, theirs: int) -> None:
    assert amounts.to_stripe(ours, currency) == theirs
    assert amounts.to_ours(theirs, currency) == ours


@pytest.mark.parametrize(("currency", "amount"), [("kwd", 5124), ("mga", 550), ("tnd", 1)])
def test_an_amount_that_stripe_cannot_write_is_refused(currency: str, amount: int) -> None:
    with pytest.raises(amounts.NotRepresentableError):
        amounts.to_stripe(amount, currency)


def test_an_amount_that_we_cannot_write_is_refused_and_a_fee_rounded_up() -> None:
    with pytest.raises(amounts.NotRepresentableError):
        amounts.to_ours(1250, "isk")
    assert amounts.fee_to_ours(1250, "isk") == 13
    assert amounts.fee_to_ours(0, "isk") == 0
    assert amounts.fee_to_ours(3, "mga") == 300


NOT_TAKEN = set("btn cup ern ghs iqd irr kpw lyd mru sdg sle ssp stn svc syp tmt ves".split())


def test_currencies_that_stripe_does_not_take_have_no_limits() -> None:
    assert {code for code in CURRENCIES if amounts.limits(code) is None} == NOT_TAKEN


@pytest.mark.parametrize("currency", sorted(CURRENCIES - NOT_TAKEN))
def test_each_limit_is_a_step_that_stripe_can_write(currency: str) -> None:
    found = amounts.limits(currency)
    assert found is not None
    assert 0 < found.minimum <= found.maximum
    for amount in (found.minimum, found.maximum):
        assert amount % found.step == 0
        theirs = amounts.to_stripe(amount, currency)
        assert 0 < theirs <= 99_999_999
        assert amounts.to_ours(theirs, currency) == amount


def test_known_minimums() -> None:
    told = {code: amounts.limits(code) for code in ("eur", "gbp", "jpy", "huf", "xxx")}
    minimums = {code: found and found.minimum for code, found in told.items()}
    assert minimums == {"eur": 50, "gbp": 30, "jpy": 50, "huf": 17_500, "xxx": None}
