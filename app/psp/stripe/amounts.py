"""Amounts as Stripe counts them: where its minor units and limits differ from ISO 4217's."""

from app.psp.port import Limits

# Stripe keeps two decimals for these although ISO has none: 5 ISK are written 500.
_TWO_DECIMALS_MORE = {"isk", "ugx"}
# ISO has two decimals here, Stripe none: 500 of our minor units are 5 of its own.
_TWO_DECIMALS_FEWER = {"mga"}
# The last of three decimals must be 0.
_TENS = {"bhd", "jod", "kwd", "omr", "tnd"}

_MAXIMUM = 99_999_999
# In Stripe's minor units. Other currencies have the settlement currency's minimum, converted: it
# cannot be known here, so Stripe decides.
_MINIMUM = {
    "aed": 200,
    "aud": 50,
    "brl": 50,
    "cad": 50,
    "chf": 50,
    "czk": 1500,
    "dkk": 250,
    "eur": 50,
    "gbp": 30,
    "hkd": 400,
    "huf": 17500,
    "inr": 50,
    "jpy": 50,
    "mxn": 1000,
    "myr": 200,
    "nok": 300,
    "nzd": 50,
    "pln": 200,
    "ron": 200,
    "sek": 300,
    "sgd": 50,
    "thb": 1000,
    "usd": 50,
}
_SUPPORTED = frozenset(
    (
        "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp "
        "byn bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel "
        "gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd "
        "kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn "
        "nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd "
        "shp sos srd szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd "
        "xof xpf yer zar zmw"
    ).split()
)


class NotRepresentableError(ValueError):
    """The amount has no exact counterpart on the other side."""


def limits(currency: str) -> Limits | None:
    """Return what Stripe accepts, in our minor units; None when it does not take the currency."""
    if currency not in _SUPPORTED:
        return None
    step = 100 if currency in _TWO_DECIMALS_FEWER else 10 if currency in _TENS else 1
    smallest = _MINIMUM.get(currency)
    minimum = step if smallest is None else to_ours(smallest, currency)
    most = _MAXIMUM
    if currency in _TWO_DECIMALS_MORE:
        most = _MAXIMUM // 100
    elif currency in _TWO_DECIMALS_FEWER:
        most = _MAXIMUM * 100
    return Limits(minimum=minimum, maximum=most - most % step, step=step)


def to_stripe(amount: int, currency: str) -> int:
    """Convert our minor units to Stripe's. Raises NotRepresentableError when a part is lost."""
    if currency in _TENS and amount % 10:
        raise NotRepresentableError(f"{amount} {currency} is no multiple of 10")
    if currency in _TWO_DECIMALS_MORE:
        return amount * 100
    if currency in _TWO_DECIMALS_FEWER:
        if amount % 100:
            raise NotRepresentableError(f"{amount} {currency} is no multiple of 100")
        return amount // 100
    return amount


def to_ours(amount: int, currency: str) -> int:
    """Convert Stripe's minor units to ours. Raises NotRepresentableError when a part is lost."""
    if currency in _TWO_DECIMALS_MORE:
        if amount % 100:
            raise NotRepresentableError(f"{amount} {currency} at Stripe is no multiple of 100")
        return amount // 100
    return amount * 100 if currency in _TWO_DECIMALS_FEWER else amount


def fee_to_ours(fee: int, currency: str) -> int:
    """Convert a fee to our minor units; a broken one is rounded up, so costs are never hidden."""
    if currency in _TWO_DECIMALS_MORE:
        return -(-fee // 100)
    return fee * 100 if currency in _TWO_DECIMALS_FEWER else fee
