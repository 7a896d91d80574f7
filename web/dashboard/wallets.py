"""Wallets: what a shop has in each currency, and the ledger lines that made it so."""

from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Problem
from app.ids import is_id
from app.ledger import chart, queries
from app.ledger.queries import Balance, Line
from app.timeline import queries as timeline
from web.dashboard import live
from web.dashboard.access import Looking, Viewer
from web.dashboard.views import line_words, short
from web.deps import runtime
from web.render import render

PAGE = 25
Req = Request[Any, Any, Any]


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger with the payment that it belongs to."""

    line: Line
    words: str
    payment_name: str
    payment_address: str


class WalletsPage(msgspec.Struct, frozen=True, kw_only=True):
    """The wallets' page for one chosen currency."""

    balances: list[Balance]
    currency: str
    lines: list[LedgerLine]
    position: int
    tabs: list[dict[str, Any]]
    payment: str | None
    newer: str
    older: str
    address: str
    without_payment: str
    filtered: bool


@get("/wallets", opt={"permission": "ledger:read"})
async def show(request: Req, viewer: Looking) -> Response[str]:
    """Show the balances and the history of one currency; htmx gets the cards alone."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        page = await _page(session, viewer, dict(request.query_params))
        cursor = await live.cursor(session, viewer=viewer)
    return render(
        request,
        "wallets/index.html",
        fragment="wallets/_wallets.html",
        shell=viewer.shell("wallets"),
        page=page,
        cursor=cursor,
    )


async def _page(session: AsyncSession, viewer: Viewer, sent: dict[str, str]) -> WalletsPage:
    wallet = await queries.balance(session, **viewer.tenant)
    balances = in_order(wallet.balances, first=viewer.merchant.currency)
    known = [one.currency for one in balances]
    currency = sent.get("currency", "").lower()
    currency = currency if currency in known else (known or [viewer.merchant.currency])[0]
    part = sent.get("part", "") if sent.get("part", "") in chart.PARTS else ""
    payment = sent.get("payment", "")
    payment = payment if is_id(payment, "pay") else ""
    lines, has_more, back = await _lines(
        session, viewer, currency=currency, part=part, payment=payment, sent=sent
    )
    base = f"{viewer.base}/wallets"

    def address(**changes: str) -> str:
        fields = {"currency": currency, "part": part, "payment": payment, **changes}
        return f"{base}?{urlencode({name: value for name, value in fields.items() if value})}"

    first, last = (lines[0].id, lines[-1].id) if lines else ("", "")
    newer = has_more if back else bool(sent.get("after"))
    older = True if back else has_more
    return WalletsPage(
        balances=balances,
        currency=currency,
        lines=await _named(session, viewer, lines),
        position=wallet.position,
        tabs=[
            {"label": label, "href": address(part=key), "current": key == part}
            for key, label in (("", "All parts"), *((key, key.capitalize()) for key in chart.PARTS))
        ],
        payment=payment or None,
        newer=address(before=first) if newer and first else "",
        older=address(after=last) if older and last else "",
        address=base,
        without_payment=address(payment=""),
        filtered=bool(part or payment),
    )


def in_order(balances: tuple[Balance, ...], *, first: str) -> list[Balance]:
    """Return wallets with the shop's own currency first, the others by code."""
    return sorted(balances, key=lambda one: (one.currency != first, one.currency))


async def _lines(
    session: AsyncSession,
    viewer: Viewer,
    *,
    currency: str,
    part: str,
    payment: str,
    sent: dict[str, str],
) -> tuple[list[Line], bool, bool]:
    """Return a page of lines, whether there are more that way, and whether it went back."""
    of: dict[str, Any] = {
        **viewer.tenant,
        "parts": (part,) if part else tuple(chart.PARTS),
        "currency": currency,
        "payment_id": payment or None,
        "limit": PAGE,
    }
    before, after = sent.get("before") or None, sent.get("after") or None
    if before or after:
        cursor = {"ending_before": before} if before else {"starting_after": after}
        try:
            lines, more = await queries.entries(session, **of, **cursor)
        except Problem:
            before = after = None  # An old or foreign address: the first page is the answer.
        else:
            return lines, more, before is not None
    lines, more = await queries.entries(session, **of)
    sent.pop("after", None)
    return lines, more, False


async def _named(session: AsyncSession, viewer: Viewer, lines: list[Line]) -> list[LedgerLine]:
    ids = {line.payment_id for line in lines if line.payment_id}
    found = await timeline.references(session, **viewer.tenant, payment_ids=sorted(ids))
    names = {key: reference or short(key) for key, reference in found.items()}
    return [
        LedgerLine(
            line=line,
            words=line_words(line),
            payment_name=names.get(line.payment_id or "", ""),
            payment_address=f"{viewer.base}/payments/{line.payment_id}",
        )
        for line in lines
    ]
