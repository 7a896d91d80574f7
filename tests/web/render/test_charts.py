"""Charts of real days: none, one, zero, many and huge."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.render.support import HOSTILE, days, parsed
from web.render import (
    Day,
    charts,
)


@given(st.integers(min_value=1, max_value=10**18))
def test_axes_end_at_a_round_number_that_is_not_far(value: int) -> None:
    top = charts.nice_top(value)
    assert value <= top <= 2 * value
    assert str(top).rstrip("0") in {"1", "2", "4", "5", "8"}


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (0, "eur", "0"),
        (250_000, "eur", "2.5k"),
        (5, "eur", "0.05"),
        (12_000_000, "jpy", "12M"),
        (8 * 10**14, "eur", "8T"),
    ],
)
def test_axis_labels_are_short(minor: int, currency: str, text: str) -> None:
    assert charts.compact(minor, currency) == text


@given(
    st.lists(st.integers(min_value=0, max_value=10**15), min_size=1, max_size=60),
    st.sampled_from(["eur", "jpy", "bhd"]),
)
def test_no_bar_leaves_its_chart_and_none_that_has_volume_is_invisible(
    volumes: list[int], currency: str
) -> None:
    shown = [
        Day(day=date(2026, 1, 1) + timedelta(days=index), volume=volume)
        for index, volume in enumerate(volumes)
    ]
    bars = [
        element
        for element in parsed(charts.chart_volume(shown, currency)).iter("rect")
        if "bar" in element.attrib["class"]
    ]
    assert len(bars) == len(volumes)
    for bar, volume in zip(bars, volumes, strict=True):
        height, y = float(bar.attrib["height"]), float(bar.attrib["y"])
        left, width = (float(bar.attrib[name].rstrip("%")) for name in ("x", "width"))
        assert 0 <= height <= charts.HEIGHT
        assert (height > 0) == (volume > 0)
        assert y >= 0
        assert y + height < charts.HEIGHT
        assert left >= 0
        assert left + width <= 100.01


def test_a_chart_tells_its_finding_in_its_name() -> None:
    shown = [*days(2, volume=100), Day(day=date(2026, 11, 23), volume=900, tried=4, succeeded=3)]
    name = parsed(charts.chart_volume(shown, "eur")).attrib["aria-label"]
    assert "21 Nov to 23 Nov 2026" in name
    assert "Total 11.00 EUR" in name
    assert "Most on 23 Nov: 9.00 EUR" in name
    assert "75.0% of 4" in parsed(charts.chart_rate(shown)).attrib["aria-label"]


def test_today_is_lighter() -> None:
    chart = parsed(charts.chart_volume(days(3, volume=5), "eur", date(2026, 11, 22)))
    assert [e.attrib["class"] for e in chart.iter("rect") if "bar" in e.attrib["class"]] == [
        "bar",
        "bar",
        "bar today",
    ]


def test_days_without_any_try_are_gaps_and_not_zeroes() -> None:
    first = date(2026, 11, 1)
    tried = [1, 1, 0, 1, 0, 2, 2]
    shown = [
        Day(day=first + timedelta(days=index), tried=number, succeeded=number)
        for index, number in enumerate(tried)
    ]
    chart = parsed(charts.chart_rate(shown))
    lines = [line.attrib["points"].split() for line in chart.iter("polyline")]
    assert [len(line) for line in lines] == [2, 1, 2]
    dots = [dot for dot in chart.iter("circle") if dot.attrib["class"] == "pt"]
    assert len(dots) == 2, "the lonely day and the last one"
    tips = [text.text or "" for text in chart.iter("text")]
    assert tips.count("3 Nov: nobody tried") == 1


@pytest.mark.parametrize("shown", [[], days(1), days(30), days(400, tried=1)])
def test_charts_of_nothing_are_still_charts(shown: list[Day]) -> None:
    for chart in (charts.chart_volume(shown, "eur"), charts.chart_rate(shown)):
        assert parsed(chart).attrib["aria-label"]
        assert "nan" not in chart.lower()
        assert len([e for e in parsed(chart).iter("text") if e.get("text-anchor")]) < 1000


def test_notes_on_a_chart_are_text() -> None:
    shown = days(5, tried=10, succeeded=8)
    chart = charts.chart_rate(shown, notes={shown[1].day: HOSTILE})
    assert "<script" not in chart
    assert any(element.text == HOSTILE for element in parsed(chart).iter("text"))


@given(st.lists(st.integers(min_value=-(10**12), max_value=10**12), max_size=4))
def test_a_meter_never_overflows(values: list[int]) -> None:
    meter = parsed(charts.meter([(value, "ok") for value in values], "Parts"))
    parts = [e for e in meter.iter("rect") if "fg" in e.attrib["class"]]
    assert len(parts) <= len([value for value in values if value > 0])
    for part in parts:
        assert float(part.attrib["x"].rstrip("%")) <= 100


@pytest.mark.parametrize("values", [[], [3], [0, 0], [1, 5, 2]])
def test_a_spark_is_a_line_of_at_least_two_points(values: list[float]) -> None:
    spark = parsed(charts.spark(values, "Depth"))
    points = next(iter(spark.iter("polyline"))).attrib["points"].split()
    assert len(points) >= 2
    assert all(0 <= float(point.split(",")[1]) <= 20 for point in points)
