"""The reference: the OpenAPI document, and the same as pages that need nothing from elsewhere."""

from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response, Router, get

from app.errors import Problem
from app.merchants.keys import SCOPES
from app.webhooks.schedule import DELAYS
from app.webhooks.schemas import EVENT_TYPES
from web.api import examples, openapi, shown
from web.api.openapi import Route
from web.api.operation import PUBLIC
from web.api.router import api
from web.deps import runtime
from web.render import render

Asked = Request[Any, Any, Any]
Link = tuple[str, str, str]  # Address, label, method (of an operation).


# The application and the sandbox share no code; a test holds these against the sandbox's own.
CARDS = (
    ("4242 4242 4242 4242", "pm_card_visa", "Succeeds."),
    ("4000 0000 0000 0002", "pm_card_chargeDeclined", "Declined."),
    ("4000 0000 0000 9995", "pm_card_insufficientFunds", "Declined: not enough money."),
    ("4000 0027 6000 3184", "pm_card_authenticationRequired", "The bank asks for a second step."),
    ("4000 0000 0000 0119", "pm_card_processingError", "Fails with a processing error."),
    ("4000 0000 0000 5126", "pm_card_refundFail", "Succeeds; a refund fails later."),
    ("4000 0000 0000 7726", "pm_card_pendingRefund", "Succeeds; a refund takes a while."),
)
TOKENS = (
    ("pm_fault_reply_lost", "Charged, but the PSP's answer never comes."),
    ("pm_fault_not_charged_timeout", "Not charged the first time, and no answer comes."),
    ("pm_fault_500_then_ok", "The PSP fails before charging, then works."),
    ("pm_fault_500_charged", "The PSP charges, then answers 500."),
    ("pm_fault_503", "The PSP is away before charging, then works."),
    ("pm_fault_429", "The PSP is too busy twice, then works."),
    ("pm_fault_key_in_use", "The PSP says that the same request is under way, then works."),
    ("pm_fault_slow", "Charged; the answer is slow."),
    ("pm_fault_slow_body", "Charged; the answer comes byte by byte."),
    ("pm_fault_garbage", "Charged; the answer is not readable."),
    ("pm_fault_html", "Charged; the answer is a web page."),
    ("pm_fault_truncate", "Charged; the answer ends half-way."),
    ("pm_fault_reset", "Charged; the connection breaks in the answer."),
    ("pm_fault_wrong_amount", "Charged one minor unit more than asked."),
    ("pm_fault_webhook_first", "The PSP's event comes before its answer."),
    ("pm_fault_webhook_twice", "The PSP's event comes twice."),
    ("pm_fault_webhook_late", "The PSP's event comes late."),
    ("pm_fault_webhook_never", "The PSP's event never comes."),
    ("pm_fault_webhook_reordered", "The PSP's events come in another order."),
    ("pm_fault_poison", "The PSP refuses every try until its cause is cured in the sandbox."),
)


_GUIDES = (
    ("#authentication", "Authentication", ""),
    ("#idempotency", "Idempotency", ""),
    ("#errors", "Errors", ""),
    ("#lists", "Lists and consistency", ""),
    ("#webhooks", "Webhooks", ""),
    ("#sandbox", "Sandbox", ""),
)
_TONES = {"get": "info", "post": "ok", "patch": "wait", "delete": "bad"}


class Entry(msgspec.Struct, frozen=True):
    """One operation on the page: its part of the document, and the codes that are its own."""

    route: Route
    made: dict[str, Any]
    codes: list[tuple[int, list[str]]]


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """One error code as the reference explains it."""

    code: str
    status: int
    title: str
    text: str


@cache
def all_routes() -> tuple[Route, ...]:
    """Return every operation of the API."""
    return tuple(openapi.routes(api))


@cache
def document(server: str) -> dict[str, Any]:
    """Return the OpenAPI document for a server."""
    return openapi.document(all_routes(), server)


def codes() -> list[Code]:
    """Return every code that the API may answer with, by status, then by name."""
    found: dict[str, Code] = {}
    for kind in _kinds(Problem):
        text = " ".join((kind.__doc__ or "").split())
        found.setdefault(
            kind.code, Code(code=kind.code, status=kind.status, title=kind.title, text=text)
        )
    return sorted(found.values(), key=lambda one: (one.status, one.code))


def _kinds(kind: type[Problem]) -> Iterator[type[Problem]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)


@get("/v1/openapi.json", opt=PUBLIC)
async def openapi_json(request: Asked) -> Response[bytes]:
    """Return the OpenAPI 3.1 document."""
    made = document(runtime(request).settings.public_url)
    return Response(msgspec.json.encode(made), media_type="application/json")


@get("/docs", opt=PUBLIC)
async def docs(request: Asked) -> Response[str]:
    """Show the API reference."""
    server = runtime(request).settings.public_url
    made = document(server)
    groups = _groups(made)
    return render(
        request,
        "docs/reference.html",
        here="docs",
        contents=_contents(groups),
        tones=_TONES,
        api=made,
        server=server,
        groups=groups,
        bodies={route.body.__name__ for route in all_routes() if route.body},
        shown=shown,
        examples=examples,
        scopes=SCOPES,
        event_types=EVENT_TYPES,
        delays=DELAYS,
        cards=CARDS,
        tokens=TOKENS,
        general=_grouped(_general()),
    )


@get("/docs/errors", opt=PUBLIC)
async def docs_errors(request: Asked) -> Response[str]:
    """Explain every error code."""
    found = codes()
    phrases = {one.status: HTTPStatus(one.status).phrase for one in found}
    links = [(f"#status-{status}", f"{status} {text}", "") for status, text in phrases.items()]
    return render(
        request,
        "docs/errors.html",
        here="errors",
        contents=[("Error codes", links)],
        tones=_TONES,
        codes=found,
        phrases=phrases,
    )


def _groups(made: dict[str, Any]) -> list[tuple[str, list[Entry]]]:
    """Return the operations by resource, in the document's order."""
    groups: dict[str, list[Entry]] = {tag["name"]: [] for tag in made["tags"]}
    general = _general()
    for route in all_routes():
        own = set(route.refusals()) - general
        entry = Entry(route, made["paths"][route.path][route.method], _grouped(own))
        groups[route.operation.tag].append(entry)
    return list(groups.items())


def _contents(groups: list[tuple[str, list[Entry]]]) -> list[tuple[str, list[Link]]]:
    """Return the side list: the guides, each resource's operations, the objects."""
    found: list[tuple[str, list[Link]]] = [("Guides", list(_GUIDES))]
    for tag, entries in groups:
        routes = [entry.route for entry in entries]
        found.append(
            (tag, [(f"#{r.name}", r.name.replace("_", " ").capitalize(), r.method) for r in routes])
        )
    return [*found, ("Shapes", [("#objects", "Objects", "")])]


def _general() -> set[type[Problem]]:
    """Return the refusals that every operation may answer with."""
    return set.intersection(*(set(route.refusals()) for route in all_routes()))


def _grouped(kinds: set[type[Problem]]) -> list[tuple[int, list[str]]]:
    by_status: dict[int, set[str]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, set()).add(kind.code)
    return [(status, sorted(names)) for status, names in sorted(by_status.items())]


reference = Router("/", route_handlers=[openapi_json, docs, docs_errors])
