"""Reading payments and refunds; nothing here decides."""

import operator
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.ledger.models import PostingRow
from app.payments import schemas
from app.payments.accepting import email_hash
from app.payments.change import PaymentUnknown, shape_of
from app.payments.models import Attempt, Customer, Payment, PspCall, Refund
from app.runtime import Runtime


class RefundUnknown(NotFound):
    """No such refund of this merchant in this mode."""

    code = "refund_not_found"


class CursorUnknown(NotFound):
    """`starting_after` or `ending_before` names nothing of this list."""

    code = "cursor_not_found"


class PaymentFilter(msgspec.Struct, kw_only=True, frozen=True):
    """What a list of payments is narrowed to; null means all. Amounts in minor units."""

    statuses: tuple[str, ...] = ()
    attention: bool = False  # Outcome unknown or held for a person.
    refunded: bool = False  # Partly or wholly.
    currency: str | None = None
    reference: str | None = None
    email: str | None = None
    psp: str | None = None
    created_gte: datetime | None = None
    created_lt: datetime | None = None
    amount_gte: int | None = None
    amount_lte: int | None = None
    search: str | None = None  # Reference, id, PSP reference or e-mail, exactly.


class RefundFilter(msgspec.Struct, kw_only=True, frozen=True):
    """What a list of refunds is narrowed to; null means all. Amounts in minor units."""

    payment_id: str | None = None
    status: str | None = None
    currency: str | None = None
    created_gte: datetime | None = None
    created_lt: datetime | None = None
    amount_gte: int | None = None
    amount_lte: int | None = None


class Page(msgspec.Struct, kw_only=True):
    """One page of rows, newest first."""

    rows: list[Any]
    has_more: bool


_ROW = select(Payment).where(
    Payment.id == bindparam("payment"),
    Payment.merchant_id == bindparam("merchant"),
    Payment.livemode == bindparam("mode"),
)
_CHOSEN: BindParameter[Any] = bindparam("payments", expanding=True)
_CUSTOMERS = select(Customer).where(Customer.payment_id.in_(_CHOSEN))
_ATTEMPTS = select(Attempt).where(Attempt.payment_id.in_(_CHOSEN)).order_by(Attempt.id)


async def payment_row(
    session: AsyncSession, *, merchant_id: str, livemode: bool, payment_id: str
) -> Payment:
    """Return a payment's row. Raises PaymentUnknown."""
    wanted = {"payment": payment_id, "merchant": merchant_id, "mode": livemode}
    row = await session.scalar(_ROW, wanted)
    if row is None:
        raise PaymentUnknown("There is no such payment.")
    return row


async def get_payment(
    session: AsyncSession,
    *,
    rt: Runtime,
    merchant_id: str,
    livemode: bool,
    payment_id: str,
    expand_attempts: bool = False,
) -> schemas.PaymentShape:
    """Return one payment's public shape. Raises PaymentUnknown."""
    row = await payment_row(
        session, merchant_id=merchant_id, livemode=livemode, payment_id=payment_id
    )
    shapes = await payment_shapes(session, rt=rt, rows=[row], expand_attempts=expand_attempts)
    return shapes[0]


async def payment_shapes(
    session: AsyncSession, *, rt: Runtime, rows: Sequence[Payment], expand_attempts: bool = False
) -> list[schemas.PaymentShape]:
    """Return the public shapes of payments that the caller has already chosen by merchant."""
    ids = [row.id for row in rows]
    wanted = {"payments": ids}
    found = await session.scalars(_CUSTOMERS, wanted)
    customers = {customer.payment_id: customer for customer in found}
    tried: dict[str, list[Attempt]] = {}
    for attempt in await session.scalars(_ATTEMPTS, wanted):
        tried.setdefault(attempt.payment_id, []).append(attempt)
    seqs = await positions(session, PostingRow.payment_id, ids)
    shapes = []
    for row in rows:
        shape = shape_of(rt, row, customers.get(row.id))
        mine = tried.get(row.id, [])
        shape.attempts = (
            [schemas.attempt(one) for one in mine] if expand_attempts else [one.id for one in mine]
        )
        shape.ledger_position = seqs.get(row.id)
        shapes.append(shape)
    return shapes


