"""Charges and what they do to the provider's account: fees, captures, releases."""

from typing import Any

from web.sandbox_psp import money, shapes
from web.sandbox_psp.book import Stored
from web.sandbox_psp.cards import Refusal
from web.sandbox_psp.work import Work, new_id


def present(work: Work, item: Stored) -> dict[str, Any]:
    """Return an object as the API shows it now.

    A balance transaction appears on its source only after a settable delay, as at the provider.
    """
    body = dict(item.body)
    transaction = item.private.get("transaction")
    if transaction is not None:
        visible = item.private["transaction_at"] + work.settings.balance_transaction_delay
        body["balance_transaction"] = transaction if work.now >= visible else None
    return body


def book_transaction(work: Work, source: Stored, *, kind: str, amount: int, fee: int) -> str:
    """Write a line of the provider's account for a charge or refund; the amount is signed."""
    body = shapes.balance_transaction(
        new_id("txn"), source.body, created=work.epoch, amount=amount, fee=fee
    )
    body["type"] = kind
    body["reporting_category"] = kind
    transaction = Stored(kind="balance_transaction", created=work.now, body=body, parent=source.id)
    work.book.save(transaction)
    return transaction.id


def new_charge(work: Work, intent: Stored, method: Stored) -> Stored:
    """Begin a charge of an intent's amount."""
    body = shapes.charge(
        new_id("ch"), intent.body, method.body, created=work.epoch, amount=intent.body["amount"]
    )
    charge = Stored(kind="charge", created=work.now, body=body, parent=intent.id)
    intent.body["latest_charge"] = charge.id
    return charge


def capture(work: Work, charge: Stored, amount: int) -> None:
    """Take an amount of an authorized charge; the rest is released."""
    body = charge.body
    body.update(status="succeeded", paid=True, captured=True, amount_captured=amount)
    fee = money.fee(amount, body["currency"])
    charge.private["transaction"] = book_transaction(
        work, charge, kind="charge", amount=amount, fee=fee
    )
    charge.private["transaction_at"] = work.now
    work.book.save(charge)


def authorize(work: Work, charge: Stored) -> None:
    """Hold the charge's amount without taking it."""
    charge.body.update(status="succeeded", paid=True, captured=False)
    work.book.save(charge)


def release(work: Work, charge: Stored) -> None:
    """Give a held amount back to the card: the provider shows it as refunded, without a refund."""
    charge.body.update(refunded=True, amount_refunded=charge.body["amount"])
    work.book.save(charge)


def fail(work: Work, charge: Stored, refusal: Refusal) -> None:
    """Mark a charge as declined."""
    charge.body.update(
        status="failed",
        paid=False,
        failure_code=refusal.code,
        failure_message=refusal.message,
    )
    charge.body["outcome"].update(
        network_status="declined_by_network",
        reason=refusal.decline_code,
        seller_message=refusal.message,
        type="issuer_declined",
    )
    work.book.save(charge)
