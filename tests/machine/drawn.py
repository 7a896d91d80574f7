"""Histories drawn from a seed, as plain lists, so that two worlds can play the same one."""

import hashlib
from collections import Counter
from collections.abc import Callable
from random import Random

from app.psp.port import Request
from tests.machine.player import STEPS

Drawn = list[tuple[str, dict[str, int]]]

AMOUNTS = (1, 3, 99, 1_000, 4_567, 10_000, 123_456, 999_999_999)
_LIMITS = {"which": (0, 63), "flag": (0, 1), "kind": (0, 11), "n": (1, 4)}
# What depends on which of two requests is faster, or on which call comes first.
_IN_ANY_ORDER = {"capture_against_cancel", "psp_answers_badly_once"}
_OFTEN = {"workers_run": 5, "create_off_session": 3, "refund": 3, "capture": 2, "cancel": 2}
_FAULTS = ("ok", "ok", "ok", "declined", "rejected", "pending", "lost", "never", "not_sent", "busy")


def draw(seed: int, length: int, *, comparable: bool = True) -> Drawn:
    """Draw a history; a comparable one does not depend on which of two at once is faster."""
    random = Random(seed)
    names = [name for name in STEPS if not (comparable and name in _IN_ANY_ORDER)]
    weights = [_OFTEN.get(name, 1) for name in names]
    return [(name, _numbers(random, name)) for name in random.choices(names, weights, k=length)]


def _numbers(random: Random, name: str) -> dict[str, int]:
    return {
        number: random.choice(AMOUNTS) if number == "amount" else random.randint(*_LIMITS[number])
        for number in STEPS[name]
    }


def plan(seed: int) -> Callable[[str, Request], str]:
    """Return a PSP's mood: what becomes of a call is told by its amount, and only the first time.

    So it does not matter which of the calls that are due comes first.
    """
    calls: Counter[tuple[str, str]] = Counter()

    def fault(step: str, request: Request) -> str:
        calls[request.attempt_id, step] += 1
        if calls[request.attempt_id, step] > 1:
            return "ok"
        words = f"{seed} {request.kind} {step} {request.amount}".encode()
        return _FAULTS[hashlib.sha256(words).digest()[0] % len(_FAULTS)]

    return fault