async def positions(session: AsyncSession, column: Any, ids: Sequence[str]) -> dict[str, int]:
    """Return each id's last position in the ledger; ids without one are left out."""
    if not ids:
        return {}
    query = (
        select(column, func.max(PostingRow.seq))
        .where(column.in_(ids), PostingRow.status == "accepted")
        .group_by(column)
    )
    return {row[0]: row[1] for row in (await session.execute(query)).all()}


def _within(
    model: type[Payment | Refund], wanted: PaymentFilter | RefundFilter
) -> list[ColumnElement[bool]]:
    """Return the conditions of the bounds on time and amount that were given."""
    bounds = (
        (operator.ge, model.created_at, wanted.created_gte),
        (operator.lt, model.created_at, wanted.created_lt),
        (operator.ge, model.amount, wanted.amount_gte),
        (operator.le, model.amount, wanted.amount_lte),
    )
    return [compare(column, bound) for compare, column, bound in bounds if bound is not None]


def _filtered(
    rt: Runtime, *, merchant_id: str, livemode: bool, wanted: PaymentFilter
) -> Select[Any]:
    query = select(Payment).where(Payment.merchant_id == merchant_id, Payment.livemode == livemode)
    conditions: list[Any] = []
    if wanted.statuses:
        conditions.append(Payment.status.in_(wanted.statuses))
    if wanted.attention:
        reasons = ("outcome_unknown", "held_for_operator", "held_for_review")
        conditions.append(Payment.status_reason.in_(reasons))
    if wanted.refunded:
        conditions.append(Payment.amount_refunded > 0)
    simple = (
        (Payment.currency, wanted.currency),
        (Payment.reference, wanted.reference),
        (Payment.psp, wanted.psp),
    )
    conditions += [column == value for column, value in simple if value is not None]
    conditions += _within(Payment, wanted)
    if wanted.email is not None:
        conditions.append(Payment.id.in_(_by_email(rt, merchant_id, livemode, wanted.email)))
    if wanted.search:
        text = wanted.search.strip()
        conditions.append(
            or_(
                Payment.reference == text,
                Payment.id == text,
                Payment.psp_reference == text,
                Payment.id.in_(_by_email(rt, merchant_id, livemode, text)),
            )
        )
    return query.where(*conditions)


def _by_email(rt: Runtime, merchant_id: str, livemode: bool, email: str) -> Any:
    return select(Customer.payment_id).where(
        Customer.merchant_id == merchant_id,
        Customer.livemode == livemode,
        Customer.email_hash == email_hash(rt, email),
    )


async def list_payments(
    session: AsyncSession,
    *,
    rt: Runtime,
    merchant_id: str,
    livemode: bool,
    wanted: PaymentFilter,
    limit: int,
    starting_after: str | None = None,
    ending_before: str | None = None,
) -> Page:
    """Return a page of payment rows, newest first. Raises CursorUnknown."""
    query = _filtered(rt, merchant_id=merchant_id, livemode=livemode, wanted=wanted)
    cursor = starting_after or ending_before
    if cursor is not None:
        known = await session.scalar(
            select(Payment.id).where(
                Payment.id == cursor,
                Payment.merchant_id == merchant_id,
                Payment.livemode == livemode,
            )
        )
        if known is None:
            name = "starting_after" if starting_after else "ending_before"
            raise CursorUnknown("There is no such payment.", param=name)
    return await paged(
        session,
        query,
        Payment.id,
        limit,
        starting_after=starting_after,
        ending_before=ending_before,
    )


async def paged(
    session: AsyncSession,
    query: Select[Any],
    column: Any,
    limit: int,
    *,
    starting_after: str | None,
    ending_before: str | None,
) -> Page:
    """Return one page of a query by a sortable id, newest first."""
    if ending_before is not None:
        query = query.where(column > ending_before).order_by(column.asc())
    else:
        if starting_after is not None:
            query = query.where(column < starting_after)
        query = query.order_by(column.desc())
    rows = list((await session.scalars(query.limit(limit + 1))).all())
    page = rows[:limit]
    if ending_before is not None:
        page.reverse()
    return Page(rows=page, has_more=len(rows) > limit)


