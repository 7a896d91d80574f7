"""Money in integer minor units of ISO 4217 currencies; no float, no Decimal."""

import msgspec

MAX_AMOUNT = 10**12 - 1

# Exponents that are not 2 (ISO 4217, list one). A PSP's own exponents are its adapter's business.
_EXPONENTS = dict.fromkeys(
    "bif clp djf gnf isk jpy kmf krw pyg rwf ugx uyi vnd vuv xaf xof xpf".split(), 0
) | dict.fromkeys("bhd iqd jod kwd lyd omr tnd".split(), 3)

CURRENCIES = frozenset(
    (
        "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd btn "
        "bwp byn bzd cad cdf chf clp cny cop crc cup cve czk djf dkk dop dzd egp ern etb eur fjd "
        "fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr iqd irr isk jmd jod jpy "
        "kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd lsl lyd mad mdl mga mkd mmk mnt mop "
        "mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar "
        "ron rsd rub rwf sar sbd scr sdg sek sgd shp sle sos srd ssp stn svc syp szl thb tjs tmt "
        "tnd top try ttd twd tzs uah ugx usd uyu uzs ves vnd vuv wst xaf xcd xof xpf yer zar zmw"
    ).split()
)


class Money(msgspec.Struct, frozen=True, order=False):
    """An amount in minor units (12840 is 128.40 EUR) of a lower-case currency code."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int:
            raise TypeError("an amount is an integer in minor units")
        if self.currency not in CURRENCIES:
            raise ValueError(f"unknown currency {self.currency!r}")


def exponent(currency: str) -> int:
    """Return how many decimals the currency has (2 for eur, 0 for jpy, 3 for bhd)."""
    return _EXPONENTS.get(currency, 2)


def decimal(minor: int, currency: str, *, grouping: bool = True) -> str:
    """Write minor units as a decimal number: 1820455 eur is `18,204.55`, 12480 jpy `12,480`."""
    digits = exponent(currency)
    sign = "-" if minor < 0 else ""
    whole, rest = divmod(abs(minor), 10**digits)
    text = f"{whole:,}" if grouping else str(whole)
    return f"{sign}{text}.{rest:0{digits}d}" if digits else f"{sign}{text}"


def text(minor: int, currency: str) -> str:
    """Write an amount with its code after the sum: `128.40 EUR`."""
    return f"{decimal(minor, currency)} {currency.upper()}"


def parse_decimal(value: str, currency: str) -> int:
    """Read `128.40` (or `128`, `128,40`) as minor units.

    Raises ValueError when it is no number or has more decimals than the currency.
    """
    cleaned = value.strip().replace(",", ".")
    whole, dot, rest = cleaned.partition(".")
    digits = exponent(currency)
    if not (whole.isascii() and whole.isdigit()) or len(whole) > 12:
        raise ValueError("not an amount")
    if dot and not (rest.isascii() and rest.isdigit() and len(rest) <= digits):
        raise ValueError("too many decimals" if rest.isdigit() else "not an amount")
    scaled: int = 10**digits
    return int(whole) * scaled + (int((rest or "0").ljust(digits, "0")) if digits else 0)
