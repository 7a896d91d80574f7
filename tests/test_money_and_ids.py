from datetime import UTC, datetime

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import ids, money


def test_exponents_agree_with_iso_4217() -> None:
    theirs = {entry.code.lower(): entry.exponent for entry in iso4217.Currency}
    for code in money.CURRENCIES:
        if code in theirs:
            assert money.exponent(code) == (theirs[code] or 0), code


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (1_820_455, "eur", "18,204.55 EUR"),
        (12_480, "jpy", "12,480 JPY"),
        (-5, "usd", "-0.05 USD"),
        (1_234_567, "bhd", "1,234.567 BHD"),
        (0, "eur", "0.00 EUR"),
    ],
)
def test_amounts_are_written_with_their_code(minor: int, currency: str, text: str) -> None:
    assert money.text(minor, currency) == text


@given(st.integers(0, money.MAX_AMOUNT), st.sampled_from(["eur", "jpy", "bhd"]))
def test_a_written_amount_reads_back(minor: int, currency: str) -> None:
    assert money.parse_decimal(money.decimal(minor, currency, grouping=False), currency) == minor


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1e3", "1.234", "1,2,3", "٣", "1 000", "nan", "+1", ".5", "9" * 13],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimals"):
        money.parse_decimal(text, "eur")


def test_money_is_an_integer_of_a_known_currency() -> None:
    with pytest.raises(TypeError):
        money.Money(1.0, "eur")  # type: ignore[arg-type] # The point of the test.
    with pytest.raises(TypeError):
        money.Money(True, "eur")
    with pytest.raises(ValueError, match="currency"):
        money.Money(1, "EUR")


def test_an_id_sorts_behind_one_of_a_host_whose_clock_is_ahead() -> None:
    ahead = ids.Ids(lambda: datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC))("att")
    here = ids.Ids(lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    assert here("att") < ahead < here("att", after=ahead)
    assert ids.is_id(here("att", after=ahead), "att")
    past = here("att", after=ids.Ids(lambda: datetime(2026, 1, 1, tzinfo=UTC))("att"))
    assert past.startswith(ids.earliest("att", datetime(2026, 11, 22, 12, tzinfo=UTC)))


def test_ids_sort_by_time_and_are_not_guessable() -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    early = ids.Ids(lambda: moment)("pay")
    late = ids.Ids(lambda: moment.replace(year=2027))("pay")
    assert early < late
    assert ids.is_id(early, "pay")
    assert len({ids.Ids(lambda: moment)("pay") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("value", ["pay_", "pay_1", "re_" + "0" * 34, "pay_" + "U" * 34, ""])
def test_what_is_no_id_is_told_apart(value: str) -> None:
    assert not ids.is_id(value, "pay")
