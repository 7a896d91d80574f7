"""Types of fields in requests, each with the bounds that the spec shows and the reader holds."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from app.ids import LENGTH
from app.money import CURRENCIES, MAX_AMOUNT

# Python's `$` also matches before a last newline; the spec shows patterns without this guard.
END = r"$(?!\n)"
_ID_CHARS = f"[0-9a-hjkmnp-tv-z]{{{LENGTH}}}"


def id_pattern(prefix: str) -> str:
    """Return the pattern of an id with this prefix."""
    return f"^{prefix}_{_ID_CHARS}{END}"


_NO_NUL = rf"^[^\x00]*{END}"
_CODES = "|".join(sorted(CURRENCIES) + [code.upper() for code in sorted(CURRENCIES)])
_URL = rf"^https?://[A-Za-z0-9][A-Za-z0-9.-]{{0,252}}(:[0-9]{{1,5}})?([/?][!-~]*)?{END}"

Amount = Annotated[
    int,
    Meta(ge=1, le=MAX_AMOUNT, description="An integer in the currency's minor unit."),
]
AmountBound = Annotated[int, Meta(ge=0, le=MAX_AMOUNT, description="Minor units.")]
Currency = Annotated[
    str,
    Meta(
        pattern=f"^({_CODES}){END}",
        description="An ISO 4217 code, in lower or upper case; answered in lower case.",
    ),
]
Url = Annotated[
    str,
    Meta(
        pattern=_URL,
        max_length=2000,
        description="An https:// address (http:// only for this machine's own, in test mode).",
    ),
]
Email = Annotated[
    str,
    Meta(
        pattern=rf"^[^@\s\x00]+@[^@\s\x00]+{END}", max_length=254, description="An e-mail address."
    ),
]
Country = Annotated[
    str,
    Meta(
        pattern=f"^[A-Z]{{2}}{END}",
        description="Two capital letters (ISO 3166-1), for the risk check.",
    ),
]
Name = Annotated[str, Meta(pattern=_NO_NUL, min_length=1, max_length=200)]
Reference = Annotated[
    str, Meta(pattern=_NO_NUL, min_length=1, max_length=200, description="Your order's id.")
]
Description = Annotated[str, Meta(pattern=_NO_NUL, max_length=500)]
ShortText = Annotated[str, Meta(pattern=_NO_NUL, max_length=200)]
Token = Annotated[
    str,
    Meta(
        pattern=f"^[A-Za-z0-9_-]{{1,120}}{END}",
        description="A payment method's token from the PSP, never a card number.",
    ),
]
PspName = Annotated[str, Meta(pattern=f"^[a-z]{{1,20}}{END}", description="A PSP's short name.")]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(pattern=_NO_NUL, min_length=1, max_length=40)],
        Annotated[str, Meta(pattern=_NO_NUL, max_length=500)],
    ],
    Meta(max_length=50, description="Up to 50 texts of your own."),
]
Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a time zone.")]
Limit = Annotated[int, Meta(ge=1, le=100, description="How many at most.")]
PaymentId = Annotated[str, Meta(pattern=id_pattern("pay"), description="A payment's id.")]
RefundId = Annotated[str, Meta(pattern=id_pattern("re"), description="A refund's id.")]
EventId = Annotated[str, Meta(pattern=id_pattern("evt"), description="An event's id.")]
EndpointId = Annotated[str, Meta(pattern=id_pattern("we"), description="An endpoint's id.")]
DeliveryId = Annotated[str, Meta(pattern=id_pattern("whd"), description="A delivery's id.")]
EntryId = Annotated[
    str, Meta(pattern=rf"^le_(test|live)0_[0-9]{{1,18}}{END}", description="An entry's id.")
]
