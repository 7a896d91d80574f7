"""Ids that sort by time and cannot be guessed: prefix, 48-bit milliseconds, 120 random bits."""

import secrets
from collections.abc import Callable
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32, lower case.
_TIME_CHARS = 10
_RANDOM_CHARS = 24
LENGTH = _TIME_CHARS + _RANDOM_CHARS

RandomBytes = Callable[[int], bytes]


_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # By ten bits at once.


def _encode(value: int, chars: int) -> str:
    pairs = chars + 1 >> 1
    text = "".join([_PAIRS[value >> shift & 1023] for shift in range(10 * pairs - 10, -1, -10)])
    return text[-chars:]


class Ids:
    """Makes ids and tokens from a clock and a random source, both replaceable by a seed."""

    def __init__(
        self, clock: Callable[[], datetime], random_bytes: RandomBytes = secrets.token_bytes
    ) -> None:
        self._clock = clock
        self.random_bytes = random_bytes

    def __call__(self, prefix: str, *, after: str | None = None) -> str:
        """Return a new id such as `pay_01jd…` (prefix, underscore, 34 characters).

        It sorts behind the id `after`, which another host with a faster clock may have made.
        """
        millis = int(self._clock().timestamp() * 1000)
        if after is not None:
            millis = max(millis, _millis_of(after) + 1)
        random = int.from_bytes(self.random_bytes(15))
        return f"{prefix}_{_encode(millis, _TIME_CHARS)}{_encode(random, _RANDOM_CHARS)}"

    def token(self, size: int = 32) -> str:
        """Return a random token of `size` bytes in base32 without look-alikes."""
        return _encode(int.from_bytes(self.random_bytes(size)), -(-size * 8 // 5))

    def uniform(self, low: float, high: float) -> float:
        """Return a random number in [low, high), for jitter; not for secrets."""
        return low + (high - low) * int.from_bytes(self.random_bytes(7)) / (1 << 56)


def earliest(prefix: str, moment: datetime) -> str:
    """Return what no id of this prefix that was made at `moment` or later sorts before."""
    return f"{prefix}_{_encode(int(moment.timestamp() * 1000), _TIME_CHARS)}"


def _millis_of(made: str) -> int:
    millis = 0
    for char in made.partition("_")[2][:_TIME_CHARS]:
        millis = millis << 5 | _ALPHABET.index(char)
    return millis


def is_id(value: str, prefix: str) -> bool:
    """Tell whether `value` has the form of an id of this prefix (it may still not exist)."""
    head, _, tail = value.partition("_")
    return head == prefix and len(tail) == LENGTH and all(char in _ALPHABET for char in tail)
