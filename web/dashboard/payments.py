"""The list of payments: status tabs, filters, search with its exact hit, pages, and CSV."""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.response import Redirect, Stream
from sqlalchemy.ext.asyncio import AsyncSession

from app.payments import queries, volume
from app.payments.queries import CursorUnknown, PaymentFilter
from app.runtime import Runtime
from web.dashboard import live, payment_query
from web.dashboard.access import Looking, Viewer
from web.dashboard.export import payment_lines
from web.dashboard.payment_query import TABS, ListQuery
from web.dashboard.views import Item, items, psp_name
from web.deps import runtime
from web.render import is_fragment, render

PAGE = 25
_NEWS = 100
_ACTIONS = ("payments:refund", "payments:capture")
Req = Request[Any, Any, Any]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What the list's page shows."""

    items: list[Item]
    query: ListQuery
    tabs: list[dict[str, Any]]
    chips: list[dict[str, str]]
    add: list[tuple[str, str]]
    currencies: list[tuple[str, str]]
    currency: str
    rest: str
    psps: list[tuple[str, str]]
    newer: str
    older: str
    address: str
    export: str
    newest: str | None
    elsewhere: Item | None


@get("/payments", opt={"permission": "payments:read"})
async def listing(request: Req, viewer: Looking) -> Response[Any]:
    """Show payments; a search that names exactly one goes straight to it."""
    rt = runtime(request)
    currency = viewer.merchant.currency
    query = payment_query.read(request.query_params, currency=currency)
    async with rt.sessions.read() as session:
        wanted, hit = await _searched(session, rt, viewer, query, currency)
        alone = set(query.fields) == {"q"} and not (query.after or query.before)
        if hit is not None and alone and not is_fragment(request):
            return Redirect(f"{viewer.base}/payments/{hit}", status_code=303)
        page = await _page(session, rt, viewer, query, wanted)
        made = await _listing(session, rt, viewer, query, page)
        cursor = await live.cursor(session, viewer=viewer)
    return render(
        request,
        "payments/index.html",
        fragment="payments/_payments.html",
        shell=viewer.shell("payments"),
        listing=made,
        can=[name for name in _ACTIONS if viewer.can(name)],
        cursor=cursor,
    )


async def _searched(
    session: AsyncSession, rt: Runtime, viewer: Viewer, query: ListQuery, currency: str
) -> tuple[PaymentFilter, str | None]:
    """Return the filter (text first, then amount), and the one payment that the text names."""
    if not query.wanted.search:
        return query.wanted, None
    found = await queries.list_payments(
        session, rt=rt, **viewer.tenant, wanted=query.wanted, limit=2
    )
    if found.rows:
        return query.wanted, found.rows[0].id if len(found.rows) == 1 else None
    return payment_query.as_amount(query, currency=currency) or query.wanted, None


async def _page(
    session: AsyncSession, rt: Runtime, viewer: Viewer, query: ListQuery, wanted: PaymentFilter
) -> queries.Page:
    of: dict[str, Any] = {**viewer.tenant, "rt": rt, "wanted": wanted, "limit": PAGE}
    try:
        return await queries.list_payments(
            session,
            **of,
            starting_after=query.after if not query.before else None,
            ending_before=query.before,
        )
    except CursorUnknown:
        # An old or foreign address: the first page is the honest answer.
        return await queries.list_payments(session, **of)


async def _listing(
    session: AsyncSession, rt: Runtime, viewer: Viewer, query: ListQuery, page: queries.Page
) -> Listing:
    base = f"{viewer.base}/payments"
    counts = await volume.counts(session, **viewer.tenant)
    currencies = await volume.currencies(session, **viewer.tenant)
    first, last = (page.rows[0].id, page.rows[-1].id) if page.rows else ("", "")
    back = query.before is not None
    has_newer, has_older = (page.has_more, True) if back else (bool(query.after), page.has_more)
    return Listing(
        items=await items(session, rt=rt, rows=page.rows),
        query=query,
        tabs=_tabs(query, base, counts),
        chips=_chips(query, base),
        add=[(key, label) for key, label in _ADD if not _set(query, key)],
        currencies=[(code, code.upper()) for code in currencies],
        currency=query.wanted.currency or viewer.merchant.currency,
        rest=query.address("").replace("?", "&"),
        psps=[(name, psp_name(name)) for name in ("sandbox", "stripe")],
        newer=query.address(base, before=first) if has_newer and first else "",
        older=query.address(base, after=last) if has_older and last else "",
        address=query.address(base),
        export=query.address(f"{base}.csv"),
        newest=first or None,
        elsewhere=await _elsewhere(session, rt, viewer, query) if not page.rows else None,
    )


