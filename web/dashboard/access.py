"""Who looks at a page and what they may do there: the one gate of every dashboard route."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from litestar import Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.response import Redirect
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import queries as people
from app.accounts.identity import (
    ENROL,
    FULL,
    Identity,
    SecondFactorNeeded,
    SessionEnded,
)
from app.accounts.roles import ALL_PERMISSIONS
from app.accounts.sessions import operations as sessions
from app.accounts.sessions import processing as sign_ins
from app.accounts.sessions import queries as session_queries
from app.desk import queries as desk
from app.errors import Forbidden, NotFound
from app.jobs import Job
from app.merchants import queries as merchants
from app.merchants.models import Merchant
from app.risk import queries as risk
from app.runtime import Runtime
from app.webhooks import queries as webhooks
from web import errors
from web.dashboard import forms
from web.dashboard.cookies import cookie_name, made, visit_name
from web.dashboard.forms import StepUp
from web.dashboard.viewer import Viewer, origin
from web.deps import runtime
from web.render import Counts, is_fragment, render
from web.render.shell import Mode

__all__ = [
    "PUBLIC",
    "SIGNING_IN",
    "Held",
    "Looking",
    "Req",
    "Viewer",
    "admin_pages",
    "home",
    "origin",
    "own_pages",
    "public_page",
    "safe_next",
    "shop_pages",
    "step_path",
    "step_up",
]

Req = Request[Any, Any, Any]
Looking = NamedDependency[Viewer]  # Who looks; for every handler behind the second factor.
Held = NamedDependency[Identity]  # What the session proves, also in the middle of a sign-in.

PUBLIC = "public"  # Nobody needs to be signed in.
SIGNING_IN = "signing-in"  # Any session, also one that still waits for its second factor.
KNOWN = ALL_PERMISSIONS | {PUBLIC, SIGNING_IN}
SHOP_PATH = "/m/{merchant_id:str}/{mode:str}"
BACKGROUND = "Counterfoil-Background"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LONGEST_NEXT = 1000
_SIGN_IN_PAGES = ("/sign-in", "/sign-out", "/link/", "/forgotten")


# ---- Routers ----


def shop_pages(*handlers: HTTPRouteHandler) -> Router:
    """Return the router of pages of a shop; handlers' paths are relative to `/m/…/test|live`."""
    return _router(SHOP_PATH, handlers)


def admin_pages(*handlers: HTTPRouteHandler) -> Router:
    """Return the router of pages of the platform's admins, under `/admin`."""
    return _router("/admin", handlers)


def own_pages(*handlers: HTTPRouteHandler) -> Router:
    """Return the router of pages of no shop: sign-in and the person's own account."""
    return _router("/", handlers)


def _router(path: str, handlers: Sequence[HTTPRouteHandler]) -> Router:
    for handler in handlers:
        if (handler.opt or {}).get("permission") not in KNOWN:
            raise ValueError(f"{handler.paths} names no permission that is known")
    return Router(
        path,
        route_handlers=list(handlers),
        guards=[guard],
        dependencies={
            "viewer": Provide(_viewer, sync_to_thread=False),
            "identity": Provide(_identity, sync_to_thread=False),
        },
        exception_handlers={Exception: answer},
        opt={"dashboard": True},
    )


def _viewer(request: Req) -> Any:
    return request.scope["state"]["viewer"]


def _identity(request: Req) -> Any:
    return request.scope["state"]["identity"]


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let a request through to its handler, or raise why not; without a permission nobody passes.

    Raises SessionEnded, SecondFactorNeeded, RequestForged, NotFound, PermissionMissing.
    """
    request = cast("Req", connection)
    permission = handler.opt.get("permission")
    if permission not in KNOWN:
        raise Forbidden
    rt, now = runtime(request), runtime(request).clock()
    if permission == PUBLIC:
        if request.method not in _SAFE:
            await forms.check_origin(request, _visitor_token(request, rt))
        return
    async with rt.sessions.read() as session:
        token = request.cookies.get(cookie_name(rt), "")
        identity = await session_queries.identify(session, token=token, now=now)
        request.scope["state"]["identity"] = identity
        if request.method not in _SAFE:
            await forms.check_origin(request, identity.csrf_token)
        if permission == SIGNING_IN:
            return
        if identity.stage != FULL:
            raise SecondFactorNeeded("Finish signing in first.")
        merchant_id = request.path_params.get("merchant_id")
        request.scope["state"]["viewer"] = viewer = await _load(session, request, identity)
    # Outside of the transaction: its rollback would empty the shop's row that the page shows.
    identity.require(permission, merchant_id)
    await _touch(request, rt, viewer)


async def _touch(request: Req, rt: Runtime, viewer: Viewer) -> None:
    """Keep the session alive, if a person caused the request (S11)."""
    now = rt.clock()
    if request.headers.get(BACKGROUND) == "true":
        return
    if now < viewer.identity.last_seen_at + sessions.TOUCH_EVERY:
        return
    async with rt.sessions.begin() as session:
        await sessions.touch(session, session_id=viewer.session_id, now=now)


async def _load(session: AsyncSession, request: Req, identity: Identity) -> Viewer:
    """Return the viewer of a page. Raises NotFound for a shop that is not this person's."""
    mode = request.path_params.get("mode", "test")
    merchant_id = request.path_params.get("merchant_id")
    if mode not in {"test", "live"}:
        raise NotFound
    if merchant_id is not None and merchant_id not in identity.memberships:
        raise NotFound
    shops = await people.shops_of(session, user_id=identity.user_id)
    if merchant_id is None and not request.scope["path"].startswith("/admin"):
        merchant_id, mode = _shop_before(request, identity, shops)
    shop = await merchants.merchant(session, merchant_id=merchant_id) if merchant_id else None
    now, counts = runtime(request).clock(), Counts()
    if request.method == "GET" and not is_fragment(request):
        counts = await _counts(session, identity, shop, livemode=mode == "live", now=now)
    return Viewer(
        identity=identity,
        shops=shops,
        shop=shop,
        mode=cast("Mode", mode),
        counts=counts,
        path=_path(request),
        now=now,
    )


