"""Charts as server-rendered SVG: x in percent and y in pixels, so they fit any width unscripted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from app import money as amounts
from web.render.formats import amount, count, day, percent

HEIGHT = 168
_TOP, _BASE = 18, HEIGHT - 22
_GLYPH = 6.4  # The width in pixels of a digit at 11 px.
_STEPS = (1, 2, 4, 5, 8, 10)
_FLOORS = (0.9, 0.8, 0.5)
_WIDEST = 8.0  # Percent; a chart of one day is a bar, not a wall.


@dataclass(frozen=True, kw_only=True)
class Day:
    """One day of a shop in one currency: `volume` in minor units, the rest are payments."""

    day: date
    volume: int = 0
    payments: int = 0
    tried: int = 0
    succeeded: int = 0

    @property
    def rate(self) -> float | None:
        """Return the share of tried payments that succeeded; None when nobody tried."""
        return self.succeeded / self.tried if self.tried else None


def nice_top(value: int) -> int:
    """Return the smallest round number from 1, 2, 4, 5, 8 times a power of ten that holds value."""
    if value <= 0:
        return 0
    power: int = 10 ** (len(str(value)) - 1)
    return next(step * power for step in _STEPS if step * power >= value)


def compact(minor: int, currency: str) -> str:
    """Write an axis label: `2.5k`, `12M`, `0.05`."""
    value = minor / 10 ** amounts.exponent(currency.lower())
    for size, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def _axis(ticks: Sequence[tuple[float, str]]) -> Markup:
    """Draw the labels of the y axis in a column as wide as the longest of them."""
    width = 8 + max((round(len(label) * _GLYPH) for _, label in ticks), default=0)
    labels = Markup("").join(
        Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            width - 8, y + 3.5, text
        )
        for y, text in ticks
        if text
    )
    return Markup('<svg class="plot axis" width="{}" height="{}">{}</svg>').format(
        width, HEIGHT, labels
    )


def _grid(levels: Sequence[float]) -> Markup:
    return Markup("").join(
        Markup('<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>').format(y)
        for y in levels
    )


def _dates(days: Sequence[Day], today: date | None) -> Markup:
    """Write a date under every n-th day, at most five, counted back from the last."""
    last, every = len(days) - 1, max(1, -(-len(days) // 5))
    out = []
    for index in range(last, -1, -every):
        middle = (index + 0.5) * 100 / len(days)
        text = "today" if days[index].day == today else day(days[index].day)
        x, anchor = (100.0, "end") if index == last and last else (middle, "middle")
        out.append(
            Markup('<text x="{:.2f}%" y="{}" text-anchor="{}">{}</text>').format(
                x, HEIGHT - 5, anchor, text
            )
        )
    return Markup("").join(out)


def _chart(label: str, axis: Markup, drawing: Markup) -> Markup:
    return Markup(
        '<div class="chart" role="img" aria-label="{}">{}'
        '<svg class="plot" height="{}">{}</svg></div>'
    ).format(label, axis, HEIGHT, drawing)


def _span(days: Sequence[Day]) -> str:
    first, last = days[0].day, days[-1].day
    if first == last:
        return f"{day(first)} {first.year}"
    start = day(first) if first.year == last.year else f"{day(first)} {first.year}"
    return f"{start} to {day(last)} {last.year}"


def chart_volume(days: Sequence[Day], currency: str, today: date | None = None) -> Markup:
    """Draw the volume of each day (oldest first) as bars; today's is lighter."""
    if not days:
        return _chart("No days to show.", _axis(()), _grid([_BASE]))
    top = nice_top(max(item.volume for item in days))
    scale = (_BASE - _TOP) / top if top else 0.0
    quarters = range(5) if top else range(1)
    levels = [(_BASE - top * part / 4 * scale, top * part // 4, part) for part in quarters]
    axis = _axis([(y, "" if part % 2 else compact(value, currency)) for y, value, part in levels])
    step = 100 / len(days)
    width = min(step * 0.68, _WIDEST)
    bars = []
    for index, item in enumerate(days):
        height = max(item.volume, 0) * scale
        # A day with one small payment among large days still shows that it is not empty.
        height = max(height, 1.5) if item.volume > 0 else height
        tip = f"{day(item.day)}: {amount(item.volume, currency)}, {_payments(item.payments)}"
        bars.append(
            Markup(
                '<g><rect class="hit" x="{x:.2f}%" y="0" width="{step:.2f}%" height="{base}"/>'
                '<rect class="{cls}" x="{left:.2f}%" y="{y:.1f}" width="{width:.2f}%"'
                ' height="{height:.1f}" rx="2"/>'
                '<text class="tip" x="100%" y="9" text-anchor="end">{tip}</text></g>'
            ).format(
                x=index * step,
                step=step,
                base=_BASE,
                cls="bar today" if item.day == today else "bar",
                left=(index + 0.5) * step - width / 2,
                y=_BASE - height,
                width=width,
                height=height,
                tip=tip,
            )
        )
    total = amount(sum(item.volume for item in days), currency)
    label = f"Volume a day in {currency.upper()}, {_span(days)}. Total {total}."
    if top:
        best = max(days, key=lambda item: item.volume)
        label += f" Most on {day(best.day)}: {amount(best.volume, currency)}."
    drawing = _grid([y for y, _, _ in levels]) + Markup("").join(bars) + _dates(days, today)
    return _chart(label, axis, drawing)


def _payments(number: int) -> str:
    return f"{count(number)} payment" if number == 1 else f"{count(number)} payments"


def _rate_floor(rates: Sequence[float]) -> float:
    return next((floor for floor in _FLOORS if rates and min(rates) >= floor), 0.0)


def _runs(days: Sequence[Day]) -> list[list[int]]:
    """Return the stretches of days in which somebody tried to pay; between them is a gap."""
    runs: list[list[int]] = [[]]
    for index, item in enumerate(days):
        if item.rate is None:
            runs.append([])
        else:
            runs[-1].append(index)
    return [run for run in runs if run]


def chart_rate(
    days: Sequence[Day], today: date | None = None, notes: Mapping[date, str] | None = None
) -> Markup:
    """Draw the success rate of each day (oldest first) as a line; `notes` annotates days.

    A day on which nobody tried is a gap, never zero.
    """
    if not days:
        return _chart("No days to show.", _axis(()), _grid([_BASE]))
    rates = [item.rate for item in days if item.rate is not None]
    floor = _rate_floor(rates)
    quarters = [(floor + (1 - floor) * part / 4, part) for part in range(5)]

    def height(rate: float) -> float:
        return _BASE - (rate - floor) / (1 - floor) * (_BASE - _TOP)

    axis = _axis([(height(r), "" if part % 2 else f"{r * 100:.3g}%") for r, part in quarters])
    step = 100 / len(days)
    lines = []
    for run in _runs(days):
        points = [((i + 0.5) * step, height(days[i].rate or 0.0)) for i in run]
        path = " ".join(f"{x:.2f},{y:.1f}" for x, y in points)
        closed = f"{points[0][0]:.2f},{_BASE} {path} {points[-1][0]:.2f},{_BASE}"
        lines.append(
            Markup(
                '<polygon class="area" points="{}"/><polyline class="line-s" points="{}"/>'
            ).format(closed, path)
        )
    frame = Markup(
        '<svg x="0" y="0" width="100%" height="{0}" viewBox="0 0 100 {0}"'
        ' preserveAspectRatio="none">{1}</svg>'
    ).format(HEIGHT, Markup("").join(lines))
    alone = {run[0] for run in _runs(days) if len(run) == 1}
    noted = notes or {}
    marks = Markup("").join(
        _rate_mark(
            item,
            x=(index + 0.5) * step,
            step=step,
            y=None if item.rate is None else height(item.rate),
            # A line needs two points, so a day between two gaps is seen by its dot alone.
            shown=index in alone or item.day in noted or index == len(days) - 1,
            note=noted.get(item.day, ""),
        )
        for index, item in enumerate(days)
    )
    drawing = _grid([height(r) for r, _ in quarters]) + frame + marks + _dates(days, today)
    return _chart(_rate_label(days), axis, drawing)


def _rate_mark(
    item: Day, *, x: float, step: float, y: float | None, shown: bool, note: str
) -> Markup:
    """Draw what a day shows when pointed at, its dot, and the note a person would ask for."""
    if y is None or item.rate is None:
        tip, dot = f"{day(item.day)}: nobody tried", Markup("")
    else:
        tip = f"{day(item.day)}: {percent(item.rate)} of {count(item.tried)}"
        dot = Markup('<circle class="{}" cx="{:.2f}%" cy="{:.1f}" r="4"/>').format(
            "pt" if shown else "pt tip", x, y
        )
    before = x > 60  # Past the middle a note stands before its dot, or it would leave the chart.
    label = (
        Markup(
            '<g class="rest"><text class="note" x="{:.2f}%" y="{:.1f}" text-anchor="{}">{}</text>'
            "</g>"
        ).format(x + (-2 if before else 2), y + 4, "end" if before else "start", note)
        if note and y is not None
        else Markup("")
    )
    return Markup(
        '{label}<g><rect class="hit" x="{left:.2f}%" y="0" width="{step:.2f}%" height="{base}"/>'
        '<line class="guide" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top}" y2="{base}"/>{dot}'
        '<text class="tip" x="100%" y="9" text-anchor="end">{tip}</text></g>'
    ).format(label=label, left=x - step / 2, step=step, base=_BASE, x=x, top=_TOP, dot=dot, tip=tip)


def _rate_label(days: Sequence[Day]) -> str:
    tried = sum(item.tried for item in days)
    if not tried:
        return f"Success rate a day, {_span(days)}. Nobody tried to pay."
    overall = sum(item.succeeded for item in days) / tried
    worst = min((item for item in days if item.tried), key=lambda item: item.rate or 0.0)
    return (
        f"Success rate a day, {_span(days)}. Overall {percent(overall)} of {count(tried)}."
        f" Lowest on {day(worst.day)}: {percent(worst.rate)}."
    )


def spark(values: Sequence[float], label: str) -> Markup:
    """Draw a small line of the last values (oldest first); `label` says what they are."""
    most = max([*values, 0]) or 1
    last = max(len(values) - 1, 1)
    heights = [18 - max(value, 0) / most * 15 for value in values] or [18.0]
    pairs = list(enumerate(heights)) if len(heights) > 1 else [(0, heights[0]), (1, heights[0])]
    points = " ".join(f"{index * 100 / last:.1f},{y:.1f}" for index, y in pairs)
    return Markup(
        '<svg class="plot spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img"'
        ' aria-label="{}"><polyline class="line-s" points="{}"/></svg>'
    ).format(label, points)


def meter(parts: Sequence[tuple[float, str]], label: str, total: float | None = None) -> Markup:
    """Draw shares as one bar: pairs of a value and a tone, of `total` or of their sum.

    Values below zero count as nothing; the sum beside the bar tells the truth about them.
    """
    values = [(max(value, 0), tone) for value, tone in parts]
    whole = total or sum(value for value, _ in values)
    left, out = 0.0, []
    for value, tone in values:
        share = min(value / whole * 100, 100 - left) if whole else 0.0
        if share > 0:
            out.append(
                Markup('<rect class="fg tone-{}" x="{:.1f}%" width="{:.1f}%" height="6"/>').format(
                    tone, left, max(share - 0.6, 0.4)
                )
            )
        left += share
    return Markup(
        '<svg class="meter" role="img" aria-label="{}">'
        '<rect class="bg" width="100%" height="6"/>{}</svg>'
    ).format(label, Markup("").join(out))
