"""Amounts as the provider counts them: exponents, the fee, and the text on the page."""

from web.sandbox_psp.errors import ApiError

_ZERO = set("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
_THREE = set("bhd jod kwd omr tnd".split())
# These have no minor unit, yet the provider wants them written with two zeros.
_WHOLE_ONLY = {"isk", "ugx"}
_TWO = set(
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad "
    "cdf chf cny cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl "
    "htg huf idr ils inr isk jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop "
    "mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar "
    "sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah ugx usd uyu uzs wst "
    "xcd yer zar zmw".split()
)
_SYMBOLS = {"eur": "€", "usd": "$", "gbp": "£", "jpy": "¥", "inr": "₹", "krw": "₩"}
_FEE_BASIS_POINTS = 150
_FEE_FIXED = 25


def exponent(currency: str) -> int:
    """Return how many decimals the provider's minor unit stands for."""
    if currency in _ZERO:
        return 0
    return 3 if currency in _THREE else 2


def check(amount: int, currency: str, *, minimum: int, param: str = "amount") -> None:
    """Raise ApiError 400 unless the provider takes this amount in this currency."""
    if currency not in _TWO and currency not in _ZERO and currency not in _THREE:
        raise ApiError(400, f"Invalid currency: {currency[:12]}.", param="currency")
    if amount < minimum:
        raise ApiError(
            400, f"Amount must be at least {minimum}.", code="amount_too_small", param=param
        )
    step = 10 if currency in _THREE else 100 if currency in _WHOLE_ONLY else 1
    if amount % step:
        raise ApiError(400, f"Amounts in {currency} must be multiples of {step}.", param=param)


def fee(amount: int, currency: str) -> int:
    """Return the fee in minor units: 1.5 % rounded half up and 25, never more than the amount.

    The fixed part is 25 hundredths; three decimals make it 250. A currency without decimals pays
    25 whole units, which is about as much money for those that exist.
    """
    fixed = _FEE_FIXED * 10 if exponent(currency) == 3 else _FEE_FIXED
    return min(amount, (amount * _FEE_BASIS_POINTS + 5000) // 10000 + fixed)


def show(amount: int, currency: str) -> str:
    """Return an amount as the payment page writes it, for example €1,284.00."""
    places = exponent(currency)
    whole, rest = divmod(abs(amount), 10**places)
    number = f"{whole:,}" + (f".{rest:0{places}}" if places else "")
    sign = "-" if amount < 0 else ""
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{number}" if symbol else f"{sign}{number} {currency.upper()}"
