"""Payments as CSV, page by page; what a spreadsheet would run as a formula stays text."""

import csv
import io
from collections.abc import AsyncIterator, Iterable

from app import money
from app.payments import queries, schemas
from app.payments.models import Payment
from app.payments.queries import PaymentFilter
from app.payments.schemas import PaymentShape
from app.runtime import Runtime

_PAGE = 200
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
HEADINGS = (
    "id",
    "created_at",
    "status",
    "status_reason",
    "currency",
    "amount",
    "amount_captured",
    "amount_refunded",
    "fee",
    "net",
    "reference",
    "description",
    "customer_email",
    "customer_name",
    "paid_with",
    "psp",
    "psp_reference",
)


def safe(text: str | None) -> str:
    """Return text that no spreadsheet takes for a formula (S15)."""
    value = text or ""
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value


def line(cells: Iterable[str]) -> str:
    """Write one line of CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def cells(row: Payment, shape: PaymentShape) -> list[str]:
    """Return a payment's cells; sums are decimals of the currency, without thousands."""

    def amount(minor: int) -> str:
        return money.decimal(minor, row.currency, grouping=False)

    who = shape.customer
    return [
        row.id,
        row.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        row.status,
        row.status_reason or "",
        row.currency.upper(),
        amount(row.amount),
        amount(row.amount_captured),
        amount(row.amount_refunded),
        amount(row.fee - row.fee_returned),
        amount(schemas.net(row)),
        safe(row.reference),
        safe(row.description),
        safe(who.email if who else None),
        safe(who.name if who else None),
        safe(row.method),
        row.psp,
        safe(row.psp_reference),
    ]


async def payment_lines(
    rt: Runtime, *, merchant_id: str, livemode: bool, wanted: PaymentFilter
) -> AsyncIterator[str]:
    """Yield the file, newest payment first; each page is read in a transaction of its own.

    Going down by id, a payment that is made meanwhile neither appears nor moves another.
    """
    yield line(HEADINGS)
    after: str | None = None
    while True:
        async with rt.sessions.read() as session:
            page = await queries.list_payments(
                session,
                rt=rt,
                merchant_id=merchant_id,
                livemode=livemode,
                wanted=wanted,
                limit=_PAGE,
                starting_after=after,
            )
            shapes = await queries.payment_shapes(session, rt=rt, rows=page.rows)
        pairs = zip(page.rows, shapes, strict=True)
        yield "".join(line(cells(row, shape)) for row, shape in pairs)
        if not page.has_more:
            return
        after = page.rows[-1].id
