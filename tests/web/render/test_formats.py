"""How money, times, numbers and states are written."""

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.web.render.support import NOW, body, request
from web.render import (
    STATIC_DIR,
    badges,
    formats,
    pages,
    render,
)


@pytest.mark.parametrize(
    ("minor", "currency", "sign", "text"),
    [
        (1820455, "eur", False, "18,204.55 EUR"),
        (12480, "jpy", False, "12,480 JPY"),
        (12345, "BHD", False, "12.345 BHD"),
        (-218, "eur", True, "−2.18 EUR"),  # noqa: RUF001 - the real minus is the point
        (4990, "eur", True, "+49.90 EUR"),
        (0, "eur", True, "0.00 EUR"),
        (5, "usd", False, "0.05 USD"),
    ],
)
def test_money_has_its_code_after_the_sum(minor: int, currency: str, sign: bool, text: str) -> None:
    assert formats.amount(minor, currency, sign=sign) == text
    markup = formats.money(minor, currency, sign=sign)
    assert re.sub(r"<[^>]+>", "", markup) == text
    assert ('class="money plus"' in markup) == (sign and minor > 0)


def test_what_is_not_known_is_an_empty_cell_that_says_none() -> None:
    for written in (
        formats.money(None, "eur"),
        formats.when(None),
        formats.count(None),
        formats.percent(None),
        formats.duration(None),
    ):
        assert written == '<span class="visually-hidden">none</span>'
    assert formats.amount(None, "eur") == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.812, "812 ms"),
        (0.9996, "1 s"),
        (1, "1 s"),
        (59.9, "59 s"),
        (267, "4 min 27 s"),
        (60, "1 min"),
        (11520, "3 h 12 min"),
        (93600, "1 d 2 h"),
        (timedelta(days=2), "2 d"),
        (-5, "0 ms"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float | timedelta, text: str) -> None:
    assert formats.duration(seconds) == text


def test_counts_and_shares_are_grouped_and_rounded() -> None:
    assert formats.count(48217) == "48,217"
    assert formats.percent(0.968) == "96.8%"
    assert formats.percent(0) == "0.0%"


def test_times_are_utc_and_carry_their_whole_value() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert ">22 Nov 2026, 14:40:07</time>" in formats.moment(elsewhere)
    assert 'datetime="2026-11-22T14:40:07.118Z"' in formats.moment(elsewhere)
    assert ">14:40:07.118</time>" in formats.moment_ms(NOW)
    micros = 1_795_358_407_118_900
    assert formats.instant(micros) == NOW


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        formats.moment(datetime(2026, 11, 22))  # noqa: DTZ001 - that is the mistake


def test_lists_name_the_year_only_when_it_is_another(test_pages: None) -> None:
    this = body(render(request(), "test/when.html", now=NOW, at=NOW))
    last = body(render(request(), "test/when.html", now=NOW, at=NOW - timedelta(days=365)))
    assert ">22 Nov, 14:40<" in this
    assert ">22 Nov 2025, 14:40<" in last
    assert formats.page_now.get() is None


@pytest.mark.parametrize(
    ("distance", "text"),
    [(12, "12 s ago"), (-55, "in 55 s"), (0, "now"), (7200, "22 Nov, 12:40")],
)
def test_relative_times_are_for_what_is_near(distance: int, text: str) -> None:
    token = formats.page_now.set(NOW)
    try:
        assert f">{text}<" in formats.ago(NOW - timedelta(seconds=distance))
    finally:
        formats.page_now.reset(token)


def test_currencies_have_names() -> None:
    assert [formats.currency_name(code) for code in ("eur", "USD", "jpy")] == [
        "Euro",
        "US dollar",
        "Japanese yen",
    ]


def test_every_badge_has_a_tone_of_the_style_sheet_an_icon_and_a_word() -> None:
    css = (STATIC_DIR / "counterfoil.css").read_text()
    for kind, states in badges.BADGES.items():
        for status, face in states.items():
            assert f".tone-{face.tone} " in css, (kind, status)
            markup = pages.badge(kind, status)
            assert "<svg" in markup
            assert face.word in markup
            assert face.word


def test_a_state_of_a_newer_release_shows_its_own_name() -> None:
    assert "Being weighed" in pages.badge("payment", "being_weighed")
    with pytest.raises(KeyError):
        pages.badge("no such kind", "succeeded")


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"status": "processing"}, "processing"),
        ({"status": "processing", "status_reason": "outcome_unknown"}, "outcome_unknown"),
        ({"status": "processing", "status_reason": "held_for_review"}, "held"),
        ({"status": "succeeded", "captured": 100}, "succeeded"),
        ({"status": "succeeded", "captured": 100, "refunded": 40}, "partly_refunded"),
        ({"status": "succeeded", "captured": 100, "refunded": 100}, "refunded"),
        ({"status": "failed"}, "failed"),
        ({"status": "failed", "declined": True}, "declined"),
    ],
)
def test_a_payment_has_one_word(facts: dict[str, Any], key: str) -> None:
    assert badges.payment_face(**facts) == key
    assert key in badges.BADGES["payment"]
