"""The two cookies of the dashboard: the session, and the visit of who has none yet."""

from typing import Any

from litestar import Request, Response
from litestar.datastructures import Cookie

from app.runtime import Runtime
from web.deps import runtime

Req = Request[Any, Any, Any]


def cookie_name(rt: Runtime) -> str:
    """Return the session cookie's name; plain http on this machine cannot have the prefix."""
    return "__Host-session" if rt.settings.https else "session"


def visit_name(rt: Runtime) -> str:
    """Return the name of the cookie that binds forms before sign-in to a browser."""
    return "__Host-visit" if rt.settings.https else "visit"


def made(rt: Runtime, name: str, value: str, *, max_age: int | None = None) -> Cookie:
    """Return a cookie that no script and no other site can read."""
    return Cookie(
        key=name,
        value=value,
        max_age=max_age,
        path="/",
        secure=rt.settings.https,
        httponly=True,
        samesite="lax",
    )


def keep_session(request: Req, response: Response[Any], token: str) -> None:
    """Give the browser its session; it forgets it when it is closed."""
    rt = runtime(request)
    response.set_cookie(made(rt, cookie_name(rt), token))


def clear_session(request: Req, response: Response[Any]) -> None:
    """Take the session out of the browser."""
    rt = runtime(request)
    response.set_cookie(made(rt, cookie_name(rt), "", max_age=0))
