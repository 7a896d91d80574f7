"""Read events, endpoints and deliveries of one merchant and mode."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.secrets import Sealer
from app.webhooks import bodies
from app.webhooks.models import CUSTOMERS, Delivery, Endpoint, Event
from app.webhooks.operations import DeliveryNotFound, EndpointNotFound
from app.webhooks.schemas import DeliveryObject, DeliveryTry, EndpointObject, EventObject


class EventNotFound(NotFound):
    """There is no such event at this merchant and mode."""

    code = "event_not_found"


class DeliveryDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery with what was sent and what the shop answered; null when no longer kept."""

    delivery: DeliveryObject
    url: str
    body: str | None
    answer: str | None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What of the endpoints and deliveries needs attention."""

    endpoints: int
    failing: int
    disabled: int
    retrying: int
    exhausted: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list, newest first."""

    data: Sequence[Any]
    has_more: bool


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Which page: at most `limit` rows after (older than) or before (newer than) an id."""

    limit: int = 20
    starting_after: str | None = None
    ending_before: str | None = None


async def _page(session: AsyncSession, query: Any, key: Any, cursor: Cursor) -> Page:
    if cursor.ending_before is not None:
        query = query.where(key > cursor.ending_before).order_by(key.asc())
    else:
        query = query.order_by(key.desc())
    if cursor.starting_after is not None:
        query = query.where(key < cursor.starting_after)
    rows = list(await session.execute(query.limit(cursor.limit + 1)))
    has_more = len(rows) > cursor.limit
    rows = rows[: cursor.limit]
    if cursor.ending_before is not None:
        rows.reverse()
    return Page(data=rows, has_more=has_more)


def endpoint_object(endpoint: Endpoint, secret: str | None = None) -> EndpointObject:
    """Return the public shape; `secret` only in the answer to creating or rotating."""
    return EndpointObject(
        id=endpoint.id,
        livemode=endpoint.livemode,
        url=endpoint.url,
        description=endpoint.description,
        event_types=list(endpoint.event_types),
        status=endpoint.status,  # type: ignore[arg-type] # The column holds these three words.
        status_reason=endpoint.status_reason,
        failing_since=endpoint.failing_since,
        old_secret_until=endpoint.old_secret_until,
        api_version=endpoint.api_version,
        created_at=endpoint.created_at,
        updated_at=endpoint.updated_at,
        secret=msgspec.UNSET if secret is None else secret,
    )


async def endpoints(
    session: AsyncSession, *, merchant_id: str, livemode: bool, cursor: Cursor | None = None
) -> Page:
    """Return endpoints that are not deleted, as EndpointObject."""
    query = select(Endpoint).where(
        Endpoint.merchant_id == merchant_id,
        Endpoint.livemode.is_(livemode),
        Endpoint.deleted_at.is_(None),
    )
    page = await _page(session, query, Endpoint.id, cursor or Cursor(limit=100))
    return Page(data=[endpoint_object(row.Endpoint) for row in page.data], has_more=page.has_more)


async def endpoint(
    session: AsyncSession, *, merchant_id: str, livemode: bool, endpoint_id: str
) -> EndpointObject:
    """Return one endpoint. Raises EndpointNotFound, also for a deleted one."""
    found = await session.scalar(
        select(Endpoint).where(
            Endpoint.id == endpoint_id,
            Endpoint.merchant_id == merchant_id,
            Endpoint.livemode.is_(livemode),
            Endpoint.deleted_at.is_(None),
        )
    )
    if found is None:
        raise EndpointNotFound("There is no such webhook endpoint.", param="id")
    return endpoint_object(found)


async def deliveries(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    endpoint_id: str | None = None,
    event_id: str | None = None,
    payment_id: str | None = None,
    state: str | None = None,
    cursor: Cursor | None = None,
) -> Page:
    """Return deliveries that match every given filter, as DeliveryObject."""
    query: Any = (
        select(Delivery, Event.type)
        .join(Event, Event.id == Delivery.event_id)
        .where(Delivery.merchant_id == merchant_id, Delivery.livemode.is_(livemode))
    )
    for column, wanted in (
        (Delivery.endpoint_id, endpoint_id),
        (Delivery.event_id, event_id),
        (Delivery.payment_id, payment_id),
        (Delivery.state, state),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    page = await _page(session, query, Delivery.id, cursor or Cursor())
    data = [_delivery_object(row.Delivery, row.type) for row in page.data]
    return Page(data=data, has_more=page.has_more)


async def delivery(
    session: AsyncSession, *, sealer: Sealer, merchant_id: str, livemode: bool, delivery_id: str
) -> DeliveryDetail:
    """Return one delivery with body and answer; `sealer` is the main one.

    Raises DeliveryNotFound.
    """
    found = await session.execute(
        select(Delivery, Event, Endpoint.url, CUSTOMERS.c.data_key_sealed)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .outerjoin(CUSTOMERS, CUSTOMERS.c.payment_id == Event.payment_id)
        .where(
            Delivery.id == delivery_id,
            Delivery.merchant_id == merchant_id,
            Delivery.livemode.is_(livemode),
        )
    )
    row = found.first()
    if row is None:
        raise DeliveryNotFound("There is no such delivery.", param="id")
    opener = bodies.sealer_of(sealer, row.Event.payment_id, row.data_key_sealed)
    body = answer = None
    if opener is not None and row.Event.body_sealed:
        body = opener.open_text(row.Event.body_sealed, bodies.body_place(row.Event.id))
    if opener is not None and row.Delivery.answer_sealed:
        answer = opener.open_text(row.Delivery.answer_sealed, bodies.answer_place(delivery_id))
    return DeliveryDetail(
        delivery=_delivery_object(row.Delivery, row.Event.type),
        url=row.url,
        body=body,
        answer=answer,
    )


def _delivery_object(row: Delivery, event_type: str) -> DeliveryObject:
    log = msgspec.convert(row.log, list[DeliveryTry])
    return DeliveryObject(
        id=row.id,
        livemode=row.livemode,
        endpoint=row.endpoint_id,
        event=row.event_id,
        event_type=event_type,
        payment=row.payment_id,
        state=row.state,  # type: ignore[arg-type] # The column holds these four words.
        tries=row.tries,
        log=log,
        last_status=row.last_status,
        last_error=row.last_error,
        next_try_at=row.next_try_at,
        delivered_at=row.delivered_at,
        created_at=row.created_at,
        updated_at=log[-1].at if log else row.created_at,
    )


async def events(
    session: AsyncSession,
    *,
    sealer: Sealer,
    merchant_id: str,
    livemode: bool,
    type: str | None = None,  # noqa: A002 - the filter's name
    payment_id: str | None = None,
    created_gte: datetime | None = None,
    created_lt: datetime | None = None,
    cursor: Cursor | None = None,
) -> Page:
    """Return events that match every given filter, as EventObject; `sealer` is the main one."""
    query = _events_of(merchant_id, livemode)
    if type is not None:
        query = query.where(Event.type == type)
    if payment_id is not None:
        query = query.where(Event.payment_id == payment_id)
    if created_gte is not None:
        query = query.where(Event.created_at >= created_gte)
    if created_lt is not None:
        query = query.where(Event.created_at < created_lt)
    page = await _page(session, query, Event.id, cursor or Cursor())
    data = [_event_object(sealer, row.Event, row.data_key_sealed) for row in page.data]
    return Page(data=data, has_more=page.has_more)


async def event(
    session: AsyncSession, *, sealer: Sealer, merchant_id: str, livemode: bool, event_id: str
) -> EventObject:
    """Return one event; `sealer` is the main one. Raises EventNotFound."""
    found = await session.execute(_events_of(merchant_id, livemode).where(Event.id == event_id))
    row = found.first()
    if row is None:
        raise EventNotFound("There is no such event.", param="id")
    return _event_object(sealer, row.Event, row.data_key_sealed)


def _events_of(merchant_id: str, livemode: bool) -> Select[Any]:
    return (
        select(Event, CUSTOMERS.c.data_key_sealed)
        .outerjoin(CUSTOMERS, CUSTOMERS.c.payment_id == Event.payment_id)
        .where(Event.merchant_id == merchant_id, Event.livemode.is_(livemode))
    )


def _event_object(sealer: Sealer, row: Event, data_key_sealed: str | None) -> EventObject:
    opener = bodies.sealer_of(sealer, row.payment_id, data_key_sealed)
    data = None
    if opener is not None and row.body_sealed:
        data = msgspec.json.decode(opener.open(row.body_sealed, bodies.body_place(row.id)))["data"]
    return EventObject(
        id=row.id,
        type=row.type,
        livemode=row.livemode,
        api_version=row.api_version,
        payment=row.payment_id,
        refund=row.refund_id,
        sequence=row.sequence,
        timestamp=row.created_at,
        data=data,
        created_at=row.created_at,
        updated_at=row.created_at,
    )


async def stats(
    session: AsyncSession, *, merchant_id: str, livemode: bool, since: datetime
) -> Stats:
    """Count endpoints by status, deliveries in retry, and those given up `since` a moment."""
    statuses = await session.execute(
        select(Endpoint.status, func.count())
        .where(
            Endpoint.merchant_id == merchant_id,
            Endpoint.livemode.is_(livemode),
            Endpoint.deleted_at.is_(None),
        )
        .group_by(Endpoint.status)
    )
    states = await session.execute(
        select(Delivery.state, func.count())
        .where(
            Delivery.merchant_id == merchant_id,
            Delivery.livemode.is_(livemode),
            Delivery.state.in_(("retrying", "exhausted")),
            Delivery.created_at >= since,
        )
        .group_by(Delivery.state)
    )
    by_status: dict[str, int] = {row[0]: row[1] for row in statuses}
    by_state: dict[str, int] = {row[0]: row[1] for row in states}
    return Stats(
        endpoints=sum(by_status.values()),
        failing=by_status.get("failing", 0),
        disabled=by_status.get("disabled", 0),
        retrying=by_state.get("retrying", 0),
        exhausted=by_state.get("exhausted", 0),
    )
