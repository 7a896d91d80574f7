"""Test cards and tokens, and what each of them does."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a card is declined, as the API tells it."""

    code: str
    message: str
    decline_code: str | None = None


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A card or account: `effect` is ok, decline, challenge, later_ok or later_fail."""

    effect: str = "ok"
    refusal: Refusal | None = None
    brand: str = "visa"
    last4: str = "4242"
    refund: str = "ok"


_DECLINED = Refusal(
    code="card_declined", decline_code="generic_decline", message="Your card was declined."
)
_FUNDS = Refusal(
    code="card_declined",
    decline_code="insufficient_funds",
    message="Your card has insufficient funds.",
)
_PROCESSING = Refusal(
    code="processing_error",
    decline_code="processing_error",
    message="An error occurred while processing your card. Try again in a little bit.",
)
_REAL = Refusal(
    code="card_declined",
    decline_code="test_mode_live_card",
    message="Your card was declined. This is a sandbox: only test cards work here.",
)
AUTHENTICATION_REQUIRED = Refusal(
    code="authentication_required",
    decline_code="authentication_required",
    message="Your card was declined. This transaction requires authentication.",
)
AUTHENTICATION_FAILED = Refusal(
    code="payment_intent_authentication_failure",
    message="We could not confirm that it is you. Choose another card and try again.",
)

FAULT_TOKENS = (
    *("reply_lost", "not_charged_timeout", "500_then_ok", "500_charged", "503", "429"),
    *("key_in_use", "slow", "slow_body", "garbage", "html", "truncate", "reset", "wrong_amount"),
    *("webhook_first", "webhook_twice", "webhook_late", "webhook_never", "webhook_reordered"),
    "poison",
)

INSTRUMENTS: dict[str, Instrument] = {
    "pm_card_visa": Instrument(),
    "pm_card_mastercard": Instrument(brand="mastercard", last4="4444"),
    "pm_card_chargeDeclined": Instrument(effect="decline", refusal=_DECLINED, last4="0002"),
    "pm_card_insufficientFunds": Instrument(effect="decline", refusal=_FUNDS, last4="9995"),
    "pm_card_processingError": Instrument(effect="decline", refusal=_PROCESSING, last4="0119"),
    "pm_card_authenticationRequired": Instrument(effect="challenge", last4="3184"),
    "pm_card_refundFail": Instrument(last4="5126", refund="later_fail"),
    "pm_card_pendingRefund": Instrument(last4="7726", refund="later_ok"),
    "pm_usBankAccount_success": Instrument(effect="later_ok", last4="6789"),
    "pm_usBankAccount_insufficientFunds": Instrument(
        effect="later_fail", refusal=_FUNDS, last4="2227"
    ),
    "card_not_for_tests": Instrument(effect="decline", refusal=_REAL, last4="0000"),
    **{f"pm_fault_{name}": Instrument() for name in FAULT_TOKENS},
}

CARDS = {
    "4242424242424242": "pm_card_visa",
    "5555555555554444": "pm_card_mastercard",
    "4000000000000002": "pm_card_chargeDeclined",
    "4000000000009995": "pm_card_insufficientFunds",
    "4000002760003184": "pm_card_authenticationRequired",
    "4000000000000119": "pm_card_processingError",
    "4000000000005126": "pm_card_refundFail",
    "4000000000007726": "pm_card_pendingRefund",
}

SHOWN = (
    ("4242 4242 4242 4242", "Succeeds"),
    ("4000 0000 0000 0002", "Declined"),
    ("4000 0000 0000 9995", "Not enough money"),
    ("4000 0027 6000 3184", "Asks for a second step"),
    ("4000 0000 0000 0119", "Processing error"),
)


def token_of(number: str) -> str:
    """Return the token that behaves like a card number of digits only."""
    return CARDS.get(number, "card_not_for_tests")


def passes_luhn(number: str) -> bool:
    """Return whether the check digit of a card number of digits only is right."""
    total = 0
    for index, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if index % 2 else 1)
        total += value - 9 if value > 9 else value
    return 12 <= len(number) <= 19 and total % 10 == 0
