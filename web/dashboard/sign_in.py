"""Signing in and out: password, then code; forgotten passwords and the links that letters carry."""

from typing import Any
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from app.accounts import letters, processing, queries
from app.accounts.identity import (
    PASSWORD,
    CodeRefused,
    Identity,
    LinkRefused,
    Opened,
    SignInFailed,
)
from app.accounts.passwords import PasswordRefused
from app.accounts.sessions import operations as sessions
from app.accounts.sessions import processing as sign_ins
from app.accounts.sessions import queries as session_queries
from app.audit import operations as audit
from app.errors import Problem, TooMany
from web.dashboard import access, cookies, forms
from web.dashboard.access import PUBLIC, SIGNING_IN, Held, Looking, Req
from web.deps import runtime
from web.render import render

_WAIT = "There were too many tries. Wait a little and try again."
_CLEAR = '"cookies", "storage"'


class Credentials(forms.Sent):
    """E-mail address and password; `next` is where to go on."""

    email: str = ""
    password: str = ""
    next: str = ""


class Code(forms.Sent):
    """A code of the authenticator app, or (`kind`: recovery) a recovery code."""

    code: str = ""
    kind: str = ""
    next: str = ""


class Address(forms.Sent):
    """Whose password was forgotten."""

    email: str = ""


class NewPassword(forms.Sent):
    """The password that a link's owner chooses."""

    password: str = ""


@get("/", opt={"permission": PUBLIC})
async def start(request: Req) -> Response[Any]:
    """Go to the person's first page, or to sign-in."""
    held = await _held(request)
    if held is None:
        return Redirect("/sign-in", status_code=303)
    return Redirect(_onward(held, ""), status_code=303)


async def _held(request: Req) -> Identity | None:
    """Return who the cookie proves, or None."""
    rt = runtime(request)
    token = request.cookies.get(cookies.cookie_name(rt), "")
    try:
        async with rt.sessions.read() as session:
            return await session_queries.identify(session, token=token, now=rt.clock())
    except Problem:
        return None


def _onward(held: Identity, onward: str) -> str:
    if held.permissions():
        return access.safe_next(onward) or access.home(held)
    return _with_next(access.step_path(held.stage), onward)


def _with_next(path: str, onward: str) -> str:
    safe = access.safe_next(onward)
    return f"{path}?{urlencode({'next': safe})}" if safe else path


@get("/sign-in", opt={"permission": PUBLIC})
async def show_sign_in(request: Req) -> Response[Any]:
    """Ask for e-mail address and password."""
    held = await _held(request)
    onward = request.query_params.get("next", "")
    if held is not None and held.permissions():
        return Redirect(_onward(held, onward), status_code=303)
    ended = request.query_params.get("ended") == "1"
    return _sign_in_page(request, onward=onward, ended=ended)


def _sign_in_page(
    request: Req,
    *,
    onward: str,
    email: str = "",
    error: str = "",
    ended: bool = False,
    status_code: int = 200,
) -> Response[Any]:
    return access.public_page(
        request,
        "sign_in/index.html",
        status_code=status_code,
        onward=access.safe_next(onward),
        email=email,
        error=error,
        ended=ended,
    )


@post("/sign-in", opt={"permission": PUBLIC})
async def sign_in(request: Req) -> Response[Any]:
    """Check the password; go on to the code. One answer for every cause of a failure."""
    form = await forms.read(request, Credentials)
    try:
        opened = await sign_ins.sign_in(
            runtime(request),
            email=form.email,
            password=form.password,
            origin=access.origin(request),
        )
    except (SignInFailed, TooMany) as refused:
        return _sign_in_page(
            request,
            onward=form.next,
            email=form.email[:254],
            error=_words(refused),
            status_code=_status(refused),
        )
    return _opened(request, opened, _with_next(access.step_path(opened.stage), form.next))


def _words(refused: Problem) -> str:
    return _WAIT if isinstance(refused, TooMany) else refused.detail


def _status(refused: Problem) -> int:
    return 429 if isinstance(refused, TooMany) else 422


def _opened(request: Req, opened: Opened, path: str) -> Response[Any]:
    response: Response[Any] = Redirect(path, status_code=303)
    cookies.keep_session(request, response, opened.token)
    return response


@get("/sign-in/code", opt={"permission": SIGNING_IN})
async def show_code(request: Req, identity: Held) -> Response[Any]:
    """Ask for the 6 digits, or with `?kind=recovery` for a recovery code."""
    onward = request.query_params.get("next", "")
    if identity.stage != PASSWORD:
        return Redirect(_onward(identity, onward), status_code=303)
    return _code_page(request, identity, request.query_params.get("kind", ""), onward)


def _code_page(
    request: Req,
    held: Identity,
    kind: str,
    onward: str,
    error: str = "",
    status_code: int = 200,
) -> Response[Any]:
    return render(
        request,
        "sign_in/code.html",
        status_code=status_code,
        csrf_token=held.csrf_token,
        email=held.email,
        recovery=kind == "recovery",
        onward=access.safe_next(onward),
        error=error,
        way=_with_next("/sign-in/code", onward),
    )


