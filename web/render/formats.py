"""How money, times, durations and counts are written for people."""

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from functools import partial

from markupsafe import Markup

from app import money as amounts

MINUS = "\N{MINUS SIGN}"
NONE = Markup('<span class="visually-hidden">none</span>')

# The moment a page is rendered for. Filters run inside macros without context, so it travels here.
page_now: ContextVar[datetime | None] = ContextVar("page_now", default=None)

Moment = datetime | int


def figure(minor: int, currency: str, *, sign: bool = False) -> str:
    """Write minor units without the code: 1820455 eur is `18,204.55`; `sign` adds a plus."""
    plus = "+" if sign and minor > 0 else ""
    return plus + amounts.decimal(minor, currency.lower()).replace("-", MINUS)


def amount(minor: int | None, currency: str, *, sign: bool = False) -> str:
    """Write minor units as plain text, `128.40 EUR`; nothing for None."""
    if minor is None:
        return ""
    return f"{figure(minor, currency, sign=sign)} {currency.upper()}"


def money(minor: int | None, currency: str, cls: str = "", *, sign: bool = False) -> Markup:
    """Write minor units as markup that lines up on the decimal point; `sign` is for changes."""
    if minor is None:
        return NONE
    classes = " ".join(filter(None, ("money", cls, "plus" if sign and minor > 0 else "")))
    return Markup('<span class="{}" data-exp="{}"><span>{}</span> <abbr>{}</abbr></span>').format(
        classes,
        amounts.exponent(currency.lower()),
        figure(minor, currency, sign=sign),
        currency.upper(),
    )


def instant(value: Moment) -> datetime:
    """Return a time in UTC; an integer is microseconds since 1970. Raises ValueError if naive."""
    if isinstance(value, int):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be shown")
    return value.astimezone(UTC)


def day(value: date) -> str:
    """Write a day as `22 Nov`."""
    return f"{value.day} {value:%b}"


def _when(at: datetime) -> str:
    now = page_now.get()
    same_year = now is not None and instant(now).year == at.year
    return f"{day(at)}, {at:%H:%M}" if same_year else f"{day(at)} {at.year}, {at:%H:%M}"


def _moment(at: datetime) -> str:
    return f"{day(at)} {at.year}, {at:%H:%M:%S}"


def _moment_ms(at: datetime) -> str:
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}"


def _date(at: datetime) -> str:
    return f"{day(at)} {at.year}"


def _ago(at: datetime) -> str:
    now = page_now.get()
    distance = (instant(now) - at).total_seconds() if now is not None else None
    if distance is None or abs(distance) >= 3600:
        return _when(at)
    if 0 <= distance < 1:
        return "now"
    return f"{duration(distance)} ago" if distance > 0 else f"in {duration(-distance)}"


def _time(write: Callable[[datetime], str], value: Moment | None, cls: str = "") -> Markup:
    """Wrap a written time in `<time>`, whose datetime attribute carries the whole value."""
    if value is None:
        return NONE
    at = instant(value)
    precise = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    attribute = Markup(' class="{}"').format(cls) if cls else ""
    return Markup('<time datetime="{}"{}>{}</time>').format(precise, attribute, write(at))


when = partial(_time, _when)  # Lists: `22 Nov, 14:31`, the year if it is not this one.
moment = partial(_time, _moment)  # Details: `22 Nov 2026, 14:31:02`.
moment_ms = partial(_time, _moment_ms)  # Timelines: `14:31:02.118`.
clock = partial(_time, _clock)  # `14:31:02`.
on_day = partial(_time, _date)  # `22 Nov 2026`.
ago = partial(
    _time, _ago
)  # `12 s ago`, `in 55 s`; past an hour like `when`. Refreshed places only.


def when_text(value: Moment) -> str:
    """Write a time of a list as plain text: `22 Nov, 14:31`."""
    return _when(instant(value))


def duration(value: timedelta | float | None) -> str:
    """Write a length in seconds (or a timedelta): `812 ms`, `4 min 27 s`, `1 d 2 h`."""
    if value is None:
        return NONE
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    seconds = max(seconds, 0.0)
    if seconds < 1:
        # 999.6 ms rounds up to the next unit rather than to "1000 ms".
        milliseconds = round(seconds * 1000)
        return "1 s" if milliseconds == 1000 else f"{milliseconds} ms"
    whole = int(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for index, (name, size) in enumerate(units):
        if whole < size:
            continue
        count_, rest = divmod(whole, size)
        if index == len(units) - 1:
            return f"{count_} {name}"
        next_name, next_size = units[index + 1]
        smaller = rest // next_size
        return f"{count_} {name} {smaller} {next_name}" if smaller else f"{count_} {name}"
    return "0 ms"


def currency_name(currency: str) -> str:
    """Write a currency in words: `US dollar`."""
    from babel.numbers import get_currency_name

    name = get_currency_name(currency.upper(), count=1, locale="en_GB")
    return name[:1].upper() + name[1:]


def count(value: int | None) -> str:
    """Write a whole number with thousands: `48,217`."""
    return NONE if value is None else f"{value:,}".replace("-", MINUS)


def percent(ratio: float | None) -> str:
    """Write a ratio (0.968) with one decimal: `96.8%`."""
    return NONE if ratio is None else f"{ratio * 100:.1f}%".replace("-", MINUS)
