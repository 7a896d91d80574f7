"""Payments: create, read, list, capture, cancel."""

from collections.abc import Callable
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.merchants.keys import KeyIdentity
from app.payments import accepting, operations, queries
from app.payments.accepting import PspNotConnected, ReferenceInUse
from app.payments.change import PaymentUnknown
from app.payments.limits import (
    AmountAboveMaximum,
    AmountBelowMinimum,
    AmountNotRepresentable,
    CurrencyNotSupported,
)
from app.payments.operations import (
    AmountTooLarge,
    PaymentAlreadyPaid,
    PaymentBusy,
    PaymentWrongState,
)
from app.payments.queries import CursorUnknown, PaymentFilter
from app.payments.schemas import PaymentShape
from app.runtime import Runtime
from app.timeline import queries as story
from app.timeline.schemas import Timeline
from web.api import examples, idempotent
from web.api.answers import TwoCursors, listed, one_cursor, shaped, until, wait_seconds
from web.api.auth import actor_of, identity_of
from web.api.idempotent import Claim
from web.api.operation import Operation
from web.api.payment_inputs import (
    CancelPayment,
    CapturePayment,
    CreatePayment,
    GetPayment,
    ListPayments,
    UrlNotAllowed,
    lower,
    new_payment,
)
from web.deps import ApiRequest, path_id, read_query, runtime, utc
from web.looking import look_soon


def _shower(
    rt: Runtime, identity: KeyIdentity, *, expand: bool = False
) -> Callable[[AsyncSession, str], Any]:
    async def show(session: AsyncSession, payment_id: str) -> PaymentShape:
        return await queries.get_payment(
            session,
            rt=rt,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            payment_id=payment_id,
            expand_attempts=expand,
        )

    return show


@post(
    "/payments",
    status_code=201,
    opt=Operation(
        permission="payments:write",
        tag="Payments",
        answer=PaymentShape,
        status=201,
        key="required",
        refusals=(
            ReferenceInUse,
            PspNotConnected,
            CurrencyNotSupported,
            AmountBelowMinimum,
            AmountAboveMaximum,
            AmountNotRepresentable,
            UrlNotAllowed,
        ),
        example=examples.CREATE_PAYMENT,
    ).opt(),
)
async def create_payment(request: ApiRequest, data: JSONBody[CreatePayment]) -> Response[bytes]:
    """Accept a payment.

    It is stored before the PSP is asked, so the answer is `processing` or `requires_action`;
    `Prefer: wait=5` waits up to 10 s for a final status. Without `payment_method` the customer
    pays at `checkout_url`, which works at once, also while the PSP is down.
    """
    rt, identity, actor = runtime(request), identity_of(request), actor_of(request)

    async def work(session: AsyncSession | db.Lone, claim: Claim | None) -> tuple[str, Any]:
        payment_id = rt.ids("pay")
        shape = await accepting.create_payment(
            session,
            rt=rt,
            actor=actor,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            new=new_payment(data, livemode=identity.livemode),
            extra_rows=claim.rows(payment_id) if claim else (),
            payment_id=payment_id,
        )
        return payment_id, shape

    return await _act(request, work, status=201, at_once=work)


async def _act(
    request: ApiRequest,
    work: idempotent.Work,
    *,
    status: int,
    at_once: idempotent.WorkAtOnce | None = None,
) -> Response[bytes]:
    """Do the work once for its key, then wait for a final status if the client prefers to."""
    rt, identity = runtime(request), identity_of(request)
    show = _shower(rt, identity)
    outcome = await idempotent.run(request, work=work, show=show, status=status, at_once=at_once)
    seconds = wait_seconds(request)
    headers = {}
    if seconds and outcome.shape is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        if not outcome.shape.finished:
            outcome.shape = await _settled(rt, show, outcome.shape.id, seconds)
    return outcome.answer(headers)


async def _settled(rt: Runtime, show: Any, payment_id: str, seconds: int) -> PaymentShape:
    async def look() -> PaymentShape:
        async with rt.sessions.read() as session:
            shape: PaymentShape = await show(session, payment_id)
            return shape

    settled: PaymentShape = await until(look, lambda shape: shape.finished, seconds=seconds)
    return settled


