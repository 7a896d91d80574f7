"""What happened to a person's own account: what, by whom, from where and when; theirs alone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from litestar import Response, get

from app.audit import queries
from app.audit.models import AuditRow
from web.dashboard import audit
from web.dashboard.access import Looking, Req, Viewer
from web.deps import runtime
from web.render import render

BASE = "/account/activity"
NEWEST = 10  # So many stand on the account's own page.
WORDS = {
    "user.created": "Account made",
    "user.signed_in": "Signed in",
    "user.signed_out": "Signed out",
    "user.sign_in_failed": "Sign-in refused",
    "user.code_refused": "Right password, wrong code",
    "user.confirmation_failed": "Confirmation: wrong password",
    "user.password_locked": "Password paused for 30 minutes",
    "user.unlocked": "Pause lifted by mail",
    "user.password_set": "Password set",
    "user.password_changed": "Password changed",
    "user.password_reset": "Password reset by mail",
    "user.factor_enrolled": "Authenticator app set up",
    "user.factor_replaced": "Authenticator app replaced",
    "user.recovery_codes_replaced": "Recovery codes replaced",
    "user.disabled": "Account closed",
    "user.enabled": "Account opened again",
    "session.ended": "One session ended",
    "session.others_ended": "All other sessions ended",
    "member.added": "Added to a shop",
    "member.role_changed": "Role in a shop changed",
    "member.removed": "Taken out of a shop",
}


class Happening(msgspec.Struct, frozen=True):
    """One line of the list. `by` is "" for somebody who did not prove who they are."""

    what: str
    detail: str
    by: str
    address: str
    at: datetime


def told(viewer: Viewer, rows: Sequence[AuditRow]) -> list[Happening]:
    """Return rows about the viewer's account in words, and of anybody else only that it was them.

    Names and addresses of other people are for the logs of the shop and of the platform.
    """
    shops = {shop.merchant_id: shop.name for shop in viewer.shops}
    return [
        Happening(
            what=WORDS.get(row.action, row.action),
            detail=_detail(row, shops),
            by=_by(row, viewer.user_id),
            address=row.address or "" if _is_theirs(row, viewer.user_id) else "",
            at=row.created_at,
        )
        for row in rows
    ]


def _is_theirs(row: AuditRow, user_id: str) -> bool:
    # A try that proved nobody was a try at this account: its address is what may be alarming.
    return row.actor_kind == "user" and row.actor_id in {user_id, None}


def _by(row: AuditRow, user_id: str) -> str:
    if row.actor_kind != "user":
        return audit.KINDS[row.actor_kind].capitalize()
    if row.actor_id is None:
        return ""
    return "You" if row.actor_id == user_id else "Somebody else who may"


def _detail(row: AuditRow, shops: dict[str, str]) -> str:
    after = row.after if isinstance(row.after, dict) else {}
    if row.action == "user.signed_in":
        return "with a recovery code" if after.get("with") == "recovery_code" else ""
    if row.action.startswith("member."):
        role = str(after.get("role", ""))
        return ", ".join(word for word in (shops.get(row.merchant_id or "", ""), role) if word)
    return ""


@get("/account/activity", opt={"permission": "account:read"})
async def index(request: Req, viewer: Looking) -> Response[Any]:
    """List all that happened to the person's own account, newest first."""
    asked = audit.read(request, {})
    async with runtime(request).sessions.read() as session:
        rows, more = await queries.of_person(
            session, user_id=viewer.user_id, limit=audit.ROWS, **asked.cursor()
        )
    # Filters are of the other lists: here they count for nothing and are not carried on.
    asked = msgspec.structs.replace(asked, action="", actor="", object="")
    return render(
        request,
        "account/activity.html",
        shell=viewer.shell(),
        happenings=told(viewer, rows),
        base=BASE,
        **asked.ways(BASE, rows, more=more),
    )
