"""The page of the audit log: who did what in this shop, from where, and what it changed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from app.accounts import queries as people
from app.audit import queries
from app.audit.models import AuditRow
from app.ids import is_id
from web.dashboard import access
from web.dashboard.access import Looking, Req
from web.deps import check_text, path_id, runtime
from web.render import render

ROWS = 50
GROUPS = {
    "payment.": "Payments",
    "refund.": "Refunds",
    "key.": "API keys",
    "webhook_endpoint.": "Webhook endpoints",
    "delivery.": "Deliveries",
    "member.": "Members",
    "merchant.": "Settings",
    "risk.": "Risk check",
    "job.": "Dead letters",
}
KINDS = {"user": "person", "key": "API key", "command": "command line", "system": "Counterfoil"}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the address asks for."""

    action: str
    actor: str
    object: str
    after: str
    before: str

    def address(self, base: str, **changes: str) -> str:
        """Return the list's address with changes; the cursor starts anew unless it is given."""
        kept = {"action": self.action, "actor": self.actor, "object": self.object, **changes}
        kept = {name: value for name, value in kept.items() if value}
        return f"{base}?{urlencode(kept)}" if kept else base

    def cursor(self) -> dict[str, Any]:
        """Return where the rows begin, as the queries take it."""
        return {
            "starting_after": self.after or None,
            "ending_before": None if self.after else self.before or None,
        }

    def ways(self, base: str, rows: Sequence[AuditRow], *, more: bool) -> dict[str, Any]:
        """Return the addresses of newer and older rows; empty where there are none."""
        back = bool(self.before and not self.after)
        newer = rows and (more if back else self.after)
        older = rows and (True if back else more)
        return {
            "newer": self.address(base, before=rows[0].id) if newer else "",
            "older": self.address(base, after=rows[-1].id) if older else "",
        }


def read(request: Req, groups: Mapping[str, str]) -> Asked:
    """Read the address; what cannot be asked for counts as not asked."""
    values = {}
    for name in Asked.__struct_fields__:
        text = str(request.query_params.get(name, "")).strip()[:80]
        check_text(text)
        values[name] = text
    if values["action"] not in groups:
        values["action"] = ""
    for name in ("after", "before"):
        if not is_id(values[name], "aud"):
            values[name] = ""
    return Asked(**values)


@get("/audit", opt={"permission": "audit:read"})
async def index(request: Req, viewer: Looking) -> Response[Any]:
    """List what was done, newest first, by area, person or object."""
    asked = read(request, GROUPS)
    async with runtime(request).sessions.read() as session:
        members = await people.members(session, merchant_id=viewer.merchant.id)
        rows, more = await queries.page(
            session,
            **viewer.tenant,
            limit=ROWS,
            **asked.cursor(),
            action=asked.action or None,
            actor_id=asked.actor or None,
            object_id=asked.object or None,
        )
    base = f"{viewer.base}/audit"
    names = {member.user_id: member.email for member in members}
    return render(
        request,
        "audit/index.html",
        fragment="audit/_rows.html",
        shell=viewer.shell("audit"),
        base=base,
        asked=asked,
        rows=rows,
        groups=GROUPS,
        names=names,
        kinds=KINDS,
        **asked.ways(base, rows, more=more),
    )


@get("/audit/{row_id:str}", opt={"permission": "audit:read"})
async def show(request: Req, viewer: Looking, row_id: FromPath[str]) -> Response[Any]:
    """Show one action with what it changed. Raises NotFound."""
    async with runtime(request).sessions.read() as session:
        row = await queries.row(session, **viewer.tenant, row_id=path_id(row_id, "aud"))
    return render(
        request,
        "audit/row.html",
        shell=viewer.shell("audit"),
        base=f"{viewer.base}/audit",
        row=row,
        kind=KINDS.get(row.actor_kind, row.actor_kind),
        changes=changes(row),
    )


def changes(row: AuditRow) -> list[tuple[str, str, str]]:
    """Return what changed as name, before, after; what stayed the same is left out."""
    before = row.before if isinstance(row.before, dict) else {"": row.before}
    after = row.after if isinstance(row.after, dict) else {"": row.after}
    names = list(dict.fromkeys([*before, *after]))
    made = [(name, _text(before.get(name)), _text(after.get(name))) for name in names]
    return [change for change in made if change[1] != change[2]]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


router = access.shop_pages(index, show)
