"""Events: what happened, as webhooks told it, for who missed one."""

from typing import Literal

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from app.webhooks import queries
from app.webhooks.queries import Cursor, EventNotFound
from app.webhooks.schemas import EVENT_TYPES, TEST_EVENT, EventObject
from web.api import fields
from web.api.answers import TwoCursors, listed, one_cursor, shaped
from web.api.auth import identity_of
from web.api.operation import Operation
from web.deps import ApiRequest, path_id, read_query, runtime, utc

EventType = Literal[
    "payment.created",
    "payment.requires_action",
    "payment.processing",
    "payment.requires_capture",
    "payment.succeeded",
    "payment.failed",
    "payment.canceled",
    "payment.expired",
    "refund.created",
    "refund.succeeded",
    "refund.failed",
]
AnyEventType = Literal[EventType, "endpoint.test"]
# A Literal cannot be made of a tuple; a test holds the two lists together.
LISTED_TYPES = (*EVENT_TYPES, TEST_EVENT)


class ListEvents(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Filters are combined; newest first."""

    type: AnyEventType | None = None
    payment: fields.PaymentId | None = None
    created_gte: fields.Moment | None = None
    created_lt: fields.Moment | None = None
    limit: fields.Limit = 20
    starting_after: fields.EventId | None = None
    ending_before: fields.EventId | None = None


@get(
    "/events/{event_id:str}",
    opt=Operation(
        permission="events:read",
        tag="Events",
        answer=EventObject,
        refusals=(EventNotFound,),
        ids="evt",
    ).opt(),
)
async def get_event(request: ApiRequest, event_id: FromPath[str]) -> Response[bytes]:
    """Return an event as it was told; it never changes."""
    rt, identity = runtime(request), identity_of(request)
    async with rt.sessions.read() as session:
        shape = await queries.event(
            session,
            sealer=rt.sealer,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            event_id=path_id(event_id, "evt"),
        )
    return shaped(shape)


@get(
    "/events",
    opt=Operation(
        permission="events:read",
        tag="Events",
        rows=EventObject,
        query=ListEvents,
        refusals=(TwoCursors,),
    ).opt(),
)
async def list_events(request: ApiRequest) -> Response[bytes]:
    """List events, newest first. `payment.succeeded` may come before its ledger entries."""
    rt, identity = runtime(request), identity_of(request)
    query = read_query(request, ListEvents)
    one_cursor(query.starting_after, query.ending_before)
    async with rt.sessions.read() as session:
        page = await queries.events(
            session,
            sealer=rt.sealer,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            type=query.type,
            payment_id=query.payment,
            created_gte=utc(query.created_gte),
            created_lt=utc(query.created_lt),
            cursor=Cursor(
                limit=query.limit,
                starting_after=query.starting_after,
                ending_before=query.ending_before,
            ),
        )
    return listed(request, page.data, has_more=page.has_more)


HANDLERS = (
    get_event,
    list_events,
)
