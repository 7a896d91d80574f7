"""The platform's own audit log: sign-ins, factors, people and approvals, which are of no shop."""

from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from app.audit import queries
from web.dashboard.access import Looking, Req
from web.dashboard.audit import KINDS, ROWS, changes, read
from web.deps import path_id, runtime
from web.render import render

BASE = "/admin/audit"
READ = {"permission": "admin:audit"}
GROUPS = {
    "user.": "Sign-in and accounts",
    "session.": "Ended sessions",
    "dead_letter.": "Dead letters for two",
}


@get("/audit", opt=READ)
async def index(request: Req, viewer: Looking) -> Response[Any]:
    """List what was done, newest first, by area, person or object."""
    asked = read(request, GROUPS)
    async with runtime(request).sessions.read() as session:
        rows, more = await queries.platform_page(
            session,
            limit=ROWS,
            **asked.cursor(),
            action=asked.action or None,
            actor_name=asked.actor or None,
            object_id=asked.object or None,
        )
    return render(
        request,
        "audit/platform.html",
        fragment="audit/_rows.html",
        shell=viewer.shell("platform-audit"),
        mode=None,
        base=BASE,
        asked=asked,
        rows=rows,
        groups=GROUPS,
        kinds=KINDS,
        **asked.ways(BASE, rows, more=more),
    )


@get("/audit/{row_id:str}", opt=READ)
async def show(request: Req, viewer: Looking, row_id: FromPath[str]) -> Response[Any]:
    """Show one action with what it changed. Raises NotFound."""
    async with runtime(request).sessions.read() as session:
        row = await queries.platform_row(session, row_id=path_id(row_id, "aud"))
    return render(
        request,
        "audit/row.html",
        shell=viewer.shell("platform-audit"),
        mode=None,
        base=BASE,
        row=row,
        kind=KINDS.get(row.actor_kind, row.actor_kind),
        changes=changes(row),
    )
