"""Forms: read strictly, proven to come from our own page, done once however often pressed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_origin
from urllib.parse import parse_qsl, urlsplit

import msgspec
from litestar import Request
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, idempotency
from app.accounts.identity import SignInFailed
from app.errors import FieldError, Forbidden, Invalid, NotFound, Problem, TooMany
from app.idempotency import InProgress, KeyRow
from app.runtime import Runtime
from app.secrets import same
from app.settings import Settings
from web.deps import MAX_FIELDS, UnsupportedMedia, check_text, decode, runtime

T = TypeVar("T", bound="Sent")
Req = Request[Any, Any, Any]

TOKEN_FIELD, TOKEN_HEADER = "csrf_token", "X-CSRF-Token"
KEY_FIELD = "form_key"
# Passwords are anybody's own words; nothing of them is stored but a hash.
_SECRET_FIELDS = frozenset({"password", "code", "confirm_password", "confirm_code"})
_NOT_PART = _SECRET_FIELDS | {TOKEN_FIELD, KEY_FIELD}
_TRIES = 5
_WAITS, _WAIT_SECONDS = 50, 0.1


class RequestForged(Forbidden):
    """The form did not come from a page of ours, or from one of another session."""

    code = "request_forged"
    title = "This page is no longer valid"

    def __init__(self) -> None:
        super().__init__("Nothing was changed. Go back, load the page again and repeat it.")


class FormKeyMissing(Invalid):
    """The form came without its one-time key."""

    code = "form_key_missing"


class Sent(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every form carries; the forms of pages add their fields, all of them text or lists."""

    csrf_token: str = ""
    form_key: str = ""


class StepUp(Sent):
    """A form that may need password and code; see `access.step_up`."""

    confirm_password: str = ""
    confirm_code: str = ""


class Done(msgspec.Struct, frozen=True):
    """What a form led to. `replayed`: it had been done before, by the same form."""

    resource_id: str | None
    replayed: bool


class Faults(msgspec.Struct):
    """What is wrong with a form: pairs of a field's id and a text, and a text for all of it."""

    errors: list[tuple[str, str]] = []
    text: str = ""
    status: int = 200

    def of(self, field: str) -> str:
        """Return what is wrong with a field, or nothing."""
        return next((text for name, text in self.errors if name == field), "")


FINE = Faults()


def faults(problem: Problem) -> Faults:
    """Return a refusal as what is wrong with the form, to show it again with what was written.

    What is no matter of the form (a page that is not there, a defect) is raised again.
    """
    if isinstance(problem, SignInFailed):
        return Faults([("confirm_password", problem.detail)], status=422)
    if isinstance(problem, TooMany):
        return Faults(text="There were too many tries. Wait a little and try again.", status=429)
    if isinstance(problem, NotFound) or problem.status not in {400, 409, 422}:
        raise problem
    found = [(_field(one["param"]), one["detail"]) for one in problem.errors]
    if not found and problem.param:
        found = [(_field(problem.param), problem.detail)]
    found = [(name, text[:1].upper() + text[1:]) for name, text in found]
    return Faults(found, "" if found else problem.detail, 422)


def _field(param: str) -> str:
    return param.partition("[")[0].partition(".")[0]


async def pairs(request: Req) -> list[tuple[str, str]]:
    """Return the fields of the form in their order. Raises Invalid, UnsupportedMedia."""
    state = request.scope["state"]
    if "form" not in state:
        raw = await request.body()
        kind = request.content_type[0].lower()
        if raw and kind != "application/x-www-form-urlencoded":
            raise UnsupportedMedia("Send the form as application/x-www-form-urlencoded.")
        state["form"] = _parsed(raw)
    found: list[tuple[str, str]] = state["form"]
    return found


def _parsed(raw: bytes) -> list[tuple[str, str]]:
    try:
        found = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise Invalid("The form is not readable.") from error
    for name, text in found:
        if name not in _SECRET_FIELDS:
            check_text(text)
        elif "\0" in text:
            raise Invalid("Text must not hold the NUL character.")
    return found


