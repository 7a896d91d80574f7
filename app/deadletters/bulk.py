"""What a decision about letters comes to, and when one person is not enough; pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from app.deadletters.verdict import Letter, Verdict, weigh
from app.settings import Settings

Action = Literal["retry", "discard"]
_MOVES_MONEY = frozenset({"charge", "capture", "refund"})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to the chosen letters: those that run, and those left out with why.

    `sums` are minor units a currency that the letters that run are about.
    """

    runs: tuple[tuple[Letter, Verdict], ...]
    left: tuple[tuple[Letter, str], ...]
    sums: tuple[tuple[int, str], ...]
    counts: dict[str, int]


def plan(letters: Sequence[Letter], action: Action, *, now: datetime) -> Plan:
    """Sort letters into what an action does to them and what it leaves."""
    runs, left = [], []
    sums: dict[str, int] = {}
    counts: dict[str, int] = {}
    for letter in letters:
        verdict = weigh(letter, now=now)
        counts[verdict.says] = counts.get(verdict.says, 0) + 1
        if why := verdict.no_retry if action == "retry" else verdict.no_discard:
            left.append((letter, why))
            continue
        runs.append((letter, verdict))
        if money := in_question(letter, verdict):
            sums[money[1]] = sums.get(money[1], 0) + money[0]
    return Plan(
        runs=tuple(runs),
        left=tuple(left),
        sums=tuple((minor, currency) for currency, minor in sorted(sums.items())),
        counts=counts,
    )


def in_question(letter: Letter, verdict: Verdict) -> tuple[int, str] | None:
    """Return the minor units and currency that a decision moves or gives up; None for no money."""
    if verdict.says == "paid" or letter.effect not in _MOVES_MONEY:
        return None
    if letter.payment is None or letter.amount is None:
        return None
    return letter.amount, letter.payment.currency


def needs_second(sums: Sequence[tuple[int, str]], count: int, settings: Settings) -> bool:
    """Tell whether a second admin must agree."""
    above = any(minor > settings.second_person_above for minor, _ in sums)
    return above or count > settings.second_person_count