_ADD = (
    ("created", "Created"),
    ("currency", "Currency"),
    ("amount", "Amount"),
    ("email", "Customer"),
    ("psp", "PSP"),
)
_OF_CHIP = {"created": ("from", "to"), "amount": ("min", "max")}


def _set(query: ListQuery, key: str) -> bool:
    return any(name in query.fields for name in _OF_CHIP.get(key, (key,)))


def _tabs(query: ListQuery, base: str, counts: dict[str, int]) -> list[dict[str, Any]]:
    shown = {
        "attention": (counts["attention"], "odd"),
        "progress": (counts["in_progress"] + counts["attention"], "quiet"),
    }
    return [
        {
            "label": label,
            "href": query.address(base, status=key),
            "current": query.tab == key,
            "count": shown.get(key, (0, ""))[0],
            "tone": shown.get(key, (0, "quiet"))[1],
        }
        for key, (label, _) in TABS.items()
    ]


def _chips(query: ListQuery, base: str) -> list[dict[str, str]]:
    fields = query.fields
    made: list[tuple[str, str, dict[str, str | None]]] = []
    if "q" in fields:
        made.append(("Search", fields["q"], {"q": None}))
    if _set(query, "created"):
        made.append(("Created", _span(fields, "from", "to"), {"from": None, "to": None}))
    if "currency" in fields:
        gone = dict.fromkeys(("currency", "min", "max"))
        made.append(("Currency", fields["currency"].upper(), gone))
    if _set(query, "amount"):
        made.append(("Amount", _span(fields, "min", "max"), {"min": None, "max": None}))
    if "email" in fields:
        made.append(("Customer", fields["email"], {"email": None}))
    if "psp" in fields:
        made.append(("PSP", psp_name(fields["psp"]), {"psp": None}))
    return [
        {"label": label, "text": text, "remove": query.address(base, **changes)}
        for label, text, changes in made
    ]


def _span(fields: dict[str, str], low: str, high: str) -> str:
    start, end = fields.get(low), fields.get(high)
    if start and end:
        return start if start == end else f"{start} to {end}"
    return f"from {start}" if start else f"up to {end}"


async def _elsewhere(
    session: AsyncSession, rt: Runtime, viewer: Viewer, query: ListQuery
) -> Item | None:
    """Return the payment that the search names, if only the other filters hide it."""
    if not query.wanted.search:
        return None
    plain = PaymentFilter(search=query.wanted.search)
    found = await queries.list_payments(session, rt=rt, **viewer.tenant, wanted=plain, limit=1)
    return (await items(session, rt=rt, rows=found.rows))[0] if found.rows else None


@get("/payments/news", opt={"permission": "payments:read"})
async def news(request: Req, viewer: Looking) -> Response[str]:
    """Say how many payments are newer than the list's first: rows never move by themselves."""
    rt = runtime(request)
    query = payment_query.read(request.query_params, currency=viewer.merchant.currency)
    since = request.query_params.get("since") or None
    async with rt.sessions.read() as session:
        of: dict[str, Any] = {**viewer.tenant, "rt": rt, "wanted": query.wanted, "limit": _NEWS}
        try:
            page = await queries.list_payments(session, **of, ending_before=since)
        except CursorUnknown:
            page = queries.Page(rows=[], has_more=False)
    return render(
        request,
        "payments/_news.html",
        shell=viewer.shell("payments"),
        number=len(page.rows),
        more=page.has_more,
        since=since or "",
        address=query.address(f"{viewer.base}/payments"),
        query=query,
    )


@get("/payments.csv", opt={"permission": "payments:read"})
async def export(request: Req, viewer: Looking) -> Stream:
    """Stream exactly the payments that the filters choose, oldest pages last."""
    rt = runtime(request)
    currency = viewer.merchant.currency
    query = payment_query.read(request.query_params, currency=currency)
    async with rt.sessions.read() as session:
        wanted, _ = await _searched(session, rt, viewer, query, currency)
    name = f"payments-{'live' if viewer.livemode else 'test'}-{rt.clock():%Y-%m-%d}.csv"
    return Stream(
        payment_lines(rt, wanted=wanted, **viewer.tenant),
        media_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )
