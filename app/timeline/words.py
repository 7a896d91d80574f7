"""Plain words for lengths of time and declines; pure."""

from datetime import datetime, timedelta

_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth")
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def took(milliseconds: float) -> str:
    """Write how long something took: `84 ms`, `1.2 s`, `20 s`."""
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def length(value: timedelta) -> str:
    """Write a length of time in its largest unit: `5 seconds`, `1 hour`, `2 days`."""
    seconds = max(value.total_seconds(), 0.0)
    for size, name in _UNITS:
        if seconds >= size * 0.95:
            number = max(round(seconds / size), 1)
            return f"{number} {name}" if number == 1 else f"{number} {name}s"
    return "a moment"


def nth(number: int) -> str:
    """Write which try it was: `First`, `Second`, … `10th`."""
    return _ORDINALS[number - 1] if 0 < number <= len(_ORDINALS) else f"{number}th"


def clock(at: datetime) -> str:
    """Write a time of day in UTC: `14:41:02`."""
    return f"{at:%H:%M:%S}"


def sentence(text: str | None) -> str:
    """Return text that another system wrote as a sentence of its own; empty for none."""
    cleaned = " ".join((text or "").split())
    if not cleaned:
        return ""
    cleaned = cleaned[0].upper() + cleaned[1:]
    return cleaned if cleaned[-1] in ".!?…" else f"{cleaned}."
