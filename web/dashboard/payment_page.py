"""Everything that the page of one payment shows, read in one transaction."""

from collections.abc import Sequence
from datetime import date
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app.ledger import queries as ledger
from app.ledger.queries import Line
from app.payments import queries, schemas
from app.payments.explain import Facts, explain
from app.payments.models import Attempt, Payment, Refund
from app.payments.states import FINAL
from app.risk import queries as risk
from app.risk.models import RiskCheck
from app.runtime import Runtime
from app.timeline import queries as timeline
from app.timeline.schemas import Moment
from web.dashboard import live
from web.dashboard.access import Viewer
from web.dashboard.views import face_of, line_words, name_of, psp_name

_NOT_NOW = (
    "Refund and capture wait until the outcome is known. A cancel that you ask for now is kept "
    "and carried out then."
)


class PartLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger as the page shows it."""

    position: int
    words: str
    part: str
    change: int
    before: int
    after: int


class RefundBadge(msgspec.Struct, frozen=True, kw_only=True):
    """A refund that is on its way."""

    amount: int
    face: str
    word: str


class DayOf(msgspec.Struct, frozen=True, kw_only=True):
    """The moments of one day."""

    day: Any
    label: str
    moments: list[Moment]


class May(msgspec.Struct, frozen=True, kw_only=True):
    """Which buttons stand on the page."""

    refund: bool
    capture: bool
    cancel: bool
    ask: bool
    review: bool


class PaymentPage(msgspec.Struct, frozen=True, kw_only=True):
    """One payment, with all that its page says about it; amounts in minor units."""

    row: Payment
    name: str
    face: str
    address: str
    why: str
    position: int | None
    open_refunds: list[RefundBadge]
    may: May
    risk: RiskCheck | None
    lines: list[PartLine]
    days: list[DayOf]
    customer_name: str | None
    customer_email: str | None
    psp: str
    finished: bool
    checkout_url: str | None
    metadata: list[tuple[str, str]]
    not_now: str
    left: int
    net: int
    cursor: str


async def load(
    session: AsyncSession, *, rt: Runtime, viewer: Viewer, payment_id: str
) -> PaymentPage:
    """Read a payment's page. Raises PaymentUnknown."""
    of: dict[str, Any] = {**viewer.tenant, "payment_id": payment_id}
    row = await queries.payment_row(session, **of)
    (shape,) = await queries.payment_shapes(session, rt=rt, rows=[row])
    attempts, calls = await queries.attempts_and_calls(session, **of)
    refunds = await queries.refunds_of(session, **of)
    lines = await ledger.payment_lines(session, **of)
    moments = await timeline.story(session, rt=rt, **of)
    check = await risk.check_of(session, row.id)
    why = explain(
        Facts(
            payment=row,
            attempts=attempts,
            calls=calls,
            refunds=refunds,
            risk=check,
            now=rt.clock(),
        )
    )
    return PaymentPage(
        row=row,
        name=name_of(row),
        face=face_of(row),
        address=f"{viewer.base}/payments/{row.id}",
        why=why.text,
        position=shape.ledger_position,
        open_refunds=_open_refunds(refunds, attempts),
        may=_may(viewer, row, attempts, check),
        risk=check,
        lines=[_part_line(line) for line in lines],
        days=_by_day(moments),
        customer_name=shape.customer.name if shape.customer else None,
        customer_email=shape.customer.email if shape.customer else None,
        psp=psp_name(row.psp),
        finished=row.status in FINAL,
        checkout_url=shape.checkout_url,
        metadata=sorted(row.meta.items()),
        not_now=_NOT_NOW if row.status_reason == "outcome_unknown" else "",
        left=schemas.refundable(row),
        net=schemas.net(row),
        cursor=await live.cursor(session, viewer=viewer, payment_id=row.id),
    )


def _open_refunds(refunds: Sequence[Refund], attempts: Sequence[Attempt]) -> list[RefundBadge]:
    unknown = {row.refund_id for row in attempts if row.state == "unknown"}
    return [
        RefundBadge(
            amount=refund.amount,
            face="unknown" if refund.id in unknown else "pending",
            word=": outcome unknown" if refund.id in unknown else " sent",
        )
        for refund in refunds
        if refund.status == "pending"
    ]


def _may(viewer: Viewer, row: Payment, attempts: Sequence[Attempt], check: RiskCheck | None) -> May:
    review = check is not None and check.review == "waiting"
    held = row.status_reason in {"held_for_operator", "held_for_review"} and not review
    ending = row.status in FINAL or row.cancel_requested_at is not None or held
    return May(
        refund=viewer.can("payments:refund") and schemas.refundable(row) > 0,
        capture=viewer.can("payments:capture") and row.status == "requires_capture",
        cancel=viewer.can("payments:cancel") and not ending,
        ask=viewer.can("payments:write") and any(one.state == "unknown" for one in attempts),
        review=review,
    )


def _part_line(line: Line) -> PartLine:
    return PartLine(
        position=line.position,
        words=line_words(line),
        part=line.part,
        change=line.change,
        before=line.before,
        after=line.after,
    )


def _by_day(moments: Sequence[Moment]) -> list[DayOf]:
    def day_of(moment: Moment) -> date:
        return moment.at.date()

    # Events that no endpoint takes are for the API; here they would only be noise.
    shown = [moment for moment in moments if moment.kind != "event"]
    groups = [(day, list(group)) for day, group in groupby(shown, day_of)]
    return [
        DayOf(day=group[0].at, label=f"{day.day} {day:%B} {day.year}", moments=group)
        for day, group in groups
    ]