@post("/sign-in/code", opt={"permission": SIGNING_IN})
async def take_code(request: Req, identity: Held) -> Response[Any]:
    """Check the code; from here on the person is signed in."""
    form = await forms.read(request, Code)
    rt = runtime(request)
    if identity.stage != PASSWORD:
        return Redirect(_onward(identity, form.next), status_code=303)
    try:
        opened = await sign_ins.second_factor(
            rt, identity=identity, code=form.code, origin=access.origin(request)
        )
    except (CodeRefused, TooMany) as refused:
        error, status = _words(refused), _status(refused)
        return _code_page(request, identity, form.kind, form.next, error, status)
    async with rt.sessions.read() as session:
        held = await session_queries.identify(session, token=opened.token, now=rt.clock())
    return _opened(request, opened, _onward(held, form.next))


@post("/sign-out", opt={"permission": SIGNING_IN})
async def sign_out(request: Req, identity: Held) -> Response[Any]:
    """End the session here and in the browser."""
    rt = runtime(request)
    async with rt.sessions.begin() as session:
        now = rt.clock()
        await sessions.end(
            session, user_id=identity.user_id, session_id=identity.session_id, now=now
        )
        await audit.record(
            session,
            ids=rt.ids,
            now=now,
            actor=identity.actor(access.origin(request)),
            action="user.signed_out",
            object_id=identity.user_id,
            merchant_id=None,
            livemode=None,
        )
    response: Response[Any] = Redirect(
        "/sign-in", status_code=303, headers={"Clear-Site-Data": _CLEAR}
    )
    cookies.clear_session(request, response)
    return response


@get("/shops", opt={"permission": "account:read"})
async def shops(request: Req, viewer: Looking) -> Response[Any]:
    """Let the person choose one of their shops."""
    return render(request, "sign_in/shops.html", shell=viewer.shell(), shops=viewer.shops)


# ---- Forgotten passwords and links ----


@get("/forgotten", opt={"permission": PUBLIC})
async def show_forgotten(request: Req) -> Response[Any]:
    """Ask whose password was forgotten."""
    return access.public_page(request, "sign_in/forgotten.html", sent=False, email="", error="")


@post("/forgotten", opt={"permission": PUBLIC})
async def forgotten(request: Req) -> Response[Any]:
    """Send a link, if there is such an account; the answer is the same in any case."""
    form = await forms.read(request, Address)
    status, error = 200, ""
    try:
        await processing.request_reset(
            runtime(request), email=form.email, origin=access.origin(request)
        )
    except TooMany:
        status, error = 429, _WAIT
    return access.public_page(
        request,
        "sign_in/forgotten.html",
        status_code=status,
        sent=not error,
        email=form.email[:254],
        error=error,
    )


@get("/link/{purpose:str}/{token:str}", opt={"permission": PUBLIC})
async def show_link(request: Req, purpose: FromPath[str], token: FromPath[str]) -> Response[Any]:
    """Show what a link is for; opening it uses nothing up."""
    rt = runtime(request)
    try:
        async with rt.sessions.read() as session:
            await queries.open_link(session, purpose=purpose, token=token, now=rt.clock())
    except LinkRefused:
        return _link_over(request)
    return _link_page(request, purpose)


def _link_page(
    request: Req, purpose: str, errors: list[str] | None = None, status_code: int = 200
) -> Response[Any]:
    return access.public_page(
        request,
        "sign_in/link.html",
        status_code=status_code,
        purpose=purpose,
        errors=errors or [],
        path=request.scope["path"],
    )


@post("/link/{purpose:str}/{token:str}", opt={"permission": PUBLIC})
async def use_link(request: Req, purpose: FromPath[str], token: FromPath[str]) -> Response[Any]:
    """Use a link: choose a password, or take the lock off."""
    form = await forms.read(request, NewPassword)
    rt, origin = runtime(request), access.origin(request)
    try:
        if purpose == letters.UNLOCK:
            await processing.unlock(rt, token=token, origin=origin)
            return Redirect("/sign-in", status_code=303)
        opened = await processing.use_link(
            rt, purpose=purpose, token=token, password=form.password, origin=origin
        )
    except PasswordRefused as refused:
        return _link_page(request, purpose, [one["detail"] for one in refused.errors], 422)
    except TooMany:
        return _link_page(request, purpose, [_WAIT], 429)
    except LinkRefused:
        return _link_over(request)
    return _opened(request, opened, access.step_path(opened.stage))


def _link_over(request: Req) -> Response[Any]:
    return access.public_page(request, "sign_in/link_over.html", status_code=404)


router = access.own_pages(
    start,
    show_sign_in,
    sign_in,
    show_code,
    take_code,
    sign_out,
    shops,
    show_forgotten,
    forgotten,
    show_link,
    use_link,
)
