"""Second factors: time-based codes (RFC 6238) and recovery codes, as pure values (S03, S05)."""

import base64
import re
from datetime import datetime
from urllib.parse import quote

from app.ids import Ids
from app.secrets import sha256

STEP_SECONDS = 30
WINDOW = 1  # Steps before and after the present one.
CODE_DIGITS = 6
RECOVERY_CODES = 10
_SEED_BYTES = 20
_RECOVERY_BYTES = 15  # 120 bits: a plain hash is enough.
_CODE = re.compile(r"[0-9]{6}", re.ASCII)
_LOOK_ALIKES = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, " ": None})


def new_secret(ids: Ids) -> str:
    """Return a new 160-bit seed in base32, as authenticator apps take it."""
    return base64.b32encode(ids.random_bytes(_SEED_BYTES)).decode()


def address(secret: str, *, email: str, issuer: str = "Counterfoil") -> str:
    """Return the otpauth address that a QR code carries to an authenticator app."""
    label = quote(f"{issuer}:{email}", safe="")
    return f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer, safe='')}"


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is, at most one step away; None for a wrong code.

    Only ASCII digits count: other scripts' digits would pass a check that compares numbers and
    slip by one that remembers strings (trap 0.12). The caller takes each step once.
    """
    import pyotp

    if not _CODE.fullmatch(code):
        return None
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(
            code, for_time=int(now.timestamp()), valid_window=WINDOW
        )
    except pyotp.OTPVerificationError:
        return None


def code_at(secret: str, moment: datetime) -> str:
    """Return the code that an authenticator app shows at `moment`."""
    import pyotp

    return pyotp.TOTP(secret).at(int(moment.timestamp()))


def new_recovery_codes(ids: Ids) -> list[str]:
    """Return a set of recovery codes in groups of four characters, for people to keep."""
    return ["-".join(re.findall(".{4}", ids.token(_RECOVERY_BYTES))) for _ in range(RECOVERY_CODES)]


def recovery_hash(code: str) -> str:
    """Return what is stored of a recovery code; dashes, spaces, case and look-alikes are equal."""
    return sha256("recovery\0" + code.strip().lower().translate(_LOOK_ALIKES))
