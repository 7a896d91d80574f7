"""Accepting a payment: one statement, no other system."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal, cast

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.audit import operations as audit
from app.audit.models import AuditRow
from app.audit.operations import Actor
from app.errors import Conflict, Refused
from app.payments import limits, schemas
from app.payments.change import shape_of, work_key
from app.payments.models import Customer, Payment
from app.risk import hashes
from app.runtime import Runtime
from app.secrets import Sealer
from app.webhooks import operations as webhooks
from app.webhooks.models import Event

DEFAULT_EXPIRY = timedelta(days=1)


class ReferenceInUse(Conflict):
    """Another payment that is open or paid has this reference."""

    code = "reference_in_use"


class PspNotConnected(Refused):
    """There is no PSP for this mode (or of this name)."""

    code = "psp_not_connected"


class NewPayment(msgspec.Struct, kw_only=True):
    """What a shop asks for, already valid by the schema."""

    amount: int
    currency: str
    description: str | None = None
    reference: str | None = None
    email: str | None = None
    name: str | None = None
    country: str | None = None
    card_country: str | None = None
    return_url: str | None = None
    cancel_url: str | None = None
    capture_method: Literal["automatic", "manual"] = "automatic"
    payment_method: str | None = None
    psp: str | None = None
    expires_in: int | None = None
    metadata: dict[str, str] = {}


async def create_payment(
    session: AsyncSession | db.Lone,
    *,
    rt: Runtime,
    actor: Actor,
    merchant_id: str,
    livemode: bool,
    new: NewPayment,
    extra_rows: Sequence[tuple[Any, dict[str, Any]]] = (),
    payment_id: str | None = None,
) -> schemas.PaymentShape:
    """Accept a payment: the row, its event, the job that will ask the PSP, all in one statement.

    `extra_rows` (an idempotency key) go into the same statement. No other system is called.
    On a lone connection a reference in use is an IntegrityError, because nothing is read there.
    Raises PspNotConnected, ReferenceInUse, and what `limits.check_payment` raises.
    """
    connection_id = _connection(rt, livemode, new)
    if new.reference is not None and not isinstance(session, db.Lone):
        await _check_reference(session, merchant_id, livemode, new.reference)
    values = _new_payment(rt, merchant_id, livemode, connection_id, new)
    values |= {"id": payment_id or rt.ids("pay"), "request_id": actor.request_id}
    payment = cast("Payment", _as_read(Payment, values))
    of_customer, data = _new_customer(rt, payment, new)
    shape = shape_of(rt, payment, cast("Customer", _as_read(Customer, of_customer)))
    rows = [
        (Payment, values),
        (Customer, of_customer),
        (Event, _created(rt, payment, shape, data)),
        (jobs.Job, _first_job(rt, payment)),
        (
            AuditRow,
            audit.row(
                ids=rt.ids,
                now=payment.created_at,
                actor=actor,
                action="payment.create",
                object_id=payment.id,
                merchant_id=merchant_id,
                livemode=livemode,
                after={"amount": payment.amount, "currency": payment.currency},
            ),
        ),
        *extra_rows,
    ]
    await db.insert_all(session, rows)
    db.wake(session, ["psp", "webhooks"])
    return shape


def _created(
    rt: Runtime, payment: Payment, shape: schemas.PaymentShape, data: Sealer
) -> dict[str, Any]:
    return webhooks.event_row(
        id=rt.ids("evt"),
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        type="payment.created",
        object=schemas.plain(shape),
        sequence=1,
        previous_status=None,
        payment_id=payment.id,
        refund_id=None,
        sealer=data,
        now=payment.created_at,
    )


def _first_job(rt: Runtime, payment: Payment) -> dict[str, Any]:
    kind = "payments.open_checkout" if payment.hosted else "payments.charge"
    return jobs.row(
        id=rt.ids("job"),
        kind=kind,
        fair_key=work_key(kind, payment),
        args={"payment_id": payment.id},
        queue="psp",
        now=payment.created_at,
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        payment_id=payment.id,
    )


def _connection(rt: Runtime, livemode: bool, new: NewPayment) -> str:
    connection_id = rt.connections.default(livemode=livemode, psp=new.psp)
    if connection_id is None:
        mode = "live" if livemode else "test"
        raise PspNotConnected(f"No payment service provider is connected for {mode} mode.")
    taken = rt.psp(connection_id).limits(new.currency)
    limits.check_payment(taken, amount=new.amount, currency=new.currency)
    return connection_id


async def _check_reference(
    session: AsyncSession, merchant_id: str, livemode: bool, reference: str
) -> None:
    # The partial unique index decides a race; its violation brings the caller here again.
    other = await session.scalar(
        select(Payment.id).where(
            Payment.merchant_id == merchant_id,
            Payment.livemode == livemode,
            Payment.reference == reference,
            # As written in the index: with values sent apart it would not be used.
            text("status NOT IN ('failed', 'canceled', 'expired')"),
        )
    )
    if other is not None:
        raise ReferenceInUse(
            "Another payment that is open or paid has this reference.",
            param="reference",
            extra={"payment": other},
        )


def _new_payment(
    rt: Runtime, merchant_id: str, livemode: bool, connection_id: str, new: NewPayment
) -> dict[str, Any]:
    now = rt.clock()
    hosted = new.payment_method is None
    expiry = DEFAULT_EXPIRY if new.expires_in is None else timedelta(seconds=new.expires_in)
    return {
        "merchant_id": merchant_id,
        "livemode": livemode,
        "connection_id": connection_id,
        "psp": rt.connections.psp_of(connection_id),
        "amount": new.amount,
        "currency": new.currency,
        "status": "requires_action" if hosted else "processing",
        "hosted": hosted,
        "capture_method": new.capture_method,
        "amount_captured": 0,
        "amount_refunded": 0,
        "amount_pending": 0,
        "fee": 0,
        "fee_returned": 0,
        "reference": new.reference,
        "description": new.description,
        "return_url": new.return_url,
        "cancel_url": new.cancel_url,
        "metadata": new.metadata,
        "payment_method": new.payment_method,
        "expires_at": now + expiry if hosted else None,
        "event_sequence": 1,
        "created_at": now,
        "updated_at": now,
    }


def _new_customer(rt: Runtime, payment: Payment, new: NewPayment) -> tuple[dict[str, Any], Sealer]:
    place = f"customers_of_payments:{payment.id}"
    data, sealed_key = rt.sealer.new_data_key(f"{place}:data_key")
    values = {
        "payment_id": payment.id,
        "merchant_id": payment.merchant_id,
        "livemode": payment.livemode,
        "data_key_sealed": sealed_key,
        "email_sealed": data.seal_text(new.email, f"{place}:email") if new.email else None,
        "name_sealed": data.seal_text(new.name, f"{place}:name") if new.name else None,
        "email_hash": email_hash(rt, new.email) if new.email else None,
        "country": new.country,
        "card_country": new.card_country,
    }
    return values, data


def email_hash(rt: Runtime, email: str) -> str:
    """Return the keyed hash that the exact-match filter by e-mail compares."""
    return hashes.of_email(rt.sealer, email)


def _as_read(model: type[db.Base], values: dict[str, Any]) -> SimpleNamespace:
    """Return what reading the new row would give, for the shapes that are made of rows.

    The mapper's own object notices changes, of which there are none, at a price for each column.
    """
    return SimpleNamespace(**{key: values.get(name) for key, name in _names(model)})


@cache
def _names(model: type[db.Base]) -> list[tuple[str, str]]:
    return [(found.key, found.columns[0].name) for found in model.__mapper__.column_attrs]
