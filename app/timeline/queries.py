"""A payment's whole story, merged from the rows that each part keeps of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import idempotency
from app.audit import queries as audit
from app.audit.models import AuditRow
from app.db import to_micros
from app.inbox.models import ReceivedEvent
from app.jobs import Job
from app.ledger import queries as ledger
from app.ledger.models import Account, PostingRow
from app.payments import queries as payments
from app.payments import schemas
from app.payments.models import Attempt, Customer, Payment, PspCall
from app.risk import queries as risk
from app.runtime import Runtime
from app.secrets import SealBroken, Sealer
from app.timeline import books, calls, people, risks, shop
from app.timeline.schemas import Moment, Timeline
from app.webhooks.models import Delivery, Endpoint, Event

_MOST = 500  # Rows of a kind; a payment with more is shown by its newest.
# What happened in one instant is told in this order.
_ORDER = (
    "accepted",
    "risk",
    "action",
    "refund",
    "psp_call",
    "psp_event",
    "attempt",
    "ledger",
    "event",
    "delivery",
    "dead_letter",
    "next",
)


async def timeline(
    session: AsyncSession, *, rt: Runtime, merchant_id: str, livemode: bool, payment_id: str
) -> Timeline:
    """Return the public shape of a payment's story. Raises PaymentUnknown."""
    moments = await story(
        session, rt=rt, merchant_id=merchant_id, livemode=livemode, payment_id=payment_id
    )
    return Timeline(payment=payment_id, livemode=livemode, data=moments)


async def story(
    session: AsyncSession, *, rt: Runtime, merchant_id: str, livemode: bool, payment_id: str
) -> list[Moment]:
    """Return everything that happened to a payment, oldest first, then what is due.

    Raises PaymentUnknown.
    """
    of: dict[str, Any] = {
        "merchant_id": merchant_id,
        "livemode": livemode,
        "payment_id": payment_id,
    }
    payment = await payments.payment_row(session, **of)
    attempts, psp_calls = await payments.attempts_and_calls(session, **of)
    refunds = await payments.refunds_of(session, **of)
    tried = {one.id: one for one in attempts}
    actions = await _actions(session, [payment_id, *(one.id for one in refunds)], of)
    people_of_refunds = {
        row.object_id: row.actor_name
        for row in actions
        if row.action == "refund.create" and row.object_id
    }
    made = next((row for row in actions if row.action == "payment.create"), None)
    key = await idempotency.first_key_of(session, resource_id=payment_id)
    work = await _jobs(session, of)
    check = await risk.check_of(session, payment_id)
    manual = payment.capture_method == "manual" or (check is not None and check.decision == "hold")
    answers = await _answers(session, rt.sealer, psp_calls, payment_id)
    moments = [
        shop.accepted(payment, key, made),
        *people.action_moments(actions, payment),
        *calls.call_moments(psp_calls, tried, answers),
        *calls.attempt_moments(tried, manual=manual),
        *risks.risk_moments(check, payment),
        *people.received_moments(await _received(session, attempts, of), attempts),
        *books.refund_moments(refunds, people_of_refunds),
        *books.ledger_moments(
            await ledger.payment_postings(session, **of), await ledger.payment_lines(session, **of)
        ),
        *shop.event_moments(*await _told(session, of)),
        *people.letter_moments(work),
        *calls.next_moments(tried),
        *people.due_moments(work),
    ]
    return sorted(moments, key=_place)


def _place(moment: Moment) -> tuple[Any, ...]:
    return (moment.kind == "next", moment.at, _ORDER.index(moment.kind), moment.about or "")


async def _actions(
    session: AsyncSession, object_ids: Sequence[str], of: Mapping[str, Any]
) -> list[AuditRow]:
    rows: list[AuditRow] = []
    for object_id in object_ids:
        rows += await audit.of_object(
            session,
            merchant_id=of["merchant_id"],
            livemode=of["livemode"],
            object_id=object_id,
        )
    return rows


async def _jobs(session: AsyncSession, of: Mapping[str, Any]) -> Sequence[Job]:
    query = (
        select(Job)
        .where(
            Job.payment_id == of["payment_id"],
            Job.merchant_id == of["merchant_id"],
            Job.livemode == of["livemode"],
        )
        .order_by(Job.id.desc())
        .limit(_MOST)
    )
    return (await session.scalars(query)).all()


