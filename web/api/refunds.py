"""Refunds: create, read, list."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncSession

from app.money import MAX_AMOUNT
from app.payments import operations, queries
from app.payments.change import PaymentUnknown
from app.payments.limits import AmountNotRepresentable
from app.payments.operations import AmountExceedsRefundable, PaymentWrongState, RefundAmountStale
from app.payments.queries import CursorUnknown, RefundFilter, RefundUnknown
from app.payments.schemas import RefundShape
from web.api import examples, fields, idempotent
from web.api.answers import TwoCursors, listed, one_cursor, shaped
from web.api.auth import actor_of, identity_of
from web.api.idempotent import Claim
from web.api.operation import Operation
from web.api.payment_inputs import lower
from web.deps import ApiRequest, path_id, read_query, runtime, utc
from web.looking import look_soon


class CreateRefund(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Money to give back; all that is left when no amount is given.

    `refund_amount_available` is what you believe is left: 412 when it is not.
    """

    payment: fields.PaymentId
    amount: fields.Amount | None = None
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | None = None
    refund_amount_available: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] | None = None
    metadata: fields.Metadata | None = None


class ListRefunds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Filters are combined; newest first."""

    payment: fields.PaymentId | None = None
    status: Literal["pending", "succeeded", "failed"] | None = None
    currency: fields.Currency | None = None
    created_gte: fields.Moment | None = None
    created_lt: fields.Moment | None = None
    amount_gte: fields.AmountBound | None = None
    amount_lte: fields.AmountBound | None = None
    limit: fields.Limit = 20
    starting_after: fields.RefundId | None = None
    ending_before: fields.RefundId | None = None


@post(
    "/refunds",
    status_code=201,
    opt=Operation(
        permission="refunds:write",
        tag="Refunds",
        answer=RefundShape,
        status=201,
        key="required",
        refusals=(
            PaymentUnknown,
            PaymentWrongState,
            RefundAmountStale,
            AmountExceedsRefundable,
            AmountNotRepresentable,
        ),
        example=examples.CREATE_REFUND,
    ).opt(),
)
async def create_refund(request: ApiRequest, data: JSONBody[CreateRefund]) -> Response[bytes]:
    """Give money back: the whole payment or a part.

    The answer is `pending`: the ledger sets the sum aside, then the PSP is asked. A refund that
    the wallet does not cover becomes `failed` with `insufficient_balance`.
    """
    rt, identity, actor = runtime(request), identity_of(request), actor_of(request)

    async def work(session: AsyncSession, _: Claim | None) -> tuple[str, Any]:
        shape = await operations.request_refund(
            session,
            rt=rt,
            actor=actor,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            payment_id=data.payment,
            amount=data.amount,
            reason=data.reason,
            amount_available=data.refund_amount_available,
            metadata=data.metadata,
        )
        return shape.id, shape

    async def show(session: AsyncSession, refund_id: str) -> RefundShape:
        return await queries.get_refund(
            session,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            refund_id=refund_id,
        )

    outcome = await idempotent.run(request, work=work, show=show, status=201)
    return outcome.answer()


@get(
    "/refunds/{refund_id:str}",
    opt=Operation(
        permission="payments:read",
        tag="Refunds",
        answer=RefundShape,
        refusals=(RefundUnknown,),
        ids="re",
    ).opt(),
)
async def get_refund(request: ApiRequest, refund_id: FromPath[str]) -> Response[bytes]:
    """Return a refund.

    Reading one whose outcome is unknown brings the next look at the PSP forward.
    """
    identity = identity_of(request)
    async with runtime(request).sessions.read() as session:
        shape = await queries.get_refund(
            session,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            refund_id=path_id(refund_id, "re"),
        )
        unknown = shape.status == "pending" and await queries.is_uncertain(
            session,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            refund_id=shape.id,
        )
    if unknown:
        await look_soon(request, shape.payment)
    return shaped(shape)


@get(
    "/refunds",
    opt=Operation(
        permission="payments:read",
        tag="Refunds",
        rows=RefundShape,
        query=ListRefunds,
        refusals=(CursorUnknown, TwoCursors),
    ).opt(),
)
async def list_refunds(request: ApiRequest) -> Response[bytes]:
    """List refunds, newest first."""
    identity = identity_of(request)
    query = read_query(request, ListRefunds)
    one_cursor(query.starting_after, query.ending_before)
    wanted = RefundFilter(
        payment_id=query.payment,
        status=query.status,
        currency=lower(query.currency),
        created_gte=utc(query.created_gte),
        created_lt=utc(query.created_lt),
        amount_gte=query.amount_gte,
        amount_lte=query.amount_lte,
    )
    async with runtime(request).sessions.read() as session:
        shapes, has_more = await queries.list_refunds(
            session,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            wanted=wanted,
            limit=query.limit,
            starting_after=query.starting_after,
            ending_before=query.ending_before,
        )
    return listed(request, shapes, has_more=has_more)


HANDLERS = (
    create_refund,
    get_refund,
    list_refunds,
)
