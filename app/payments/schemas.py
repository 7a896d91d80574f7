"""Public JSON shapes of payments and refunds, shared by API answers and webhooks."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from app.payments.models import Attempt, Customer, Payment, Refund
from app.payments.states import FINAL
from app.secrets import Sealer


class CustomerShape(msgspec.Struct, kw_only=True):
    """Who pays, as far as the shop told."""

    email: str | None = None
    name: str | None = None


class Failure(msgspec.Struct, kw_only=True):
    """Why a payment or refund did not succeed (so far)."""

    code: str
    decline_code: str | None = None
    message: str | None = None


class AttemptShape(msgspec.Struct, kw_only=True):
    """One intended effect at the PSP."""

    id: str
    object: Literal["attempt"] = "attempt"
    kind: str
    state: str
    amount: int
    currency: str
    psp_reference: str | None
    failure: Failure | None
    created_at: datetime
    updated_at: datetime


class PaymentShape(msgspec.Struct, kw_only=True):
    """A payment. Amounts are integers in the currency's minor unit."""

    id: str
    object: Literal["payment"] = "payment"
    livemode: bool
    amount: int
    amount_captured: int
    amount_refunded: int
    amount_refundable: int
    currency: str
    status: str
    finished: bool
    status_reason: str | None
    failure: Failure | None
    psp: str
    psp_reference: str | None
    checkout_url: str | None
    capture_method: str
    payment_method: str | None
    reference: str | None
    description: str | None
    customer: CustomerShape | None
    return_url: str | None
    cancel_url: str | None
    fee: int
    net: int
    ledger_position: int | None
    attempts: list[str] | list[AttemptShape]
    expires_at: datetime | None
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


class RefundShape(msgspec.Struct, kw_only=True):
    """A refund. `amount` goes back to the customer."""

    id: str
    object: Literal["refund"] = "refund"
    livemode: bool
    payment: str
    amount: int
    currency: str
    status: str
    status_reason: str | None
    failure: Failure | None
    reason: str | None
    source: str
    psp_reference: str | None
    ledger_position: int | None
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


def checkout_token(sealer: Sealer, payment_id: str) -> str:
    """Return the opaque part of a checkout address: recomputable, unguessable, not stored."""
    return f"{payment_id}.{sealer.keyed_hash('checkout', payment_id)[:40]}"


def customer(row: Customer | None, sealer: Sealer) -> CustomerShape | None:
    """Open the sealed personal data; None when there is none (any more)."""
    if row is None or (row.email_sealed is None and row.name_sealed is None):
        return None
    place = f"customers_of_payments:{row.payment_id}"
    data = data_sealer(row, sealer)
    return CustomerShape(
        email=data.open_text(row.email_sealed, f"{place}:email") if row.email_sealed else None,
        name=data.open_text(row.name_sealed, f"{place}:name") if row.name_sealed else None,
    )


def data_sealer(row: Customer, sealer: Sealer) -> Sealer:
    """Return the sealer of a payment's own data key."""
    return sealer.data_key(row.data_key_sealed, f"customers_of_payments:{row.payment_id}:data_key")


def _failure(code: str | None, decline_code: str | None, message: str | None) -> Failure | None:
    return None if code is None else Failure(code=code, decline_code=decline_code, message=message)


def payment(
    row: Payment,
    *,
    who: CustomerShape | None,
    checkout_url: str | None,
    attempts: list[str] | list[AttemptShape] | None = None,
    position: int | None = None,
) -> PaymentShape:
    """Return the public shape of a payment; `position` is its last line in the ledger."""
    return PaymentShape(
        id=row.id,
        livemode=row.livemode,
        amount=row.amount,
        amount_captured=row.amount_captured,
        amount_refunded=row.amount_refunded,
        amount_refundable=refundable(row),
        currency=row.currency,
        status=row.status,
        finished=row.status in FINAL,
        status_reason=row.status_reason,
        failure=_failure(row.failure_code, row.failure_decline_code, row.failure_message),
        psp=row.psp,
        psp_reference=row.psp_reference,
        checkout_url=checkout_url,
        capture_method=row.capture_method,
        payment_method=row.payment_method,
        reference=row.reference,
        description=row.description,
        customer=who,
        return_url=row.return_url,
        cancel_url=row.cancel_url,
        fee=row.fee - row.fee_returned,
        net=net(row),
        ledger_position=position,
        attempts=attempts or [],
        expires_at=row.expires_at,
        metadata=row.meta,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def refundable(row: Payment) -> int:
    """Return what is left to refund, in minor units."""
    return row.amount_captured - row.amount_refunded if row.status == "succeeded" else 0


def net(row: Payment) -> int:
    """Return what the merchant has of a payment: captured, less refunds, less the fee kept."""
    return row.amount_captured - row.amount_refunded - (row.fee - row.fee_returned)


def attempt(row: Attempt) -> AttemptShape:
    """Return the public shape of an attempt."""
    return AttemptShape(
        id=row.id,
        kind=row.kind,
        state=row.state,
        amount=row.amount,
        currency=row.currency,
        psp_reference=row.psp_reference,
        failure=_failure(row.code, row.decline_code, row.message),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def refund(row: Refund, position: int | None = None) -> RefundShape:
    """Return the public shape of a refund; `position` is its last line in the ledger."""
    return RefundShape(
        id=row.id,
        livemode=row.livemode,
        payment=row.payment_id,
        amount=row.amount,
        currency=row.currency,
        status=row.status,
        status_reason=row.status_reason,
        failure=_failure(row.failure_code, None, row.failure_message),
        reason=row.reason,
        source=row.source,
        psp_reference=row.psp_reference,
        ledger_position=position,
        metadata=row.meta,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def plain(shape: msgspec.Struct) -> dict[str, Any]:
    """Return a shape as JSON-ready data, for events."""
    data: dict[str, Any] = msgspec.to_builtins(shape)
    return data
