"""What a PSP can take, checked before anything is promised; pure."""

from app.errors import Refused
from app.psp.port import Limits


class CurrencyNotSupported(Refused):
    """The PSP does not take this currency."""

    code = "currency_not_supported"


class AmountBelowMinimum(Refused):
    """Less than the PSP takes in this currency."""

    code = "amount_below_minimum"


class AmountAboveMaximum(Refused):
    """More than the PSP takes in this currency."""

    code = "amount_above_maximum"


class AmountNotRepresentable(Refused):
    """The PSP cannot write this amount: it takes multiples of a larger unit in this currency."""

    code = "amount_not_representable"


def check_payment(limits: Limits | None, *, amount: int, currency: str) -> None:
    """Refuse what the PSP could never charge; `amount` in minor units.

    Raises CurrencyNotSupported, AmountBelowMinimum, AmountAboveMaximum, AmountNotRepresentable.
    """
    name = currency.upper()
    if limits is None:
        raise CurrencyNotSupported(f"The PSP does not take {name}.", param="currency")
    if amount < limits.minimum:
        raise AmountBelowMinimum(
            f"The PSP takes {limits.minimum} minor units of {name} or more.", param="amount"
        )
    if amount > limits.maximum:
        raise AmountAboveMaximum(
            f"The PSP takes {limits.maximum} minor units of {name} at most.", param="amount"
        )
    check_step(limits, amount=amount, currency=currency)


def check_step(limits: Limits | None, *, amount: int, currency: str) -> None:
    """Refuse a part that the PSP cannot write; `amount` in minor units.

    A currency that the PSP no longer takes is its own business. Raises AmountNotRepresentable.
    """
    if limits is not None and amount % limits.step:
        raise AmountNotRepresentable(
            f"The PSP takes multiples of {limits.step} minor units of {currency.upper()}.",
            param="amount",
        )
