"""A person's own account: password, authenticator, recovery codes, sessions, theme."""

from typing import Any
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import processing, queries
from app.accounts.factors import processing as factors
from app.accounts.identity import CodeRefused, ConfirmationNeeded, SignInFailed
from app.accounts.passwords import PasswordRefused
from app.accounts.sessions import operations as sessions
from app.accounts.sessions import queries as session_queries
from app.audit import operations as audit
from app.audit import queries as audit_queries
from app.errors import TooMany
from web.dashboard import access, account_activity, cookies, forms, second_factor
from web.dashboard.access import Looking, Req, Viewer
from web.dashboard.forms import FINE, Faults
from web.deps import runtime
from web.render import render, with_theme, with_toast

_READ, _WRITE = "account:read", "account:write"


class Confirm(forms.StepUp):
    """Password and code, and where to go on."""

    next: str = ""


class NewPassword(forms.StepUp):
    """The password to have from now on."""

    password: str = ""


class OneSession(forms.Sent):
    """Which session to end."""

    session: str = ""


class Theme(forms.Sent):
    """How pages look, and where the person was."""

    theme: str = ""
    next: str = ""


@get("/account", opt={"permission": _READ})
async def show(request: Req, viewer: Looking) -> Response[Any]:
    """Show how the person signs in, where they are signed in, and what happened lately."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        user = await queries.user(session, user_id=viewer.user_id)
        left = await queries.recovery_codes_left(session, user_id=viewer.user_id)
        open_ones = await session_queries.open_sessions(
            session, user_id=viewer.user_id, now=rt.clock()
        )
        rows, more = await audit_queries.of_person(
            session, user_id=viewer.user_id, limit=account_activity.NEWEST
        )
    return render(
        request,
        "account/index.html",
        shell=viewer.shell(),
        user=user,
        left=left,
        sessions=open_ones,
        here=viewer.session_id,
        happenings=account_activity.told(viewer, rows),
        more=more,
    )


@post("/account/theme", opt={"permission": _READ})
async def theme(request: Req, viewer: Looking) -> Response[Any]:
    """Keep the choice of light or dark."""
    form = await forms.read(request, Theme)
    response: Response[Any] = Redirect(access.safe_next(form.next) or "/account", status_code=303)
    with_theme(response, form.theme)
    return response


# ---- Fresh password and code ----


@get("/account/confirm", opt={"permission": _READ})
async def show_confirm(request: Req, viewer: Looking) -> Response[Any]:
    """Ask for password and code before what follows."""
    return _confirm_page(request, viewer, request.query_params.get("next", ""), FINE)


def _confirm_page(request: Req, viewer: Viewer, onward: str, wrong: Faults) -> Response[Any]:
    return render(
        request,
        "account/confirm.html",
        status_code=wrong.status,
        shell=viewer.shell(),
        onward=access.safe_next(onward),
        wrong=wrong,
    )


@post("/account/confirm", opt={"permission": _READ})
async def confirm(request: Req, viewer: Looking) -> Response[Any]:
    """Check both; for five minutes nothing asks for them again."""
    form = await forms.read(request, Confirm)
    try:
        await access.step_up(request, viewer, form)
    except (SignInFailed, TooMany) as problem:
        return _confirm_page(request, viewer, form.next, forms.faults(problem))
    return Redirect(access.safe_next(form.next) or "/account", status_code=303)


def _to_confirm(path: str) -> Response[Any]:
    return Redirect(f"/account/confirm?{urlencode({'next': path})}", status_code=303)


# ---- Password ----


@get("/account/password", opt={"permission": _READ})
async def show_password(request: Req, viewer: Looking) -> Response[Any]:
    """Ask for the new password."""
    return _password_page(request, viewer, FINE)


def _password_page(request: Req, viewer: Viewer, wrong: Faults) -> Response[Any]:
    return render(
        request,
        "account/password.html",
        status_code=wrong.status,
        shell=viewer.shell(),
        wrong=wrong,
        fresh=viewer.is_confirmed(),
    )


@post("/account/password", opt={"permission": _WRITE})
async def change_password(request: Req, viewer: Looking) -> Response[Any]:
    """Change the password; every other session ends."""
    form = await forms.read(request, NewPassword)
    rt = runtime(request)
    try:
        await access.step_up(request, viewer, form)
        async with rt.sessions.read() as session:
            token = request.cookies.get(cookies.cookie_name(rt), "")
            fresh = await session_queries.identify(session, token=token, now=rt.clock())
        opened = await processing.change_password(
            rt, identity=fresh, password=form.password, origin=access.origin(request)
        )
    except (SignInFailed, TooMany, PasswordRefused) as problem:
        return _password_page(request, viewer, forms.faults(problem))
    response: Response[Any] = Redirect("/account", status_code=303)
    cookies.keep_session(request, response, opened.token)
    with_toast(response, "The password is changed. Your other sessions have ended.")
    return response


# ---- Second factor ----


@get("/account/authenticator", opt={"permission": _READ})
async def show_authenticator(request: Req, viewer: Looking) -> Response[Any]:
    """Show the picture of another authenticator; the present one works on until it is proven."""
    return await _authenticator_page(request, viewer)


async def _authenticator_page(request: Req, viewer: Viewer, error: str = "") -> Response[Any]:
    path = "/account/authenticator"
    try:
        return await second_factor.set_up_page(
            request, viewer.identity, action=path, replaces=True, error=error
        )
    except ConfirmationNeeded:
        return _to_confirm(path)


@post("/account/authenticator", opt={"permission": _WRITE})
async def replace_authenticator(request: Req, viewer: Looking) -> Response[Any]:
    """Put the new authenticator in place of the present one, with new recovery codes."""
    try:
        enrolled = await second_factor.finish(request, viewer.identity)
    except ConfirmationNeeded:
        return _to_confirm("/account/authenticator")
    except (CodeRefused, TooMany) as refused:
        words = second_factor.refusal_words(refused)
        return await _authenticator_page(request, viewer, words)
    page: Response[Any] = second_factor.codes_page(
        request,
        enrolled.recovery_codes,
        token=enrolled.opened.csrf_token,
        onward="/account",
        step="",
    )
    cookies.keep_session(request, page, enrolled.opened.token)
    return page


@get("/account/recovery-codes", opt={"permission": _READ})
async def show_recovery(request: Req, viewer: Looking) -> Response[Any]:
    """Say what new recovery codes mean."""
    return _recovery_page(request, viewer, FINE)


def _recovery_page(request: Req, viewer: Viewer, wrong: Faults) -> Response[Any]:
    return render(
        request,
        "account/recovery.html",
        status_code=wrong.status,
        shell=viewer.shell(),
        wrong=wrong,
        fresh=viewer.is_confirmed(),
    )


@post("/account/recovery-codes", opt={"permission": _WRITE})
async def replace_recovery(request: Req, viewer: Looking) -> Response[Any]:
    """Make ten new recovery codes and show them, once; the old ones end."""
    form = await forms.read(request, forms.StepUp)
    rt = runtime(request)
    try:
        await access.step_up(request, viewer, form)
        async with rt.sessions.read() as session:
            token = request.cookies.get(cookies.cookie_name(rt), "")
            fresh = await session_queries.identify(session, token=token, now=rt.clock())
        codes = await factors.replace_recovery_codes(
            rt, identity=fresh, origin=access.origin(request)
        )
    except (SignInFailed, TooMany) as problem:
        return _recovery_page(request, viewer, forms.faults(problem))
    page: Response[Any] = second_factor.codes_page(
        request, codes, token=viewer.csrf, onward="/account", step=""
    )
    return page


# ---- Sessions ----


@post("/account/sessions/end", opt={"permission": _WRITE})
async def end_session(request: Req, viewer: Looking) -> Response[Any]:
    """End one of the person's own sessions."""
    form = await forms.read(request, OneSession)
    rt = runtime(request)
    async with rt.sessions.begin() as session:
        ended = await sessions.end(
            session, user_id=viewer.user_id, session_id=form.session, now=rt.clock()
        )
        if ended:
            await _note(request, viewer, session, "session.ended", {"session": form.session})
    response: Response[Any] = Redirect("/account", status_code=303)
    if ended:
        with_toast(response, "That session has ended.")
    return response


