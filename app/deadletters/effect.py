"""What a retry would do: calls, ledger lines and messages to the shop; pure."""

import msgspec

from app import money
from app.deadletters import work
from app.deadletters.verdict import Letter, Verdict
from app.ledger import postings


class EffectLine(msgspec.Struct, frozen=True):
    """A line that the ledger would record: what, from, to, minor units if known before."""

    words: str
    debit: str
    credit: str
    minor: int | None


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What follows if the PSP says yes. `events` are types of messages to the shop."""

    button: str
    sentence: str
    currency: str = ""
    lines: tuple[EffectLine, ...] = ()
    events: tuple[str, ...] = ()


def of_retry(letter: Letter, verdict: Verdict, *, psp: str) -> Effect:
    """Return what a retry would do; `psp` is the PSP's name."""
    effect, payment = letter.effect, letter.payment
    if verdict.says == "paid":
        return Effect(
            button="Close it, send nothing",
            sentence="Nothing is sent, and nothing is recorded a second time.",
        )
    if effect is None or payment is None or letter.amount is None:
        does = work.kind_of(letter.job.kind).does
        return Effect(button="Run it again", sentence=f"{does}. No PSP is asked to move money.")
    text = money.text(letter.amount, payment.currency)
    if effect == "refund":
        reserved = f"{_shop(letter)}, reserved"
        return Effect(
            button=f"Retry and refund {text}",
            sentence=f"The customer gets {text} back, at most once.",
            currency=payment.currency,
            lines=(EffectLine("Refund paid", reserved, f"{psp} owes us", letter.amount),),
            events=("refund.succeeded",),
        )
    if effect == "void":
        return Effect(
            button="Retry the cancel",
            sentence="The PSP is asked to end the payment. Nobody is charged by that.",
            events=("payment.canceled",),
        )
    if effect == "checkout":
        # A payment that has waited for its page from the start is not moved by it.
        moved = payment.status == "processing" and payment.status_reason != "canceling"
        return Effect(
            button="Retry the checkout page",
            sentence=f"The PSP makes its page for {text}. Nobody is charged by that; the customer "
            "pays on the page if they still want to.",
            events=("payment.requires_action",) if moved else (),
        )
    return _charged(letter, effect, text, psp=psp)


def _charged(letter: Letter, effect: str, text: str, *, psp: str) -> Effect:
    payment, merchant, amount = letter.payment, letter.merchant, letter.amount
    if payment is None or amount is None:
        raise ValueError("a charge has a payment")
    if effect == "charge" and payment.capture_method == "manual":
        return Effect(
            button=f"Retry and hold {text}",
            sentence=f"{text} is held on the card, at most once. Nothing is taken by that.",
            events=("payment.requires_capture",),
        )
    taken = "The card is charged" if effect == "charge" else "Of what is held we take"
    fee = 0
    if merchant is not None:
        fee = postings.platform_fee(amount, merchant.fee_basis_points, merchant.fee_fixed)
    pending = f"{_shop(letter)}, pending"
    lines = [EffectLine("Payment", f"{psp} owes us", pending, amount)]
    if fee:
        lines.append(EffectLine("Fee", pending, "Fees", fee))
    # The PSP names its own fee only afterwards, and the platform bears it.
    lines.append(EffectLine("PSP's fee", "PSP fees", f"{psp} owes us", None))
    verb = "charge" if effect == "charge" else "capture"
    return Effect(
        button=f"Retry and {verb} {text}",
        sentence=f"{taken} {text}, at most once. The customer is not asked again.",
        currency=payment.currency,
        lines=tuple(lines),
        events=("payment.succeeded",),
    )


def _shop(letter: Letter) -> str:
    return letter.merchant.name if letter.merchant is not None else "The shop"