@get(
    "/payments/{payment_id:str}",
    opt=Operation(
        permission="payments:read",
        tag="Payments",
        answer=PaymentShape,
        query=GetPayment,
        refusals=(PaymentUnknown,),
        ids="pay",
    ).opt(),
)
async def get_payment(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """Return a payment.

    Reading one whose outcome is unknown, or that is being canceled, brings the next look at the PSP
    forward.
    """
    rt, identity = runtime(request), identity_of(request)
    query = read_query(request, GetPayment)
    show = _shower(rt, identity, expand=bool(query.expand))
    async with rt.sessions.read() as session:
        shape = await show(session, path_id(payment_id, "pay"))
    if shape.status_reason in {"outcome_unknown", "canceling"}:
        await look_soon(request, shape.id)
    return shaped(shape)


@get(
    "/payments",
    opt=Operation(
        permission="payments:read",
        tag="Payments",
        rows=PaymentShape,
        query=ListPayments,
        refusals=(CursorUnknown, TwoCursors),
    ).opt(),
)
async def list_payments(request: ApiRequest) -> Response[bytes]:
    """List payments, newest first."""
    rt, identity = runtime(request), identity_of(request)
    query = read_query(request, ListPayments)
    one_cursor(query.starting_after, query.ending_before)
    wanted = PaymentFilter(
        statuses=(query.status,) if query.status else (),
        currency=lower(query.currency),
        reference=query.reference,
        email=query.customer_email,
        created_gte=utc(query.created_gte),
        created_lt=utc(query.created_lt),
        amount_gte=query.amount_gte,
        amount_lte=query.amount_lte,
    )
    async with rt.sessions.read() as session:
        page = await queries.list_payments(
            session,
            rt=rt,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            wanted=wanted,
            limit=query.limit,
            starting_after=query.starting_after,
            ending_before=query.ending_before,
        )
        shapes = await queries.payment_shapes(
            session, rt=rt, rows=page.rows, expand_attempts=bool(query.expand)
        )
    return listed(request, shapes, has_more=page.has_more)


@get(
    "/payments/{payment_id:str}/timeline",
    opt=Operation(
        permission="payments:read",
        tag="Payments",
        answer=Timeline,
        refusals=(PaymentUnknown,),
        ids="pay",
    ).opt(),
)
async def get_payment_timeline(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """Tell everything that happened to a payment, oldest first, and what is due next."""
    rt, identity = runtime(request), identity_of(request)
    async with rt.sessions.read() as session:
        told = await story.timeline(
            session,
            rt=rt,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            payment_id=path_id(payment_id, "pay"),
        )
    return shaped(told)


@post(
    "/payments/{payment_id:str}/capture",
    status_code=200,
    opt=Operation(
        permission="payments:write",
        tag="Payments",
        answer=PaymentShape,
        key="required",
        refusals=(
            PaymentUnknown,
            PaymentBusy,
            PaymentWrongState,
            AmountTooLarge,
            AmountNotRepresentable,
        ),
        ids="pay",
        example={"amount": 12840},
    ).opt(),
)
async def capture_payment(
    request: ApiRequest, payment_id: FromPath[str], data: JSONBody[CapturePayment]
) -> Response[bytes]:
    """Take the money that is held, or part of it; the rest of the authorization is released."""
    rt, identity, actor = runtime(request), identity_of(request), actor_of(request)
    checked, busy = path_id(payment_id, "pay"), False

    async def work(session: AsyncSession, _: Claim | None) -> tuple[str, Any]:
        nonlocal busy
        try:
            shape = await operations.request_capture(
                session,
                rt=rt,
                actor=actor,
                merchant_id=identity.merchant_id,
                livemode=identity.livemode,
                payment_id=checked,
                amount=data.amount,
            )
        except PaymentBusy:
            busy = True
            raise
        return checked, shape

    answer = await _act(request, work, status=200)
    if busy:
        await look_soon(request, checked)  # Whoever asks again finds more known.
    return answer


@post(
    "/payments/{payment_id:str}/cancel",
    status_code=200,
    opt=Operation(
        permission="payments:write",
        tag="Payments",
        answer=PaymentShape,
        key="required",
        refusals=(PaymentUnknown, PaymentAlreadyPaid, PaymentWrongState),
        ids="pay",
    ).opt(),
)
async def cancel_payment(
    request: ApiRequest, payment_id: FromPath[str], data: JSONBody[CancelPayment]
) -> Response[bytes]:
    """Ask for an end without a charge; only the PSP's confirmation ends a payment it knows."""
    rt, identity, actor = runtime(request), identity_of(request), actor_of(request)
    checked = path_id(payment_id, "pay")

    async def work(session: AsyncSession, _: Claim | None) -> tuple[str, Any]:
        shape = await operations.request_cancel(
            session,
            rt=rt,
            actor=actor,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            payment_id=checked,
        )
        return checked, shape

    return await _act(request, work, status=200)


HANDLERS = (
    create_payment,
    get_payment,
    list_payments,
    get_payment_timeline,
    capture_payment,
    cancel_payment,
)
