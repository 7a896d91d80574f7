"""What may go wrong, how often, and the dice that decide: a swarm, so that seeds differ in kind."""

import random
from collections import Counter
from collections.abc import Callable

# Each kind with its usual chance at each place where it can happen.
KINDS: dict[str, float] = {
    # Our database and processes, at every statement.
    "db.locked": 0.004,
    "db.error": 0.002,
    "db.answer_lost": 0.002,
    "db.slow": 0.02,
    "db.cut_but_done": 0.5,  # Of the statements whose caller was cut off.
    "process.crash": 0.0006,
    "process.stop": 0.0004,
    "process.freeze": 0.0003,
    # The doorbell, at every ring.
    "bell.lost": 0.2,
    # Between shops and the API, at every request.
    "api.request_lost": 0.04,
    "api.answer_lost": 0.06,
    "api.client_gone": 0.04,
    # The PSP, at every request that changes something. Look-ups meet the first three of these, and
    # `error_before` and `hidden`.
    "psp.refused_connection": 0.06,
    "psp.busy": 0.06,
    "psp.slow": 0.08,
    "psp.lost_before": 0.04,
    "psp.lost_after": 0.08,
    "psp.late_effect": 0.03,
    "psp.error_before": 0.04,
    "psp.error_after": 0.04,
    "psp.error_kept": 0.02,
    "psp.unauthorized": 0.02,
    "psp.rejected": 0.02,
    "psp.wrong_amount": 0.02,
    "psp.other_capture": 0.1,
    "psp.other_refund": 0.08,
    "psp.later": 0.05,
    "psp.fee_later": 0.3,
    "psp.our_bug": 0.01,
    "psp.caller_dies": 0.03,
    "psp.caller_stops": 0.03,
    "psp.hidden": 0.5,  # Of new objects: lists do not show them for a while.
    # Events from the PSP, each.
    "event.lost": 0.2,
    "event.doubled": 0.2,
    "event.late": 0.15,
    "event.first": 0.2,
    "event.forged": 0.1,
    # Messages to shops, each try.
    "shop.error": 0.1,
    "shop.silent": 0.04,
    "shop.answer_lost": 0.08,
    # What people do at the PSP by hand.
    "hand.refund": 0.1,
    "hand.take_back": 0.15,
    # In whole stretches.
    "stretch.psp_away": 0.6,
    "stretch.shop_away": 0.6,
    "stretch.clock_jump": 0.5,
    "stretch.crashes": 0.9,
    "stretch.stops": 0.7,
    "stretch.freezes": 0.6,
    "clock.skew": 0.5,
    # Of holds at the PSP: somebody takes them there, or lets go of them.
    "hand.capture": 0.1,
    "hand.cancel": 0.05,
    # Of refunds that people at the desk make: the bank takes them back.
    "desk.take_back": 0.5,
    # The risk provider, at every question.
    "risk.down": 0.1,
    "risk.slow": 0.05,
    "risk.garbage": 0.05,
}


class Faults:
    """The dice of one history."""

    def __init__(self, seed: object, note: Callable[[str, str], None]) -> None:
        self.random = random.Random(f"{seed}:faults")
        self._note = note
        self.active = False
        self.counts: Counter[str] = Counter()
        chances = random.Random(f"{seed}:swarm")
        # Some seeds have few kinds of faults, some have all.
        share = chances.choice((0.2, 0.5, 0.5, 0.8))
        self.rates = {
            kind: min(0.9, usual * chances.choice((0.5, 1.0, 1.0, 2.5)))
            for kind, usual in KINDS.items()
            if chances.random() < share
        }

    def hit(self, kind: str, detail: str = "") -> bool:
        """Roll the dice for a kind of fault; True: it happens, here and now."""
        rate = self.rates.get(kind)
        if rate is None or not self.active or self.random.random() >= rate:
            return False
        self.happened(kind, detail)
        return True

    def happened(self, kind: str, detail: str = "") -> None:
        """Count a fault and tell it."""
        self.counts[kind] += 1
        self._note("fault", f"{kind} {detail}".strip())

    @property
    def total(self) -> int:
        """How many faults have happened (a slow statement is none by itself)."""
        return sum(n for kind, n in self.counts.items() if kind != "db.slow")
