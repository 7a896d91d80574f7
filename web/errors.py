"""Every refusal and failure as an answer: problem details for machines, a page for people."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
)
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import Invalid, NotFound, Problem, Unavailable
from web.deps import TooLarge, request_id
from web.render import Shell, render

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
MACHINE_PATHS = ("/v1/", "/psp/", "/healthz", "/readyz", "/metrics", "/policy-reports")
RETRY_SECONDS = 2
# The database may have carried out the commit whose answer was lost, and what waits after a commit
# may find no connection: only the key tells.
_MAYBE = "It may or may not have happened: repeat it with the same Idempotency-Key."
# Deadlock, serialization, lock or statement timeout, too many connections, server going away.
_PASSING_STATES = {"40001", "40P01", "55P03", "57014", "53300", "57P01", "57P02", "57P03"}


class NotAllowed(Problem):
    """The address exists, but not for this method."""

    status: ClassVar[int] = 405
    code = "method_not_allowed"
    title = "This address does not take this method"

    def __init__(self, allow: str) -> None:
        super().__init__(f"Allowed here: {allow}.")
        self.allow = allow


class InternalError(Problem):
    """A defect of ours. Nothing about it is told but the request's id."""

    status = 500
    code = "internal_error"
    title = "Something went wrong on our side"


class DatabaseUnavailable(Unavailable):
    """The database was out of reach, or was lost meanwhile.

    What you asked for may or may not have happened: repeat it with the same `Idempotency-Key`.
    """

    code = "database_unavailable"


class Overloaded(Unavailable):
    """More is asked of us at once than we can serve.

    Unless `detail` says that nothing was done, it may or may not have happened: repeat it with the
    same `Idempotency-Key`.
    """

    code = "overloaded"


class TooSlow(Problem):
    """The body did not come in time; nothing was done."""

    status = 408
    code = "request_timeout"
    title = "The request came too slowly"


class Stopping(Unavailable):
    """The server stopped before this request ended; the same Idempotency-Key tells what became."""

    code = "stopping"


def answer(
    request: Request[Any, Any, Any], error: Exception, *, shell: Shell | None = None
) -> Response[Any]:
    """Answer any exception, in its `shell` if signed in; the whole application's handler."""
    machine = request.scope["path"].startswith(MACHINE_PATHS)
    changes = request.method not in {"GET", "HEAD"}
    problem = as_problem(error, keyed=changes and request.scope["path"].startswith("/v1/"))
    if isinstance(problem, Overloaded):
        # Under a flood the story of each refusal would be a flood of its own.
        log.warning("request shed", reason=type(error).__name__, path=request.scope["path"])
    elif problem.status >= 500:
        log.error(
            "request failed",
            status=problem.status,
            code=problem.code,
            method=request.method,
            path=request.scope["path"],
            request_id=request_id(request.scope),
            exc_info=error,
        )
    if machine:
        return problem_answer(body(request.scope, problem), problem)
    return page(request, problem, shell=shell)


def as_problem(error: Exception, *, keyed: bool = False) -> Problem:
    """Translate any exception into the kind of refusal that it is for a caller.

    `keyed`: what was asked for may have happened, and its Idempotency-Key tells.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, NotFoundException):
        return NotFound("There is nothing at this address.")
    if isinstance(error, MethodNotAllowedException):
        allowed = (error.headers or {}).get("allow", "")
        return NotAllowed(", ".join(sorted({*allowed.split(", ")} - {"", "OPTIONS"})))
    if isinstance(error, InternalServerException) and "disconnected" in error.detail:
        return Invalid("The request broke off.")  # Nobody is there any more to read this.
    if isinstance(error, HTTPException):
        if error.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
            return TooLarge("The body is larger than this address takes.")
        if isinstance(error, ClientException):
            return Invalid("The request is not readable.")
    then = _MAYBE if keyed else "Try again soon."
    if isinstance(error, PoolTimeout):
        return Overloaded(f"Too much is asked at once. {then}", retry_after=RETRY_SECONDS)
    if is_outage(error):
        return DatabaseUnavailable(then, retry_after=RETRY_SECONDS)
    return InternalError()


def is_outage(error: BaseException) -> bool:
    """Tell whether the database is away or overloaded, rather than asked for something wrong."""
    if isinstance(error, PoolTimeout | InterfaceError | ConnectionError | TimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in _PASSING_STATES or state.startswith("08")
    # SQLite calls a missing table operational, too: that is our own defect.
    return isinstance(error, OperationalError) and "no such" not in str(error.orig)


def body(scope: Mapping[str, Any], problem: Problem) -> bytes:
    """Return a problem as RFC 9457 JSON."""
    return msgspec.json.encode(
        {
            "type": f"/docs/errors#{problem.code}",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "instance": scope["path"],
            "code": problem.code,
            "param": problem.param,
            "decline_code": None,
            "request_id": request_id(scope),
            "errors": problem.errors,
            **problem.extra,
        }
    )


def problem_answer(content: bytes, problem: Problem) -> Response[bytes]:
    """Return an answer of problem details with the headers that its status needs."""
    return Response(
        content,
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers(problem),
    )


def headers(problem: Problem) -> dict[str, str]:
    """Return the headers that belong to a problem's status."""
    made = {}
    if problem.retry_after is not None:
        made["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        made["WWW-Authenticate"] = "Bearer"
    if isinstance(problem, NotAllowed):
        made["Allow"] = problem.allow
    return made


_PAGES: dict[int, tuple[str, str, str, str]] = {
    404: (
        "We cannot find this page",
        "It does not exist, or it belongs to another shop. Check the address.",
        "quiet",
        "search",
    ),
    405: ("This does not work like that", "Go back and use the button there.", "quiet", "search"),
    500: (
        "Something went wrong on our side",
        "It has been noted. What you asked for may not have happened; look before you try again.",
        "bad",
        "alert-triangle",
    ),
    503: (
        "We cannot do this right now",
        "Wait a moment and try again.",
        "wait",
        "clock",
    ),
}
_LOOK_FIRST = "It may have happened all the same. Look whether it happened before you try again."


def page(
    request: Request[Any, Any, Any], problem: Problem, *, shell: Shell | None = None
) -> Response[str]:
    """Return the page for a person, in its `shell` if signed in: what happened, one way on."""
    title, text, tone, glyph = _PAGES.get(
        problem.status, (problem.title, problem.detail, "quiet", "alert-triangle")
    )
    changes = request.method not in {"GET", "HEAD"}
    if changes and isinstance(problem, DatabaseUnavailable | Overloaded):
        # A form that is opened afresh has a key of its own, so nothing would keep it from a second
        # effect.
        text = _LOOK_FIRST
    return render(
        request,
        "error.html",
        status_code=problem.status,
        headers=headers(problem),
        shell=shell,
        title=title,
        text=text,
        tone=tone,
        glyph=glyph,
        way_href=shell.home if shell else "/",
        way_label="Go to the start",
        request_id=request_id(request.scope),
    )
