"""What changed since a page was shown: one small question every five seconds."""

from typing import Any

from litestar import Request, Response, get
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import is_id
from app.timeline import queries as timeline
from web.dashboard.access import Looking, Viewer
from web.deps import runtime
from web.render import render

# Which parts a page is told about, in the order of the cursor.
_PARTS = ("payments", "ledger", "deliveries")
Req = Request[Any, Any, Any]


@get("/live", opt={"permission": "payments:read"})
async def changed(request: Req, viewer: Looking) -> Response[Any]:
    """Answer 204, or the live mark with the names of what changed in `HX-Trigger`."""
    page = request.query_params.get("page", "")
    seen = request.query_params.get("seen", "")
    payment_id = seen.partition("~")[0]
    about = payment_id if is_id(payment_id, "pay") else None
    async with runtime(request).sessions.read() as session:
        now = await cursor(session, viewer=viewer, payment_id=about)
    if now == seen:
        return Response(None, status_code=204)
    headers = {"HX-Trigger": ", ".join(_named(seen, now))} if seen else {}
    return render(
        request,
        "components/_live.html",
        headers={name: value for name, value in headers.items() if value},
        shell=viewer.shell(page),
        cursor=now,
    )


def _named(seen: str, now: str) -> list[str]:
    if "~" in now:
        return ["payment"]
    old, new = seen.split("."), now.split(".")
    if len(old) != len(new):
        return list(_PARTS)
    return [part for part, one, two in zip(_PARTS, old, new, strict=True) if one != two]


async def cursor(session: AsyncSession, *, viewer: Viewer, payment_id: str | None = None) -> str:
    """Return what a page has seen up to now, as a short text; equal texts mean no change."""
    if payment_id is None:
        return await timeline.shop_cursor(session, **viewer.tenant)
    seen = await timeline.payment_cursor(session, **viewer.tenant, payment_id=payment_id)
    return f"{payment_id}~{seen}"