def _shop_before(
    request: Req, identity: Identity, shops: Sequence[people.Shop]
) -> tuple[str | None, str]:
    """Return the shop and mode that the person came from, for the frame of pages of no shop."""
    parts = urlsplit(request.headers.get("Referer", "")).path.split("/")
    if len(parts) > 3 and parts[1] == "m" and parts[2] in identity.memberships:
        return parts[2], "live" if parts[3] == "live" else "test"
    return (shops[0].merchant_id if shops else None), "test"


async def _counts(
    session: AsyncSession,
    identity: Identity,
    shop: Merchant | None,
    *,
    livemode: bool,
    now: datetime,
) -> Counts:
    failing = dead = waiting = asked = 0
    if shop is not None:
        found = await webhooks.stats(session, merchant_id=shop.id, livemode=livemode, since=now)
        failing = found.failing
        waiting = await risk.count_waiting(session, merchant_id=shop.id, livemode=livemode)
    if identity.is_admin:
        dead = await session.scalar(select(func.count()).where(Job.state == "dead")) or 0
        asked = sum((await desk.counts(session)).values())
    return Counts(webhooks_failing=failing, dead_letters=dead, reviews=waiting, desk=asked)


# ---- Answers ----


def answer(request: Req, error: Exception) -> Response[Any]:
    """Answer any exception of a page: the way to sign in, or what happened, in the frame."""
    if isinstance(error, SessionEnded):
        return _to_sign_in(request)
    if isinstance(error, SecondFactorNeeded):
        held: Identity = request.scope["state"]["identity"]
        return _go(request, step_path(held.stage))
    viewer: Viewer | None = request.scope["state"].get("viewer")
    return errors.answer(request, error, shell=viewer.shell() if viewer else None)


def _to_sign_in(request: Req) -> Response[Any]:
    there = _path(request) if request.method == "GET" else ""
    if request.headers.get("HX-Request") == "true":
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
        there = page.path + (f"?{page.query}" if page.query else "")
    token = request.cookies.get(cookie_name(runtime(request)))
    asked: dict[str, str] = {"ended": "1"} if token else {}
    if (onward := safe_next(there)) and onward != "/":
        asked["next"] = onward
    # The cookie stays: a second press may come with the old one after the first got a new one.
    return _go(request, f"/sign-in?{urlencode(asked)}" if asked else "/sign-in")


def _go(request: Req, path: str) -> Response[Any]:
    if request.headers.get("HX-Request") == "true":
        # A part of a page cannot become another page; htmx follows this header as the browser.
        return Response(b"", status_code=401, media_type="text/html", headers={"HX-Redirect": path})
    return Redirect(path, status_code=303)


def step_path(stage: str) -> str:
    """Return the page on which a sign-in at this stage goes on."""
    return "/sign-in/set-up" if stage == ENROL else "/sign-in/code"


def safe_next(path: str) -> str:
    """Return an address of ours to go on to after sign-in; "" for any other (S10)."""
    if not path.startswith("/") or path.startswith(("//", "/\\")) or len(path) > _LONGEST_NEXT:
        return ""
    if not path.isascii() or any(char <= " " or char in "\\\x7f" for char in path):
        return ""
    return "" if path.startswith(_SIGN_IN_PAGES) else path


def home(identity: Identity) -> str:
    """Return the first page of a person: the one shop, a choice of shops, or the platform."""
    if len(identity.memberships) == 1:
        return f"/m/{next(iter(identity.memberships))}/test/overview"
    if identity.is_admin and not identity.memberships:
        return "/admin/health"
    return "/shops"


def _path(request: Req) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return request.scope["path"] + (f"?{query}" if query else "")


async def step_up(request: Req, viewer: Viewer, form: StepUp) -> None:
    """Let through with fresh password and code, from the form if they are not fresh yet (S11).

    Call it before any transaction. Raises SignInFailed when they do not count, TooMany.
    """
    if viewer.is_confirmed():
        return
    await sign_ins.confirm(
        runtime(request),
        identity=viewer.identity,
        password=form.confirm_password,
        code=form.confirm_code,
        origin=origin(request),
    )


def _visitor_token(request: Req, rt: Runtime) -> str:
    visit = request.cookies.get(visit_name(rt), "")
    return forms.visitor_token(rt, visit) if visit else ""


def public_page(
    request: Req, template: str, *, status_code: int = 200, **context: Any
) -> Response[Any]:
    """Return a page for who is not signed in, whose forms are bound to a cookie of this visit."""
    rt = runtime(request)
    visit = request.cookies.get(visit_name(rt), "")
    fresh = "" if visit else rt.ids.token(16)
    token = forms.visitor_token(rt, visit or fresh)
    response = render(
        request, template, status_code=status_code, csrf_token=token, now=rt.clock(), **context
    )
    if fresh:
        response.set_cookie(made(rt, visit_name(rt), fresh))
    return response
