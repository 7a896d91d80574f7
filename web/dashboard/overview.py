"""The overview: how much there is, what needs somebody, how sales go, the latest payments."""

from datetime import timedelta
from typing import Any

import msgspec
from litestar import Request, Response, get
from sqlalchemy.ext.asyncio import AsyncSession

from app.ledger import queries as ledger
from app.ledger.queries import Balance
from app.merchants import queries as merchants
from app.payments import queries, volume
from app.payments.queries import PaymentFilter
from app.runtime import Runtime
from web.dashboard import live
from web.dashboard.access import Looking, Viewer
from web.dashboard.attention import Notice, notices
from web.dashboard.views import Item, items
from web.dashboard.wallets import in_order
from web.deps import runtime
from web.render import Day, render

_DAYS = 30
_LATEST = 8
_PARTS = {
    "wallets": "overview/_wallets.html",
    "attention": "overview/_attention.html",
    "latest": "overview/_latest.html",
}
Req = Request[Any, Any, Any]


class OverviewPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the overview shows; `change` is the volume against the thirty days before."""

    balances: list[Balance]
    currency: str
    currencies: list[dict[str, Any]]
    notices: list[Notice]
    days: list[Day]
    change: float | None
    today: Any
    latest: list[Item]
    first_payment: str
    address: str


@get("/overview", opt={"permission": "payments:read"})
async def show(request: Req, viewer: Looking) -> Response[str]:
    """Show the shop at a glance; htmx gets the part that it names as its target."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        page = await _page(session, rt, viewer, request.query_params.get("currency", ""))
        cursor = await live.cursor(session, viewer=viewer)
    return render(
        request,
        "overview/index.html",
        fragment=_PARTS.get(request.headers.get("HX-Target", "")),
        shell=viewer.shell("overview"),
        page=page,
        cursor=cursor,
    )


async def _page(session: AsyncSession, rt: Runtime, viewer: Viewer, asked: str) -> OverviewPage:
    of = viewer.tenant
    found = await queries.list_payments(session, rt=rt, **of, wanted=PaymentFilter(), limit=_LATEST)
    wallet = await ledger.balance(session, **of)
    known = await volume.currencies(session, **of)
    first = viewer.merchant.currency
    ordered = sorted(known, key=lambda code: (code != first, code))
    currency = asked.lower() if asked.lower() in known else (ordered or [first])[0]
    days, change = await _days(session, rt, viewer, currency)
    address = f"{viewer.base}/overview"
    return OverviewPage(
        balances=in_order(wallet.balances, first=first),
        currency=currency,
        currencies=[
            {
                "label": code.upper(),
                "href": f"{address}?currency={code}",
                "current": code == currency,
            }
            for code in ordered
        ],
        notices=await notices(session, rt=rt, viewer=viewer),
        days=days,
        change=change,
        today=rt.clock().date(),
        latest=await items(session, rt=rt, rows=found.rows),
        first_payment="" if found.rows else await _example(session, rt, viewer),
        address=address,
    )


async def _days(
    session: AsyncSession, rt: Runtime, viewer: Viewer, currency: str
) -> tuple[list[Day], float | None]:
    """Return thirty days up to today, and how their volume compares with the thirty before."""
    midnight = rt.clock().replace(hour=0, minute=0, second=0, microsecond=0)
    until = midnight + timedelta(days=1)
    rows = await volume.days(
        session,
        **viewer.tenant,
        currency=currency,
        since=until - timedelta(days=2 * _DAYS),
        until=until,
    )
    before, shown = rows[:_DAYS], rows[_DAYS:]
    earlier, now = (sum(row.volume for row in part) for part in (before, shown))
    days = [
        Day(
            day=row.day.date(),
            volume=row.volume,
            payments=row.payments,
            tried=row.succeeded + row.failed,
            succeeded=row.succeeded,
        )
        for row in shown
    ]
    return days, (now - earlier) / earlier if earlier else None


async def _example(session: AsyncSession, rt: Runtime, viewer: Viewer) -> str:
    """Return a request that makes the first payment, with the hint of a key that would do."""
    keys = await merchants.api_keys(session, **viewer.tenant)
    usable = [key.hint for key in keys if key.revoked_at is None]
    mode = "live" if viewer.livemode else "test"
    body = f'{{"amount": 1250, "currency": "{viewer.merchant.currency}", "reference": "order-1"}}'
    return "\n".join(
        (
            f"curl {rt.settings.public_url}/v1/payments \\",
            f'  -H "Authorization: Bearer {usable[0] if usable else f"cf_{mode}_…"}" \\',
            '  -H "Idempotency-Key: first-payment" \\',
            '  -H "Content-Type: application/json" \\',
            f"  -d '{body}'",
        )
    )