async def get_refund(
    session: AsyncSession, *, merchant_id: str, livemode: bool, refund_id: str
) -> schemas.RefundShape:
    """Return one refund's public shape. Raises RefundUnknown."""
    row = await session.scalar(
        select(Refund).where(
            Refund.id == refund_id,
            Refund.merchant_id == merchant_id,
            Refund.livemode == livemode,
        )
    )
    if row is None:
        raise RefundUnknown("There is no such refund.")
    seqs = await positions(session, PostingRow.refund_id, [row.id])
    return schemas.refund(row, seqs.get(row.id))


async def is_uncertain(
    session: AsyncSession, *, merchant_id: str, livemode: bool, refund_id: str
) -> bool:
    """Tell whether nobody knows what became of a refund's request."""
    query = select(Attempt.id).where(
        Attempt.refund_id == refund_id,
        Attempt.merchant_id == merchant_id,
        Attempt.livemode == livemode,
        Attempt.state == "unknown",
    )
    return await session.scalar(query.limit(1)) is not None


async def list_refunds(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    wanted: RefundFilter,
    limit: int,
    starting_after: str | None = None,
    ending_before: str | None = None,
) -> tuple[list[schemas.RefundShape], bool]:
    """Return a page of refunds, newest first, and whether there are more. Raises CursorUnknown."""
    query = select(Refund).where(Refund.merchant_id == merchant_id, Refund.livemode == livemode)
    cursor = starting_after or ending_before
    if cursor is not None and await session.scalar(query.where(Refund.id == cursor)) is None:
        name = "starting_after" if starting_after else "ending_before"
        raise CursorUnknown("There is no such refund.", param=name)
    simple = (
        (Refund.payment_id, wanted.payment_id),
        (Refund.status, wanted.status),
        (Refund.currency, wanted.currency),
    )
    query = query.where(*[column == value for column, value in simple if value is not None])
    query = query.where(*_within(Refund, wanted))
    page = await paged(
        session, query, Refund.id, limit, starting_after=starting_after, ending_before=ending_before
    )
    seqs = await positions(session, PostingRow.refund_id, [row.id for row in page.rows])
    return [schemas.refund(row, seqs.get(row.id)) for row in page.rows], page.has_more


async def refunds_of(
    session: AsyncSession, *, merchant_id: str, livemode: bool, payment_id: str
) -> list[Refund]:
    """Return a payment's refunds, oldest first."""
    query = select(Refund).where(
        Refund.payment_id == payment_id,
        Refund.merchant_id == merchant_id,
        Refund.livemode == livemode,
    )
    return list((await session.scalars(query.order_by(Refund.id))).all())


async def attempts_and_calls(
    session: AsyncSession, *, merchant_id: str, livemode: bool, payment_id: str
) -> tuple[list[Attempt], list[PspCall]]:
    """Return a payment's attempts and PSP calls, oldest first."""
    mine = (Attempt.merchant_id == merchant_id, Attempt.livemode == livemode)
    tried = await session.scalars(
        select(Attempt).where(Attempt.payment_id == payment_id, *mine).order_by(Attempt.id)
    )
    calls = await session.scalars(
        select(PspCall)
        .where(
            PspCall.payment_id == payment_id,
            PspCall.merchant_id == merchant_id,
            PspCall.livemode == livemode,
        )
        .order_by(PspCall.id)
    )
    return list(tried.all()), list(calls.all())


async def calls_since(session: AsyncSession, *, since: datetime) -> dict[tuple[str, str], int]:
    """Return how many calls to PSPs began after a moment, by connection and class of outcome.

    `unfinished` are those that are out, or whose end nobody wrote down.
    """
    rows = await session.execute(
        select(PspCall.connection_id, PspCall.outcome, func.count())
        .where(PspCall.started_at > since)
        .group_by(PspCall.connection_id, PspCall.outcome)
    )
    return {(connection, outcome or "unfinished"): count for connection, outcome, count in rows}


async def is_suspended(session: AsyncSession, reference: str | None) -> bool:
    """Tell whether money of an object of the PSP is (or was) held apart."""
    key = f"unexpected_receipt:{reference}"
    found = await session.scalar(select(PostingRow.id).where(PostingRow.key == key).limit(1))
    return found is not None