@post("/account/sessions/end-others", opt={"permission": _WRITE})
async def end_others(request: Req, viewer: Looking) -> Response[Any]:
    """End every session of the person but this one."""
    await forms.read(request, forms.Sent)
    rt = runtime(request)
    async with rt.sessions.begin() as session:
        many = await sessions.end_all(
            session, user_id=viewer.user_id, now=rt.clock(), but=viewer.session_id
        )
        if many:
            await _note(request, viewer, session, "session.others_ended", {"sessions": many})
    response: Response[Any] = Redirect("/account", status_code=303)
    with_toast(response, f"{many} other session{'' if many == 1 else 's'} ended.")
    return response


async def _note(
    request: Req, viewer: Viewer, session: AsyncSession, action: str, before: Any
) -> None:
    rt = runtime(request)
    await audit.record(
        session,
        ids=rt.ids,
        now=rt.clock(),
        actor=viewer.actor(request),
        action=action,
        # The person, whose account it is: their own list of what happened is found by it.
        object_id=viewer.user_id,
        merchant_id=None,
        livemode=None,
        before=before,
    )


router = access.own_pages(
    show,
    account_activity.index,
    theme,
    show_confirm,
    confirm,
    show_password,
    change_password,
    show_authenticator,
    replace_authenticator,
    show_recovery,
    replace_recovery,
    end_session,
    end_others,
)
