"""What a shop may say about payments, and its translation into the application's words."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from app.errors import Refused
from app.payments.accepting import NewPayment
from app.settings import is_loopback
from web.api import fields

Status = Literal[
    "requires_action",
    "processing",
    "requires_capture",
    "succeeded",
    "failed",
    "canceled",
    "expired",
]


class UrlNotAllowed(Refused):
    """A return address must be https; http works for this machine alone, in test mode."""

    code = "url_not_allowed"


class CustomerInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who pays, as far as you want to tell."""

    email: fields.Email | None = None
    name: fields.Name | None = None
    country: fields.Country | None = None
    card_country: fields.Country | None = None


class CreatePayment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A payment to accept. Without `payment_method` the customer pays at `checkout_url`."""

    amount: fields.Amount
    currency: fields.Currency
    description: fields.Description | None = None
    reference: fields.Reference | None = None
    customer: CustomerInput | None = None
    return_url: fields.Url | None = None
    cancel_url: fields.Url | None = None
    capture_method: Literal["automatic", "manual"] = "automatic"
    payment_method: fields.Token | None = None
    psp: fields.PspName | None = None
    expires_in: Annotated[int, Meta(ge=1800, le=86_400, description="Seconds.")] | None = None
    metadata: fields.Metadata | None = None


class CapturePayment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How much to take of what is held; all of it when no amount is given."""

    amount: fields.Amount | None = None


class CancelPayment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing more needs to be said."""


class GetPayment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to show in full."""

    expand: list[Literal["attempts"]] = msgspec.field(name="expand[]", default_factory=list)


class ListPayments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Filters are combined; newest first."""

    status: Status | None = None
    currency: fields.Currency | None = None
    reference: fields.Reference | None = None
    customer_email: fields.Email | None = None
    created_gte: fields.Moment | None = None
    created_lt: fields.Moment | None = None
    amount_gte: fields.AmountBound | None = None
    amount_lte: fields.AmountBound | None = None
    limit: fields.Limit = 20
    starting_after: fields.PaymentId | None = None
    ending_before: fields.PaymentId | None = None
    expand: list[Literal["attempts"]] = msgspec.field(name="expand[]", default_factory=list)


def lower(currency: str | None) -> str | None:
    """Return a currency code as we keep it."""
    return None if currency is None else currency.lower()


def new_payment(data: CreatePayment, *, livemode: bool) -> NewPayment:
    """Return what is asked for in the application's words. Raises UrlNotAllowed."""
    for name in ("return_url", "cancel_url"):
        _check_url(getattr(data, name), name, livemode=livemode)
    customer = data.customer or CustomerInput()
    return NewPayment(
        amount=data.amount,
        currency=data.currency.lower(),
        description=data.description,
        reference=data.reference,
        email=customer.email,
        name=customer.name,
        country=customer.country,
        card_country=customer.card_country,
        return_url=data.return_url,
        cancel_url=data.cancel_url,
        capture_method=data.capture_method,
        payment_method=data.payment_method,
        psp=data.psp,
        expires_in=data.expires_in,
        metadata=data.metadata or {},
    )


def _check_url(url: str | None, param: str, *, livemode: bool) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    own = not livemode and is_loopback(parts.hostname or "")
    if parts.scheme == "https" or own:
        return
    raise UrlNotAllowed(
        "This must be an https:// address (http:// only for this machine's own, in test mode).",
        param=param,
    )
