"""Passwords: how they are hashed, and which new ones are good enough (S01, S02)."""

import re
import unicodedata
from collections.abc import Iterable

from app.errors import FieldError, Refused
from app.secrets import Sealer

MIN_CHARS, MAX_CHARS = 15, 128
MIN_SCORE = 3  # Of zxcvbn's 0 to 4: "safely unguessable".
FLOOR_MEMORY_KIB = 19 * 1024
_PASSES, _LANES, _HASH_BYTES, _SALT_BYTES = 2, 1, 32, 16
_PRODUCT_WORDS = ("counterfoil", "merchant", "dashboard", "payments")
_SHORTEST_WORD = 4
_PIECE = 40
_OWN_CHARS = 8  # What must be left once the words that anybody could guess are taken out.


class PasswordRefused(Refused):
    """The new password is too short, too long, too common or too easy to guess."""

    code = "password_refused"


class Hasher:
    """Argon2id over the keyed hash of the NFC form, so that a stolen table alone is of no use.

    `memory_kib` is below the floor in tests alone; the environment cannot set it.
    """

    def __init__(self, sealer: Sealer, memory_kib: int = FLOOR_MEMORY_KIB) -> None:
        self._sealer = sealer
        self._memory_kib = memory_kib

    def hash(self, password: str, salt: bytes) -> str:
        """Return the hash to store. `salt` is 16 random bytes. Takes some 30 ms of a core."""
        from argon2 import low_level

        return low_level.hash_secret(
            self._keyed(password),
            salt,
            time_cost=_PASSES,
            memory_cost=self._memory_kib,
            parallelism=_LANES,
            hash_len=_HASH_BYTES,
            type=low_level.Type.ID,
        ).decode()

    def verify(self, stored: str | None, password: str) -> bool:
        """Tell whether `password` is the one of `stored`; the same work when there is none."""
        from argon2 import exceptions, low_level

        if stored is None:
            self.hash(password, bytes(_SALT_BYTES))
            return False
        try:
            return low_level.verify_secret(
                stored.encode(), self._keyed(password), low_level.Type.ID
            )
        except (exceptions.VerificationError, exceptions.InvalidHashError):
            return False

    def is_outdated(self, stored: str) -> bool:
        """Tell whether `stored` was made with weaker parameters than those of today."""
        import argon2

        found = argon2.extract_parameters(stored)
        today = (self._memory_kib, _PASSES)
        return found.type is not argon2.Type.ID or (found.memory_cost, found.time_cost) < today

    def _keyed(self, password: str) -> bytes:
        return self._sealer.peppered(normal(password).encode("utf-8", "surrogatepass"))


def normal(password: str) -> str:
    """Return the form that counts: the same letters typed on two systems are one password."""
    return unicodedata.normalize("NFC", password)


def _context_words(context: Iterable[str]) -> list[str]:
    words = {word for text in context for word in re.split(r"\W+|_", text.lower())}
    whole = {text.lower() for text in context}
    known = words | whole | set(_PRODUCT_WORDS)
    return sorted((word for word in known if len(word) >= _SHORTEST_WORD), key=len, reverse=True)


def check_new(password: str, *, context: Iterable[str]) -> None:
    """Check a password that somebody wants to have. Raises PasswordRefused, all faults named.

    `context` holds what an attacker would try first: the e-mail address, names of shops.
    Takes tens of milliseconds; no rule on kinds of characters, on purpose.
    """
    text = normal(password)
    faults: list[str] = []
    if len(text) < MIN_CHARS:
        faults.append(f"Use at least {MIN_CHARS} characters; four or five random words do well.")
    if len(text) > MAX_CHARS:
        raise _refused([f"Use at most {MAX_CHARS} characters."])
    words = _context_words(list(context))
    rest = text.lower()
    for word in words:
        rest = rest.replace(word, "")
    if len(rest) < len(text) and len(rest) < _OWN_CHARS:
        faults.append("Leave out your name, your shop and this product; others try them first.")
    if _is_common(text):
        faults.append("This password is on lists of stolen passwords.")
    if not faults and _score(text, words) < MIN_SCORE:
        faults.append("This is easy to guess. Add another word that nobody would expect.")
    if faults:
        raise _refused(faults)


def _refused(faults: list[str]) -> PasswordRefused:
    errors = [FieldError("password", "password_refused", fault) for fault in faults]
    return PasswordRefused(" ".join(faults), param="password", errors=errors)


def _is_common(text: str) -> bool:
    from zxcvbn import frequency_lists

    common = frequency_lists.FREQUENCY_LISTS["passwords"]
    folded = text.lower()
    # A common one written twice, or with digits behind it, is as common.
    shorter = folded.rstrip("0123456789!?.")
    half = folded[: len(folded) // 2]
    return folded in common or shorter in common or (half + half == folded and half in common)


def _score(text: str, words: list[str]) -> int:
    from zxcvbn import zxcvbn

    # Its time grows with more than the square of the length: 128 chosen characters take half a
    # minute. One strong piece is enough, since the rest only makes it harder.
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return max(int(zxcvbn(piece, user_inputs=words)["score"]) for piece in pieces)