async def _received(
    session: AsyncSession, attempts: Sequence[Attempt], of: Mapping[str, Any]
) -> Sequence[ReceivedEvent]:
    # An event that has not been applied yet names only our attempt, in its metadata.
    waiting = ReceivedEvent.attempt_id.in_([one.id for one in attempts])
    connections = {one.connection_id for one in attempts}
    query = (
        select(ReceivedEvent)
        .where(
            or_(ReceivedEvent.payment_id == of["payment_id"], waiting),
            ReceivedEvent.connection_id.in_(connections),
            ReceivedEvent.livemode == of["livemode"],
            or_(
                ReceivedEvent.merchant_id == of["merchant_id"], ReceivedEvent.merchant_id.is_(None)
            ),
        )
        .order_by(ReceivedEvent.id.desc())
        .limit(_MOST)
    )
    return (await session.scalars(query)).all()


async def _told(
    session: AsyncSession, of: Mapping[str, Any]
) -> tuple[Sequence[Event], Sequence[Delivery]]:
    events = await session.scalars(
        select(Event)
        .where(
            Event.payment_id == of["payment_id"],
            Event.merchant_id == of["merchant_id"],
            Event.livemode == of["livemode"],
        )
        .order_by(Event.id.desc())
        .limit(_MOST)
    )
    deliveries = await session.scalars(
        select(Delivery)
        .where(
            Delivery.payment_id == of["payment_id"],
            Delivery.merchant_id == of["merchant_id"],
            Delivery.livemode == of["livemode"],
        )
        .order_by(Delivery.id.desc())
        .limit(_MOST)
    )
    return events.all(), deliveries.all()


async def _answers(
    session: AsyncSession, main: Sealer, psp_calls: Sequence[PspCall], payment_id: str
) -> dict[str, str]:
    """Open the PSP's answers; what was sealed with an erased customer's key stays shut."""
    customer = await session.get(Customer, payment_id)
    sealers = [schemas.data_sealer(customer, main)] if customer is not None else []
    sealers.append(main)
    return {
        call.id: _opened(sealers, call.answer_sealed, f"psp_calls:{call.id}:answer")
        for call in psp_calls
        if call.answer_sealed
    }


def _opened(sealers: Sequence[Sealer], sealed: str, place: str) -> str:
    for sealer in sealers:
        try:
            answer = json.loads(sealer.open(sealed, place))
        except SealBroken:
            continue
        return json.dumps(answer, indent=2, ensure_ascii=False)
    return "The answer can no longer be read: the customer's data was erased."


async def shop_cursor(session: AsyncSession, *, merchant_id: str, livemode: bool) -> str:
    """Return three short texts joined by dots: of payments, of the wallet, of the endpoints.

    Each is another text as soon as something of its kind has changed; all come from indexes.
    """

    def mine(table: Any) -> tuple[Any, ...]:
        return (table.merchant_id == merchant_id, table.livemode == livemode)

    newest = await session.scalar(select(func.max(Event.id)).where(*mine(Event)))
    tried = await session.scalar(select(func.max(Attempt.id)).where(*mine(Attempt)))
    wallet = await session.scalar(select(func.sum(Account.version)).where(*mine(Account)))
    endpoints = await session.scalar(select(func.max(Endpoint.updated_at)).where(*mine(Endpoint)))
    micros = to_micros(endpoints) if endpoints else 0
    return f"{(newest or '')[-24:]}-{(tried or '')[-24:]}.{int(wallet or 0)}.{micros}"


async def payment_cursor(
    session: AsyncSession, *, merchant_id: str, livemode: bool, payment_id: str
) -> str:
    """Return a short text that is another one as soon as a payment's story has changed."""
    total, newest = 0, []
    tables: tuple[tuple[Any, Any, Any], ...] = (
        (Payment, Payment.id, Payment.updated_at),
        (Attempt, Attempt.payment_id, Attempt.updated_at),
        (PspCall, PspCall.payment_id, PspCall.finished_at),
        (PostingRow, PostingRow.payment_id, PostingRow.answered_at),
        (Event, Event.payment_id, Event.created_at),
        (Delivery, Delivery.payment_id, Delivery.next_try_at),
    )
    for table, key, column in tables:
        number, last, *tries = (
            await session.execute(
                select(
                    func.count(),
                    func.max(column),
                    *([func.sum(Delivery.tries)] if table is Delivery else []),
                ).where(
                    key == payment_id, table.merchant_id == merchant_id, table.livemode == livemode
                )
            )
        ).one()
        total += number + int((tries or [0])[0] or 0)
        newest.append(to_micros(last) if last else 0)
    return f"{total}-{'-'.join(str(one) for one in newest)}"


async def references(
    session: AsyncSession, *, merchant_id: str, livemode: bool, payment_ids: Sequence[str]
) -> dict[str, str | None]:
    """Return the shop's references of payments by their ids; foreign ids are left out."""
    found = await session.execute(
        select(Payment.id, Payment.reference).where(
            Payment.id.in_(payment_ids),
            Payment.merchant_id == merchant_id,
            Payment.livemode == livemode,
        )
    )
    return {row.id: row.reference for row in found}
