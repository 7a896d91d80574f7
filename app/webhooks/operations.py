"""Write events for merchants, and change the endpoints that receive them."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.audit import operations as audit
from app.egress import CheckedUrl
from app.errors import Conflict, Invalid, NotFound, Refused
from app.ids import Ids
from app.secrets import Sealer
from app.webhooks import bodies, signing
from app.webhooks.models import Delivery, Endpoint, Event
from app.webhooks.schemas import API_VERSION, EVENT_TYPES, TEST_EVENT

MOST_ENDPOINTS = 20  # A merchant and mode.
OVERLAP = timedelta(hours=24)  # How long a rotated secret signs beside the new one.


class EndpointNotFound(NotFound):
    """There is no such endpoint at this merchant and mode."""

    code = "webhook_endpoint_not_found"


class DeliveryNotFound(NotFound):
    """There is no such delivery at this merchant and mode."""

    code = "delivery_not_found"


class TooManyEndpoints(Refused):
    """A merchant has a limited number of endpoints in each mode."""

    code = "too_many_webhook_endpoints"


class EndpointDisabled(Conflict):
    """Nothing is sent to an endpoint that is switched off."""

    code = "webhook_endpoint_disabled"


class UnknownEventType(Invalid):
    """There is no event of this type."""


def event_row(
    *,
    id: str,  # noqa: A002 - the column's name
    merchant_id: str,
    livemode: bool,
    type: str,  # noqa: A002 - the column's name
    object: dict[str, Any],  # noqa: A002 - the field's name in the body
    sequence: int | None,
    previous_status: str | None,
    payment_id: str | None,
    refund_id: str | None,
    sealer: Sealer,
    now: datetime,
    endpoint_id: str | None = None,
) -> dict[str, Any]:
    """Return the values of an event row, for a caller that inserts several rows at once.

    `object` is the API object as JSON values; `sealer` is the payment's own, or the main one for
    an event of no payment. The caller also calls `db.wake(session, ["webhooks"])`.
    """
    data = {"object": object, "sequence": sequence, "previous_status": previous_status}
    body = msgspec.json.encode({"type": type, "timestamp": now, "data": data})
    return {
        "id": id,
        "merchant_id": merchant_id,
        "livemode": livemode,
        "type": type,
        "payment_id": payment_id,
        "refund_id": refund_id,
        "sequence": sequence,
        "body_sealed": sealer.seal(body, bodies.body_place(id)),
        "endpoint_id": endpoint_id,
        "fanned_out": False,
        "api_version": API_VERSION,
        "created_at": now,
    }


async def emit(session: AsyncSession, **values: Any) -> None:
    """Insert an event (arguments as for `event_row`) and ring the webhooks queue."""
    await session.execute(insert(Event).values(**event_row(**values)))
    db.wake(session, ["webhooks"])


async def create_endpoint(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    actor: audit.Actor,
    ids: Ids,
    sealer: Sealer,
    now: datetime,
    url: CheckedUrl,
    event_types: list[str],
    description: str | None = None,
) -> tuple[Endpoint, str]:
    """Make an endpoint; return it with its secret, which is not shown again.

    `url` comes from `rt.egress.check_url`; no event types means all. Raises TooManyEndpoints,
    UnknownEventType.
    """
    count = await session.scalar(
        select(func.count(Endpoint.id)).where(
            Endpoint.merchant_id == merchant_id,
            Endpoint.livemode.is_(livemode),
            Endpoint.deleted_at.is_(None),
        )
    )
    if (count or 0) >= MOST_ENDPOINTS:
        raise TooManyEndpoints(f"There are {MOST_ENDPOINTS} endpoints already; delete one first.")
    endpoint_id = ids("we")
    secret = signing.new_secret(ids.random_bytes(signing.SECRET_BYTES))
    endpoint = Endpoint(
        id=endpoint_id,
        merchant_id=merchant_id,
        livemode=livemode,
        url=url,
        description=description,
        event_types=_known(event_types),
        secret_sealed=sealer.seal_text(secret, bodies.secret_place(endpoint_id)),
        status="active",
        api_version=API_VERSION,
        created_at=now,
        updated_at=now,
    )
    session.add(endpoint)
    await session.flush()
    await _record(session, endpoint, "created", actor, ids, now, after=_facts(endpoint))
    return endpoint, secret


async def update_endpoint(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    endpoint_id: str,
    actor: audit.Actor,
    ids: Ids,
    now: datetime,
    url: CheckedUrl | msgspec.UnsetType = msgspec.UNSET,
    event_types: list[str] | msgspec.UnsetType = msgspec.UNSET,
    description: str | msgspec.UnsetType | None = msgspec.UNSET,
    disabled: bool | msgspec.UnsetType = msgspec.UNSET,
) -> Endpoint:
    """Change what is given; the rest stays. Switching on forgets that the endpoint failed.

    `url` comes from `rt.egress.check_url`. Raises EndpointNotFound, UnknownEventType.
    """
    endpoint = await _locked(session, merchant_id, livemode, endpoint_id)
    before = _facts(endpoint)
    if url is not msgspec.UNSET:
        endpoint.url = url
    if event_types is not msgspec.UNSET:
        endpoint.event_types = _known(event_types)
    if description is not msgspec.UNSET:
        endpoint.description = description
    if disabled is not msgspec.UNSET and disabled != (endpoint.status == "disabled"):
        endpoint.status = "disabled" if disabled else "active"
        endpoint.status_reason = "Switched off by hand." if disabled else None
        endpoint.failing_since = None
    after = _facts(endpoint)
    if after != before:
        endpoint.updated_at = now
        await _record(session, endpoint, "updated", actor, ids, now, before=before, after=after)
        await session.flush()
    return endpoint


async def delete_endpoint(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    endpoint_id: str,
    actor: audit.Actor,
    ids: Ids,
    now: datetime,
) -> Endpoint:
    """Take an endpoint out of use for ever; its deliveries stay readable.

    Raises EndpointNotFound.
    """
    endpoint = await _locked(session, merchant_id, livemode, endpoint_id)
    endpoint.deleted_at = endpoint.updated_at = now
    await _record(session, endpoint, "deleted", actor, ids, now, before=_facts(endpoint))
    await session.flush()
    return endpoint


async def rotate_secret(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    endpoint_id: str,
    actor: audit.Actor,
    ids: Ids,
    sealer: Sealer,
    now: datetime,
    overlap: timedelta = OVERLAP,
) -> tuple[Endpoint, str]:
    """Give an endpoint a new secret; the present one signs beside it until `overlap` is over.

    A rotation within the overlap drops the older one. Raises EndpointNotFound.
    """
    endpoint = await _locked(session, merchant_id, livemode, endpoint_id)
    present = sealer.open_text(endpoint.secret_sealed, bodies.secret_place(endpoint_id))
    secret = signing.new_secret(ids.random_bytes(signing.SECRET_BYTES))
    endpoint.old_secret_sealed = sealer.seal_text(present, bodies.old_secret_place(endpoint_id))
    endpoint.old_secret_until = now + overlap
    endpoint.secret_sealed = sealer.seal_text(secret, bodies.secret_place(endpoint_id))
    endpoint.updated_at = now
    after = {"old_secret_until": endpoint.old_secret_until.isoformat()}
    await _record(session, endpoint, "secret_rotated", actor, ids, now, after=after)
    await session.flush()
    return endpoint, secret


async def send_test_event(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    endpoint_id: str,
    actor: audit.Actor,
    ids: Ids,
    sealer: Sealer,
    now: datetime,
) -> str:
    """Emit an event for this endpoint alone; return its id.

    Raises EndpointNotFound, EndpointDisabled.
    """
    endpoint = await _locked(session, merchant_id, livemode, endpoint_id)
    if endpoint.status == "disabled":
        raise EndpointDisabled("Switch the endpoint on first.")
    event_id = ids("evt")
    await emit(
        session,
        id=event_id,
        merchant_id=merchant_id,
        livemode=livemode,
        type=TEST_EVENT,
        object={"id": endpoint_id, "object": "webhook_endpoint", "livemode": livemode},
        sequence=None,
        previous_status=None,
        payment_id=None,
        refund_id=None,
        sealer=sealer,
        now=now,
        endpoint_id=endpoint_id,
    )
    await _record(session, endpoint, "tested", actor, ids, now, after={"event": event_id})
    return event_id


async def redeliver(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    delivery_id: str,
    actor: audit.Actor,
    ids: Ids,
    now: datetime,
) -> Delivery:
    """Ask for one more try now, with the same webhook-id; the schedule goes on beside it.

    Asking twice before the try has run makes one try. Raises DeliveryNotFound, EndpointDisabled.
    """
    found = await session.execute(
        select(Delivery, Endpoint)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(
            Delivery.id == delivery_id,
            Delivery.merchant_id == merchant_id,
            Delivery.livemode.is_(livemode),
        )
    )
    row = found.first()
    if row is None:
        raise DeliveryNotFound("There is no such delivery.", param="id")
    delivery: Delivery = row.Delivery
    endpoint: Endpoint = row.Endpoint
    if endpoint.deleted_at is not None or endpoint.status == "disabled":
        raise EndpointDisabled("The endpoint is switched off or deleted.")
    made = await jobs.enqueue(
        session,
        id=ids("job"),
        kind="webhooks.deliver",
        args={"delivery_id": delivery.id, "manual": True},
        queue="webhooks",
        now=now,
        merchant_id=merchant_id,
        livemode=livemode,
        payment_id=delivery.payment_id,
        fair_key=endpoint.id,
        unique_key=f"redeliver:{delivery.id}",
    )
    if made:
        await audit.record(
            session,
            ids=ids,
            now=now,
            actor=actor,
            action="delivery.redelivered",
            object_id=delivery.id,
            merchant_id=merchant_id,
            livemode=livemode,
            after={"endpoint": endpoint.id, "event": delivery.event_id},
        )
    return delivery


async def _locked(
    session: AsyncSession, merchant_id: str, livemode: bool, endpoint_id: str
) -> Endpoint:
    endpoint = await session.scalar(
        select(Endpoint)
        .where(
            Endpoint.id == endpoint_id,
            Endpoint.merchant_id == merchant_id,
            Endpoint.livemode.is_(livemode),
            Endpoint.deleted_at.is_(None),
        )
        .with_for_update()
    )
    if endpoint is None:
        raise EndpointNotFound("There is no such webhook endpoint.", param="id")
    return endpoint


def _known(event_types: list[str]) -> list[str]:
    for name in event_types:
        if name not in EVENT_TYPES:
            raise UnknownEventType(f"There is no event type {name!r}."[:200], param="event_types")
    return sorted(set(event_types), key=EVENT_TYPES.index)


def _facts(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "description": endpoint.description,
        "status": endpoint.status,
    }


async def _record(
    session: AsyncSession,
    endpoint: Endpoint,
    verb: str,
    actor: audit.Actor,
    ids: Ids,
    now: datetime,
    *,
    before: Any = None,
    after: Any = None,
) -> None:
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action=f"webhook_endpoint.{verb}",
        object_id=endpoint.id,
        merchant_id=endpoint.merchant_id,
        livemode=endpoint.livemode,
        before=before,
        after=after,
    )
