"""Webhook endpoints and deliveries: create, change, rotate the secret, test, send again."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from app.egress import CheckedUrl, UrlNotAllowed, UrlNotResolved
from app.merchants.keys import KeyIdentity
from app.webhooks import operations, queries
from app.webhooks.operations import (
    DeliveryNotFound,
    EndpointDisabled,
    EndpointNotFound,
    TooManyEndpoints,
)
from app.webhooks.queries import Cursor
from app.webhooks.schemas import DeliveryObject, EndpointObject, EventObject
from web.api import examples, fields, idempotent
from web.api.answers import TwoCursors, listed, one_cursor, shaped
from web.api.auth import actor_of, identity_of
from web.api.events import EventType
from web.api.idempotent import Claim
from web.api.operation import Operation
from web.deps import ApiRequest, path_id, read_query, runtime

_SCOPE = "webhooks:write"
EventTypes = Annotated[
    list[EventType], Meta(max_length=20, description="The types to send; empty: all.")
]


class CreateEndpoint(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An address of yours that is told what happens."""

    url: fields.Url
    event_types: EventTypes = []
    description: fields.ShortText | None = None


class ChangeEndpoint(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is given changes, the rest stays."""

    url: fields.Url | UnsetType = UNSET
    event_types: EventTypes | UnsetType = UNSET
    description: fields.ShortText | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET


class Empty(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing more needs to be said."""


class Deleted(msgspec.Struct, kw_only=True):
    """The object is gone."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    deleted: bool = True


class ListEndpoints(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Newest first."""

    limit: fields.Limit = 20
    starting_after: fields.EndpointId | None = None
    ending_before: fields.EndpointId | None = None


class ListDeliveries(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Filters are combined; newest first."""

    event: fields.EventId | None = None
    payment: fields.PaymentId | None = None
    state: Literal["queued", "delivered", "retrying", "exhausted"] | None = None
    limit: fields.Limit = 20
    starting_after: fields.DeliveryId | None = None
    ending_before: fields.DeliveryId | None = None


def _tenant(identity: KeyIdentity) -> dict[str, Any]:
    return {"merchant_id": identity.merchant_id, "livemode": identity.livemode}


def _acting(request: ApiRequest) -> dict[str, Any]:
    rt = runtime(request)
    tenant = _tenant(identity_of(request))
    return {**tenant, "actor": actor_of(request), "ids": rt.ids, "now": rt.clock()}


def _cursor(query: Any) -> Cursor:
    one_cursor(query.starting_after, query.ending_before)
    return Cursor(
        limit=query.limit,
        starting_after=query.starting_after,
        ending_before=query.ending_before,
    )


def _shower(identity: KeyIdentity) -> idempotent.Show:
    async def show(session: AsyncSession, endpoint_id: str) -> EndpointObject:
        return await queries.endpoint(session, **_tenant(identity), endpoint_id=endpoint_id)

    return show


@post(
    "/webhook_endpoints",
    status_code=201,
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        answer=EndpointObject,
        status=201,
        key="welcome",
        refusals=(UrlNotAllowed, UrlNotResolved, TooManyEndpoints, EndpointNotFound),
        example=examples.CREATE_ENDPOINT,
    ).opt(),
)
async def create_webhook_endpoint(
    request: ApiRequest, data: JSONBody[CreateEndpoint]
) -> Response[bytes]:
    """Add an address. `secret` is in this answer only, not in a replay: rotate when lost.

    A replay after the address was deleted is a 404.
    """
    rt = runtime(request)
    checked: list[CheckedUrl] = []

    async def prepare() -> None:
        # The name is resolved for the first request alone: a retry must not hang on it.
        checked.append(await rt.egress.check_url(data.url))

    async def work(session: AsyncSession, _: Claim | None) -> tuple[str, Any]:
        row, secret = await operations.create_endpoint(
            session,
            **_acting(request),
            sealer=rt.sealer,
            url=checked[0],
            event_types=list(data.event_types),
            description=data.description,
        )
        return row.id, queries.endpoint_object(row, secret)

    show = _shower(identity_of(request))
    outcome = await idempotent.run(
        request, work=work, show=show, status=201, required=False, prepare=prepare
    )
    return outcome.answer()


@get(
    "/webhook_endpoints",
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        rows=EndpointObject,
        query=ListEndpoints,
        refusals=(TwoCursors,),
    ).opt(),
)
async def list_webhook_endpoints(request: ApiRequest) -> Response[bytes]:
    """List your addresses, newest first."""
    query = read_query(request, ListEndpoints)
    async with runtime(request).sessions.read() as session:
        page = await queries.endpoints(
            session, **_tenant(identity_of(request)), cursor=_cursor(query)
        )
    return listed(request, page.data, has_more=page.has_more)


@get(
    "/webhook_endpoints/{endpoint_id:str}",
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        answer=EndpointObject,
        refusals=(EndpointNotFound,),
        ids="we",
    ).opt(),
)
async def get_webhook_endpoint(request: ApiRequest, endpoint_id: FromPath[str]) -> Response[bytes]:
    """Return one of your addresses."""
    async with runtime(request).sessions.read() as session:
        shape = await queries.endpoint(
            session, **_tenant(identity_of(request)), endpoint_id=path_id(endpoint_id, "we")
        )
    return shaped(shape)


@patch(
    "/webhook_endpoints/{endpoint_id:str}",
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        answer=EndpointObject,
        refusals=(EndpointNotFound, UrlNotAllowed, UrlNotResolved),
        ids="we",
        example={"description": "Second shop server"},
    ).opt(),
)
async def update_webhook_endpoint(
    request: ApiRequest, endpoint_id: FromPath[str], data: JSONBody[ChangeEndpoint]
) -> Response[bytes]:
    """Change what is given. `disabled: false` switches an address on again."""
    rt = runtime(request)
    checked = path_id(endpoint_id, "we")
    url = UNSET if data.url is UNSET else await rt.egress.check_url(data.url)
    async with rt.sessions.begin() as session:
        row = await operations.update_endpoint(
            session,
            **_acting(request),
            endpoint_id=checked,
            url=url,
            event_types=data.event_types if data.event_types is UNSET else list(data.event_types),
            description=data.description,
            disabled=data.disabled,
        )
    return shaped(queries.endpoint_object(row))


@delete(
    "/webhook_endpoints/{endpoint_id:str}",
    status_code=200,
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        answer=Deleted,
        refusals=(EndpointNotFound,),
        ids="we",
    ).opt(),
)
async def delete_webhook_endpoint(
    request: ApiRequest, endpoint_id: FromPath[str]
) -> Response[bytes]:
    """Take an address out of use for ever; its deliveries stay readable."""
    checked = path_id(endpoint_id, "we")
    async with runtime(request).sessions.begin() as session:
        await operations.delete_endpoint(session, **_acting(request), endpoint_id=checked)
    return shaped(Deleted(id=checked))


@post(
    "/webhook_endpoints/{endpoint_id:str}/rotate_secret",
    status_code=200,
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        answer=EndpointObject,
        key="welcome",
        refusals=(EndpointNotFound,),
        ids="we",
    ).opt(),
)
async def rotate_webhook_secret(
    request: ApiRequest, endpoint_id: FromPath[str], data: JSONBody[Empty]
) -> Response[bytes]:
    """Make a new secret; both sign for 24 hours. `secret` is in this answer only."""
    rt = runtime(request)
    checked = path_id(endpoint_id, "we")

    async def work(session: AsyncSession, _: Claim | None) -> tuple[str, Any]:
        row, secret = await operations.rotate_secret(
            session, **_acting(request), sealer=rt.sealer, endpoint_id=checked
        )
        return row.id, queries.endpoint_object(row, secret)

    show = _shower(identity_of(request))
    return (
        await idempotent.run(request, work=work, show=show, status=200, required=False)
    ).answer()


@post(
    "/webhook_endpoints/{endpoint_id:str}/test",
    status_code=201,
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        answer=EventObject,
        status=201,
        key="welcome",
        refusals=(EndpointNotFound, EndpointDisabled),
        ids="we",
    ).opt(),
)
async def test_webhook_endpoint(
    request: ApiRequest, endpoint_id: FromPath[str], data: JSONBody[Empty]
) -> Response[bytes]:
    """Send a test event to this address alone."""
    rt, identity = runtime(request), identity_of(request)
    checked = path_id(endpoint_id, "we")

    async def show(session: AsyncSession, event_id: str) -> EventObject:
        return await queries.event(
            session, sealer=rt.sealer, **_tenant(identity), event_id=event_id
        )

    async def work(session: AsyncSession, _: Claim | None) -> tuple[str, Any]:
        event_id = await operations.send_test_event(
            session, **_acting(request), sealer=rt.sealer, endpoint_id=checked
        )
        return event_id, await show(session, event_id)

    return (
        await idempotent.run(request, work=work, show=show, status=201, required=False)
    ).answer()


@get(
    "/webhook_endpoints/{endpoint_id:str}/deliveries",
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        rows=DeliveryObject,
        query=ListDeliveries,
        refusals=(EndpointNotFound, TwoCursors),
        ids="we",
    ).opt(),
)
async def list_webhook_deliveries(
    request: ApiRequest, endpoint_id: FromPath[str]
) -> Response[bytes]:
    """List what was sent to an address and how it went, newest first."""
    tenant = _tenant(identity_of(request))
    query = read_query(request, ListDeliveries)
    checked = path_id(endpoint_id, "we")
    async with runtime(request).sessions.read() as session:
        await queries.endpoint(session, **tenant, endpoint_id=checked)
        page = await queries.deliveries(
            session,
            **tenant,
            endpoint_id=checked,
            event_id=query.event,
            payment_id=query.payment,
            state=query.state,
            cursor=_cursor(query),
        )
    return listed(request, page.data, has_more=page.has_more)


@post(
    "/webhook_deliveries/{delivery_id:str}/redeliver",
    status_code=200,
    opt=Operation(
        permission=_SCOPE,
        tag="Webhooks",
        answer=DeliveryObject,
        key="welcome",
        refusals=(DeliveryNotFound, EndpointDisabled),
        ids="whd",
    ).opt(),
)
async def redeliver_webhook(
    request: ApiRequest, delivery_id: FromPath[str], data: JSONBody[Empty]
) -> Response[bytes]:
    """Send a delivery once more, now, with the same `webhook-id`."""
    rt, identity = runtime(request), identity_of(request)
    checked = path_id(delivery_id, "whd")

    async def show(session: AsyncSession, resource_id: str) -> DeliveryObject:
        detail = await queries.delivery(
            session, sealer=rt.sealer, **_tenant(identity), delivery_id=resource_id
        )
        return detail.delivery

    async def work(session: AsyncSession, _: Claim | None) -> tuple[str, Any]:
        row = await operations.redeliver(session, **_acting(request), delivery_id=checked)
        return row.id, await show(session, row.id)

    return (
        await idempotent.run(request, work=work, show=show, status=200, required=False)
    ).answer()


HANDLERS = (
    create_webhook_endpoint,
    list_webhook_endpoints,
    get_webhook_endpoint,
    update_webhook_endpoint,
    delete_webhook_endpoint,
    rotate_webhook_secret,
    test_webhook_endpoint,
    list_webhook_deliveries,
    redeliver_webhook,
)
