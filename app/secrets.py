"""Secrets at rest: sealing with AES-256-GCM, keyed hashes, constant-time comparison."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = "v1"


class SealBroken(Exception):
    """A sealed value cannot be opened: other key, other place, or altered."""


class Sealer:
    """Seals values under a named key; the place (`table:row:column`) is authenticated with them.

    Format: `v1.<key id>.<base64url of nonce and ciphertext>`. A value moved to another row does
    not open. Old keys stay readable until every row is sealed anew.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        current: str,
        pepper: bytes,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._current = current
        self._pepper = pepper
        self._random = random_bytes

    def seal(self, value: bytes, place: str) -> str:
        """Seal `value` for `place`."""
        nonce = self._random(12)
        sealed = nonce + self._ciphers[self._current].encrypt(nonce, value, place.encode())
        return f"{_VERSION}.{self._current}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, sealed: str, place: str) -> bytes:
        """Open what was sealed for `place`. Raises SealBroken."""
        try:
            version, key_id, body = sealed.split(".")
            raw = base64.urlsafe_b64decode(body)
            if version != _VERSION:
                raise SealBroken(f"unknown format {version!r}")
            return self._ciphers[key_id].decrypt(raw[:12], raw[12:], place.encode())
        except (ValueError, KeyError, InvalidTag) as error:
            raise SealBroken(f"the value sealed for {place} does not open") from error

    def seal_text(self, value: str, place: str) -> str:
        """Seal text for `place`."""
        return self.seal(value.encode(), place)

    def open_text(self, sealed: str, place: str) -> str:
        """Open text that was sealed for `place`. Raises SealBroken."""
        return self.open(sealed, place).decode()

    def new_data_key(self, place: str) -> tuple["Sealer", str]:
        """Make a data key (for one payment's personal data); return its sealer and sealed form."""
        key = self._random(32)
        return Sealer({"d": key}, "d", self._pepper, self._random), self.seal(key, place)

    def data_key(self, sealed_key: str, place: str) -> "Sealer":
        """Open a data key sealed for `place`. Raises SealBroken."""
        key = self.open(sealed_key, place)
        return Sealer({"d": key}, "d", self._pepper, self._random)

    def keyed_hash(self, purpose: str, value: str) -> str:
        """Return a keyed hash (HMAC-SHA-256, hex) that outsiders cannot compute from guesses."""
        return hmac.new(self._pepper, f"{purpose}\0{value}".encode(), hashlib.sha256).hexdigest()

    def peppered(self, value: bytes) -> bytes:
        """Return HMAC-SHA-256 of `value` under the pepper, as passwords are hashed from it."""
        return hmac.new(self._pepper, b"password\0" + value, hashlib.sha256).digest()


def sha256(value: str | bytes) -> str:
    """Return the SHA-256 of `value` in hex; for random tokens, which need no salt."""
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def same(left: str, right: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())