async def fields(request: Req) -> dict[str, str]:
    """Return the form as names and texts. Raises Invalid for a field that stands twice."""
    found = await pairs(request)
    made = dict(found)
    if len(made) != len(found):
        raise Invalid("A field stands twice.")
    return made


async def read(request: Req, kind: type[T]) -> T:
    """Read the form into a struct: unknown and doubled fields are refused. Raises Invalid.

    A field of a list type may be repeated. Line ends of text areas become single newlines.
    """
    lists = {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if get_origin(field.type) is list
    }
    values: dict[str, Any] = {}
    for name, sent in await pairs(request):
        text = sent.replace("\r\n", "\n")
        if name in lists:
            values.setdefault(name, []).append(text)
        elif name in values:
            detail = "This field stands twice."
            raise Invalid(detail, errors=[FieldError(name[:100], "duplicate", detail)])
        else:
            values[name] = text
    return decode(values, kind)


def visitor_token(rt: Runtime, visit: str) -> str:
    """Return the token of forms of somebody who has no session yet, bound to their cookie."""
    return rt.sealer.keyed_hash("csrf", visit)


async def check_origin(request: Req, token: str) -> None:
    """Check that a page of ours, shown to this session, sent the request (S13).

    Raises RequestForged.
    """
    if not _is_same_origin(request, runtime(request).settings):
        raise RequestForged
    sent = request.headers.get(TOKEN_HEADER)
    if sent is None:
        sent = next((text for name, text in await pairs(request) if name == TOKEN_FIELD), "")
    if not token or not same(sent, token):
        raise RequestForged


def _is_same_origin(request: Req, settings: Settings) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    if origin == _origin(settings.public_url):
        return True
    # Several names lead to this machine; the front has checked that the host is one of them.
    host = request.headers.get("Host", "")
    return settings.loopback and origin == f"{request.scope['scheme']}://{host}"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def once(
    request: Req,
    *,
    user_id: str,
    key: str,
    work: Callable[[AsyncSession], Awaitable[str | None]],
) -> Done:
    """Do `work` once for the one-time key of a form, in one transaction with the key's row.

    `work` returns the id of what it made. A refusal that it raises undoes everything, the key's
    row too, so that the corrected form may be sent again. A second press waits for the first and
    hears the same. Raises FormKeyMissing, KeyReused, and what `work` raises.
    """
    if not 16 <= len(key) <= 80 or not key.isalnum() or not key.isascii():
        raise FormKeyMissing("Load the page again; this form has lost its key.")
    rt = runtime(request)
    scope, hashed = f"u:{user_id}", idempotency.key_hash(key)
    sent = [pair for pair in await pairs(request) if pair[0] not in _NOT_PART]
    claim = _Claim(
        scope, hashed, idempotency.fingerprint(request.method, request.scope["path"], sent)
    )
    for _ in range(_WAITS):
        try:
            async with rt.keys_in_progress.hold(rt.sessions.sqlite, scope, hashed):
                return await _again(lambda: _once(rt, claim, work))
        except InProgress:
            await asyncio.sleep(_WAIT_SECONDS)
    raise InProgress


class _Claim(msgspec.Struct, frozen=True):
    scope: str
    hashed: str
    fingerprint: str


async def _again(work: Callable[[], Awaitable[Done]]) -> Done:
    for attempt in range(1, _TRIES + 1):
        try:
            return await work()
        except Exception as error:
            passing = isinstance(error, IntegrityError) or db.is_transient(error)
            if attempt == _TRIES or not passing:
                raise
    raise RuntimeError("unreachable")


async def _once(
    rt: Runtime, claim: _Claim, work: Callable[[AsyncSession], Awaitable[str | None]]
) -> Done:
    async with rt.sessions.begin() as session:
        stored = await idempotency.look(
            session, scope=claim.scope, hashed=claim.hashed, fingerprint=claim.fingerprint
        )
        if stored is not None:
            return Done(stored.resource_id, replayed=True)
        resource_id = await work(session)
        row = idempotency.row(
            scope=claim.scope,
            hashed=claim.hashed,
            fingerprint=claim.fingerprint,
            status=303,
            resource_id=resource_id,
            now=rt.clock(),
        )
        await db.insert_all(session, [(KeyRow, row)])
    return Done(resource_id, replayed=False)
