"""The parts of Stripe's objects that decide something, read strictly."""

from typing import Annotated, Any, TypeVar

import msgspec

from app.psp.stripe.exchange import Failure

Metadata = dict[str, str]
Epoch = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]  # Seconds, until year 9999.
T = TypeVar("T")


class BalanceTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A line of our account at Stripe; the fee is in Stripe's minor units."""

    id: str
    fee: int
    currency: str


class _Card(msgspec.Struct, frozen=True):
    brand: str | None = None
    last4: str | None = None


class _MethodDetails(msgspec.Struct, frozen=True):
    type: str | None = None
    card: _Card | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """One try to move money under an intent."""

    id: str
    amount_refunded: int
    amount: int = 0
    amount_captured: int | None = None  # Null where an older version of the API does not tell.
    balance_transaction: BalanceTransaction | str | None = None
    payment_method_details: _MethodDetails | None = None

    @property
    def method(self) -> str | None:
        """What the customer paid with: `Visa •••• 4242`, or the kind when it is no card."""
        details = self.payment_method_details
        if details is None:
            return None
        if details.card is None or not details.card.brand or not details.card.last4:
            return _title(details.type)
        return f"{_title(details.card.brand)} •••• {details.card.last4}"


class Intent(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="payment_intent"):
    """A payment intent."""

    id: str
    status: str
    amount: int
    amount_received: int
    currency: str
    livemode: bool
    created: Epoch
    metadata: Metadata
    latest_charge: Charge | str | None = None
    last_payment_error: Failure | None = None

    @property
    def charge(self) -> Charge | None:
        """The latest charge when it was expanded."""
        return self.latest_charge if isinstance(self.latest_charge, Charge) else None


class Session(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="checkout.session"
):
    """A checkout session: the hosted page."""

    id: str
    status: str
    payment_status: str
    amount_total: int
    currency: str
    livemode: bool
    created: Epoch
    expires_at: Epoch
    metadata: Metadata
    client_reference_id: str | None = None
    payment_intent: Intent | str | None = None
    url: str | None = None


class Refund(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="refund"):
    """Money on its way back to the customer."""

    id: str
    status: str
    amount: int
    currency: str
    created: Epoch
    metadata: Metadata | None = None
    charge: Charge | str | None = None
    payment_intent: str | None = None
    failure_reason: str | None = None
    balance_transaction: BalanceTransaction | str | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list; its entries are read when they are looked at."""

    data: list[dict[str, Any]]
    has_more: bool


class GarbledError(Exception):
    """A success answer that is not the object that was asked for."""


def read_any(body: bytes) -> Intent | Session | Refund:
    """Read a JSON body as one of the objects that we ask for. Raises GarbledError."""
    try:
        return msgspec.json.decode(body, type=Intent | Session | Refund)
    except (msgspec.DecodeError, RecursionError) as error:
        raise GarbledError(f"the answer is none of the PSP's objects: {error}") from error


def read(body: bytes, shape: type[T]) -> T:
    """Read a JSON body as an object. Raises GarbledError."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise GarbledError(f"the answer is no {shape.__name__.lower()}: {error}") from error


def convert(entry: dict[str, Any], shape: type[T]) -> T:
    """Read an entry of a list as an object. Raises GarbledError."""
    try:
        return msgspec.convert(entry, type=shape)
    except msgspec.ValidationError as error:
        raise GarbledError(f"the entry is no {shape.__name__.lower()}: {error}") from error


def _title(name: str | None) -> str | None:
    known = {"amex": "American Express", "jcb": "JCB", "unionpay": "UnionPay", "diners": "Diners"}
    return known.get(name, name.replace("_", " ").capitalize()) if name else None
