"""Payments as pages show them: their name, face, customer, and the PSP's name."""

from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app.ledger.queries import Line
from app.payments.explain import decline_words
from app.payments.models import Payment
from app.payments.queries import payment_shapes
from app.runtime import Runtime
from web.render.badges import payment_face

_PSPS = {"sandbox": "Sandbox PSP", "stripe": "Stripe"}


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A payment in a list."""

    row: Payment
    name: str
    face: str
    who: str
    method: str | None


def name_of(row: Payment) -> str:
    """Return what a payment is called: the shop's reference, else the two ends of its id."""
    return row.reference or short(row.id)


def short(payment_id: str) -> str:
    """Return the two ends of an id, enough to tell payments apart by eye."""
    return f"{payment_id[:10]}…{payment_id[-6:]}"


def face_of(row: Payment) -> str:
    """Return the key of the payment's badge."""
    declined = row.failure_decline_code is not None or bool(decline_words(row.failure_code))
    return payment_face(
        row.status,
        status_reason=row.status_reason,
        captured=row.amount_captured,
        refunded=row.amount_refunded,
        declined=declined,
    )


def psp_name(psp: str) -> str:
    """Return how a PSP is called in pages."""
    return _PSPS.get(psp, psp.title())


async def items(session: AsyncSession, *, rt: Runtime, rows: Sequence[Payment]) -> list[Item]:
    """Return payments that the caller has chosen by merchant, with their customers."""
    shapes = await payment_shapes(session, rt=rt, rows=rows)
    made = []
    for row, shape in zip(rows, shapes, strict=True):
        who = shape.customer
        made.append(
            Item(
                row=row,
                name=name_of(row),
                face=face_of(row),
                who=(who.name or who.email or "") if who else "",
                method=row.method,
            )
        )
    return made


_LINES = {
    "settle": "Released",
    "refund_reserve": "Refund reserved",
    "refund_settle": "Refund paid",
    "refund_release": "Refund put back",
    "refund_reversal": "Refund taken back",
}


def line_words(line: Line) -> str:
    """Return what a line of the ledger is, in a word or two."""
    if line.kind == "capture":
        return "Payment" if line.change > 0 else "Fee"
    return _LINES.get(line.kind, line.kind.replace("_", " ").capitalize())
