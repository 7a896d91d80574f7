"""Standard Webhooks 1.0: secrets and signatures, so that shops can verify with any library."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret(random_bytes: bytes) -> str:
    """Write random bytes (24 to 64 of them) as an endpoint's secret."""
    return PREFIX + base64.b64encode(random_bytes).decode()


def headers(
    secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Return the three headers of a message, with one signature for each secret.

    `timestamp` in seconds since 1970. Raises ValueError for a malformed secret.
    """
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_sign(key, message_id, timestamp, body) for key in secrets),
    }


def _sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    if not secret.startswith(PREFIX):
        raise ValueError("an endpoint's secret starts with whsec_")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("an endpoint's secret is base64") from None
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
