"""The seeded policy: faults drawn from a seed, so that the same requests meet the same faults."""

import random
import re
from collections import Counter

import msgspec

from web.sandbox_psp.faults import ALL_FAULTS, Fault

# What `status` draws from. Only answers that a provider gives without knowing the outcome: a 400
# after the effect would be a lie, not a fault.
STATUSES_AFTER = (500, 502, 503, 504)
STATUSES_BEFORE = (*STATUSES_AFTER, 429)
_RETRY_AFTER = (None, None, "1", "0", "-5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT")
_ADVICE = (None, None, True, False)
_RESET_WITHIN = 1000
WEBHOOK_WORDS = {
    "lost": "never",
    "doubled": "twice",
    "late": "late",
    "reordered": "reordered",
    "first": "first",
}
_ID = re.compile(r"(?<=/)[a-z]{2,4}_[A-Za-z0-9_]+")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `POST /_sandbox/policy` takes.

    `rates` are shares from 0 to 1 of the requests, by `before:<kind>` or `after:<kind>`, one sum
    of at most 1. `webhooks` are shares of the events, by lost, doubled, late, reordered and
    first, again at most 1 together. Only requests with this method and a path that contains the
    text are meant; an empty text means all. `seconds` is the longest delay, silence or slow body;
    `most` ends the policy's faults after so many.
    """

    seed: int
    rates: dict[str, float] = {}
    webhooks: dict[str, float] = {}
    method: str = ""
    path: str = ""
    seconds: float = 1.0
    most: int | None = None

    def __post_init__(self) -> None:
        _check("rates", self.rates, ALL_FAULTS)
        _check("webhooks", self.webhooks, (*WEBHOOK_WORDS,))
        if not 0 <= self.seconds <= 600:
            raise ValueError("seconds must be from 0 to 600")


class Running:
    """A policy at work, with what it has done. It lives in memory and survives nothing.

    Each draw depends on the seed, the method, the path without ids, and how many such requests
    came before: nothing else, neither time nor what other routes do.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.struck: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()

    def fault(self, method: str, path: str) -> Fault | None:
        """Draw the fault of the next request with this method and path, or None."""
        policy = self.policy
        if policy.method not in {"", method} or policy.path not in path:
            return None
        draw = self._draw(f"{method} {_ID.sub('ID', path)}")
        name = _pick(policy.rates, draw.random())
        if name is None or not self._strikes(name):
            return None
        return _fault(name, draw, policy.seconds)

    def travel(self, event: str) -> str | None:
        """Draw how the next event of a type travels, or None when the policy leaves it alone."""
        name = _pick(self.policy.webhooks, self._draw(f"event {event}").random())
        if name is None or not self._strikes(name):
            return None
        return WEBHOOK_WORDS[name]

    def _draw(self, subject: str) -> random.Random:
        self._seen[subject] += 1
        return random.Random(f"{self.policy.seed}|{subject}|{self._seen[subject]}")

    def _strikes(self, name: str) -> bool:
        if self.policy.most is not None and self.struck.total() >= self.policy.most:
            return False
        self.struck[name] += 1
        return True


def _check(field: str, rates: dict[str, float], names: tuple[str, ...]) -> None:
    for name, rate in rates.items():
        if name not in names:
            raise ValueError(f"{field}: no {name!r}; there are {', '.join(names)}")
        if not 0 <= rate <= 1:
            raise ValueError(f"{field}: {name} must be from 0 to 1")
    if sum(rates.values()) > 1 + 1e-9:
        raise ValueError(f"{field}: they are more than 1 together")


def _pick(rates: dict[str, float], point: float) -> str | None:
    # Sorted: the order in which a client writes its rates must not change what they mean.
    for name, rate in sorted(rates.items()):
        if point < rate:
            return name
        point -= rate
    return None


def _fault(name: str, draw: random.Random, longest: float) -> Fault:
    when, kind = name.split(":")
    status = draw.choice(STATUSES_BEFORE if when == "before" else STATUSES_AFTER)
    fields: dict[str, object] = {"when": when, "kind": kind}
    fields["seconds"] = round(draw.uniform(0, longest), 3)
    if kind == "status":
        fields |= {
            "status": status,
            "retry_after": draw.choice(_RETRY_AFTER),
            "should_retry": draw.choice(_ADVICE),
        }
    if kind == "reset":
        fields["bytes"] = draw.randrange(_RESET_WITHIN)
    return msgspec.convert(fields, Fault)
