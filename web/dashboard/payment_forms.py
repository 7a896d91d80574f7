"""The forms of a payment's dialogs: what they hold, what is wrong with them, what they would do."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.ledger import queries as ledger
from app.ledger.queries import Balance
from app.merchants.models import Merchant
from app.money import MAX_AMOUNT
from app.payments import effect
from app.payments.effect import RefundEffect
from app.payments.models import Payment
from app.runtime import Runtime
from web.dashboard.access import Viewer
from web.dashboard.payment_page import PaymentPage

REASONS = ("", "requested_by_customer", "duplicate", "fraudulent")


class Form(msgspec.Struct, kw_only=True):
    """A form as it was sent, or blank; `errors` are pairs of a field's id and a text.

    `key` is the one-time key; `minor` the amount that was read, None when it is none.
    """

    key: str
    part: str = "full"
    amount: str = ""
    reason: str = ""
    available: str = ""
    minor: int | None = None
    effect: RefundEffect | None = None
    step_up: str = ""
    errors: list[tuple[str, str]] = []
    error_text: str = ""

    def error(self, field: str) -> str:
        """Return what is wrong with a field, or nothing."""
        return next((text for name, text in self.errors if name == field), "")

    def refuse(self, field: str, text: str) -> None:
        """Note what is wrong with a field."""
        self.errors = [*self.errors, (field, text)]
        self.error_text = self.error_text or "Please look at what is marked."


async def blank_form(
    session: AsyncSession, *, rt: Runtime, viewer: Viewer, page: PaymentPage
) -> Form:
    """Return a form that nobody has filled in: a refund of all that is left."""
    form = Form(key=rt.ids.token(16), minor=page.left or None)
    if page.may.refund:
        await add_effect(session, viewer=viewer, row=page.row, form=form)
    return form


def read_refund(sent: Mapping[str, Any], row: Payment, left: int, *, key: str) -> Form:
    """Read the refund form (or what of it a change sent); amounts in decimals of the currency."""
    form = Form(
        key=key,
        part="part" if sent.get("part") == "part" else "full",
        amount=str(sent.get("amount") or "").strip()[:40],
        reason=str(sent.get("reason") or ""),
        available=str(sent.get("available") or ""),
    )
    if form.reason not in REASONS:
        form.refuse("reason", "Choose one of the reasons.")
    if form.part == "full":
        form.minor = left or None
        if not left:
            form.refuse("amount", "Nothing is left to refund.")
        return form
    read_amount(form, row, most=left)
    return form


def read_amount(form: Form, row: Payment, *, most: int, field: str = "amount") -> None:
    """Read an amount of at most `most` minor units into the form, or note what is wrong."""
    code = row.currency.upper()
    if not form.amount:
        form.refuse(field, f"Write an amount in {code}.")
        return
    try:
        minor = money.parse_decimal(form.amount.replace("\N{NO-BREAK SPACE}", ""), row.currency)
    except ValueError as error:
        decimals = money.exponent(row.currency)
        example = f"like {money.decimal(most, row.currency, grouping=False)}"
        many = str(error) == "too many decimals"
        text = f"{code} has {decimals} decimals." if many else f"Write a number, {example}."
        form.refuse(field, text)
        return
    if not 0 < minor <= min(most, MAX_AMOUNT):
        form.refuse(field, f"At most {money.text(most, row.currency)}, and more than nothing.")
        return
    form.minor = minor


async def add_effect(session: AsyncSession, *, viewer: Viewer, row: Payment, form: Form) -> None:
    """Compute what the refund would do, and whether it needs the password again."""
    if form.minor is None:
        return
    merchant: Merchant = viewer.merchant
    wallet = await ledger.balance(session, **viewer.tenant)
    mine = next(
        (one for one in wallet.balances if one.currency == row.currency), Balance(row.currency)
    )
    form.effect = effect.of_refund(row, merchant, mine, amount=form.minor)
    form.step_up = "" if viewer.is_confirmed() else step_up_text(merchant, row)


def needs_step_up(merchant: Merchant, minor: int) -> bool:
    """Tell whether a refund of `minor` units needs password and code."""
    return minor > merchant.step_up_limit


def step_up_text(merchant: Merchant, row: Payment) -> str:
    """Say from which amount on a refund needs password and code; empty when it cannot."""
    if row.amount_captured - row.amount_refunded <= merchant.step_up_limit:
        return ""
    limit = money.text(merchant.step_up_limit, row.currency)
    return f"A refund of more than {limit} needs your password and a code."
