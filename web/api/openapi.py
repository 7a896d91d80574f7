"""The OpenAPI document, made from what the routes say of themselves and from their structs."""

import re
import types
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any, get_args, get_origin

import msgspec
from litestar import Router
from litestar.handlers import HTTPRouteHandler

from app.errors import (
    Invalid,
    NotFound,
    Problem,
    TooMany,
    Unauthenticated,
)
from app.idempotency import InProgress, KeyExpired, KeyMalformed, KeyMissing, KeyReused
from app.merchants.keys import API_VERSION, ScopeMissing
from app.merchants.queries import MerchantDisabled
from web.api import examples, words
from web.api.fields import END, id_pattern
from web.api.operation import Operation
from web.deps import CardData, IntegerForm, TooLarge, UnsupportedMedia
from web.errors import (
    MEDIA_TYPE,
    DatabaseUnavailable,
    InternalError,
    Overloaded,
    Stopping,
    TooSlow,
)
from web.front import HostNotAllowed, KeyInUrl

_REF = "#/components/schemas/{name}"
EVERYWHERE: tuple[type[Problem], ...] = (
    Invalid,
    CardData,
    KeyInUrl,
    HostNotAllowed,
    Unauthenticated,
    ScopeMissing,
    MerchantDisabled,
    TooMany,
    InternalError,
    DatabaseUnavailable,
    Overloaded,
    Stopping,
)
WITH_BODY: tuple[type[Problem], ...] = (TooLarge, TooSlow, UnsupportedMedia, IntegerForm)
WITH_KEY: tuple[type[Problem], ...] = (KeyMalformed, KeyReused, KeyExpired, InProgress)

_KEY_PATTERN = r'^([!#-~][!-~]{0,254}|"|"[!-~]{1,255}"|"[!-~]{0,253}[!#-~])$'
_DESCRIPTION = """\
JSON over HTTPS under `/v1`. Send `Authorization: Bearer cf_test_…` or `cf_live_…`: the key decides
the shop and the mode. Amounts are integers in the currency's minor unit.

Every POST that moves money needs an `Idempotency-Key` of your own: the same request with the same
key is done once, and its answer is sent again with `Idempotent-Replayed: true`.

Answers carry `Request-Id` (yours, if you send a sane one), `Counterfoil-Version` and `RateLimit-*`.
`Prefer: wait=5` on payments waits up to 10 s for a final status. `Ledger-Position-Min` on balance
and entries waits up to 2 s for a ledger position or for `latest`.

An operation that is *strong* answers with everything committed before the request arrived; an
*eventual* one may be a moment behind.
"""


class ProblemShape(msgspec.Struct, kw_only=True, rename={"kind": "type"}):
    """A refusal as RFC 9457 problem details; each code is explained at `type`."""

    kind: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    param: str | None
    decline_code: str | None
    request_id: str
    errors: list[dict[str, str]]


class Route(msgspec.Struct, frozen=True):
    """One operation with its address."""

    path: str
    method: str
    handler: HTTPRouteHandler
    operation: Operation

    @property
    def name(self) -> str:
        """The operation's id: the name of the function that handles it."""
        return str(self.handler.fn.__name__)

    @property
    def body(self) -> type[msgspec.Struct] | None:
        """The struct of the request's body."""
        field = self.handler.parsed_data_field
        return None if field is None else typing.cast("type[msgspec.Struct]", field.annotation)

    @property
    def texts(self) -> tuple[str, str]:
        """The first sentence of the handler's docstring, and all of it."""
        whole = re.sub(r"\n +", "\n", (self.handler.fn.__doc__ or "").strip())
        return whole.split("\n", maxsplit=1)[0], whole

    def refusals(self) -> list[type[Problem]]:
        """Every refusal that the operation may answer with."""
        found = [*self.operation.refusals, *EVERYWHERE]
        if "{" in self.path:
            found.append(NotFound)  # What cannot be an id at all.
        if self.body is not None:
            found += WITH_BODY
        if self.operation.key != "none":
            found += WITH_KEY
        if self.operation.key == "required":
            found.append(KeyMissing)
        return found


def routes(router: Router) -> list[Route]:
    """Return the operations of a router, in the order that they are declared in."""
    found = []
    for route in router.routes:
        for handler in getattr(route, "route_handlers", []):
            operation = handler.opt.get("operation")
            if operation is not None:
                path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
                method = next(iter(handler.http_methods)).lower()
                found.append(Route(path, method, handler, operation))
    return found


def document(found: Sequence[Route], server: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    kinds = _kinds(found)
    _, schemas = msgspec.json.schema_components([_plain(k) for k in kinds], ref_template=_REF)
    _explain(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in found:
        made = _operation(route)
        if links := _links(route, found):
            made["responses"][str(route.operation.status)]["links"] = links
        paths.setdefault(route.path, {})[route.method] = made
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Counterfoil",
            "version": API_VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "security": [{"apiKey": []}],
        "tags": [{"name": name} for name in dict.fromkeys(r.operation.tag for r in found)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
    }
    cleaned: dict[str, Any] = _shown(whole)
    return cleaned


def _explain(schemas: dict[str, Any]) -> None:
    """Say of each field what it means, beside what its type says."""
    for shape, schema in schemas.items():
        for name, field in schema.get("properties", {}).items():
            if text := words.about(shape, name, described=_described(field)):
                field["description"] = " ".join([text, field.get("description", "")]).strip()


def _described(schema: dict[str, Any]) -> bool:
    return any("description" in one for one in (schema, *schema.get("anyOf", [])))


def _links(route: Route, found: Sequence[Route]) -> dict[str, Any]:
    """Return which operations take the id of what this one made."""
    answer = route.operation.answer
    if answer is None or route.operation.status != 201:
        return {}
    shows = [r.operation for r in found if r.method == "get" and r.operation.answer is answer]
    prefixes = {operation.ids for operation in shows}
    links: dict[str, Any] = {}
    for other in found:
        if other.operation.ids in prefixes and other.operation.ids is not None:
            name = re.findall(r"\{(\w+)\}", other.path)[0]
            links[other.name] = {
                "operationId": other.name,
                "parameters": {name: "$response.body#/id"},
            }
    return links


def _kinds(found: Sequence[Route]) -> list[type[msgspec.Struct]]:
    kinds: list[type[msgspec.Struct]] = [ProblemShape]
    for route in found:
        kinds += [k for k in (route.operation.answer, route.operation.rows, route.body) if k]
    return list(dict.fromkeys(kinds))


@cache
def _plain(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the struct with unions of lists written as a list of the union, which is as true."""
    annotations = typing.get_type_hints(kind, include_extras=True)
    if not any(_lists_in(value) for value in annotations.values()):
        return kind
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        parts = _lists_in(annotations[field.name])
        inner: Any = field.type
        if parts:
            inner = list[typing.Union[tuple(get_args(p)[0] for p in parts)]]  # type: ignore[misc] # noqa: UP007 - made at run time
        fields.append((field.name, inner))
    made = msgspec.defstruct(kind.__name__, fields, kw_only=True)
    made.__doc__ = kind.__doc__
    return made


def _lists_in(annotation: Any) -> list[Any]:
    if get_origin(annotation) not in {typing.Union, types.UnionType}:
        return []
    lists = [part for part in get_args(annotation) if get_origin(part) is list]
    return lists if len(lists) > 1 else []


def _operation(route: Route) -> dict[str, Any]:
    operation = route.operation
    summary, text = route.texts
    note = {
        "strong": "Consistency: strong.",
        "eventual": "Consistency: eventual; see `Ledger-Position-Min`.",
    }[operation.consistency]
    made: dict[str, Any] = {
        "operationId": route.name,
        "tags": [operation.tag],
        "summary": summary,
        "description": f"{text}\n\n{note} Scope: `{operation.permission}`.",
        "parameters": _parameters(route),
        "responses": _responses(route),
        "x-consistency": operation.consistency,
        "x-scope": operation.permission,
    }
    if route.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": _REF.format(name=route.body.__name__)}}
        if operation.example is not None:
            content["example"] = operation.example
        needed = any(field.required for field in msgspec.structs.fields(route.body))
        made["requestBody"] = {"required": needed, "content": {"application/json": content}}
    return made


def _parameters(route: Route) -> list[dict[str, Any]]:
    operation = route.operation
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The {name.removesuffix('_id')}'s id.",
            "schema": {"type": "string", "pattern": id_pattern(operation.ids or "")},
            "example": examples.IDS[operation.ids or ""],
        }
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    if operation.key != "none":
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": operation.key == "required",
                "description": "Any 1 to 255 visible characters of yours, quoted or not.",
                "schema": {"type": "string", "pattern": _KEY_PATTERN},
                "example": "order-10498",
            }
        )
    for field in msgspec.structs.fields(operation.query) if operation.query else ():
        schema = msgspec.json.schema(field.type)
        options = [o for o in schema.get("anyOf", [schema]) if o.get("type") != "null"]
        schema = options[0] if len(options) == 1 else {"anyOf": options}
        if field.default is not msgspec.NODEFAULT and field.default is not None:
            schema["default"] = field.default
        one = {"name": field.encode_name, "in": "query", "required": False, "schema": schema}
        shape = operation.query.__name__ if operation.query else ""
        if text := words.about(shape, field.encode_name, described=_described(schema)):
            one["description"] = text
        found.append(one)
    return found


def _responses(route: Route) -> dict[str, Any]:
    operation = route.operation
    schema: dict[str, Any] = {}
    if operation.answer is not None:
        schema = {"$ref": _REF.format(name=operation.answer.__name__)}
    if operation.rows is not None:
        schema = {
            "type": "object",
            "required": ["object", "data", "has_more", "url"],
            "properties": {
                "object": {"const": "list"},
                "data": {
                    "type": "array",
                    "items": {"$ref": _REF.format(name=operation.rows.__name__)},
                },
                "has_more": {"type": "boolean"},
                "url": {"type": "string"},
            },
        }
    made: dict[str, Any] = {
        str(operation.status): {
            "description": "Done, or done before with this key."
            if operation.key != "none"
            else "Found.",
            "headers": _headers(operation),
            "content": {
                "application/json": {"schema": schema, "example": examples.ANSWERS[route.name]}
            },
        }
    }
    by_status: dict[int, list[type[Problem]]] = {}
    for refusal in dict.fromkeys(route.refusals()):
        by_status.setdefault(refusal.status, []).append(refusal)
    for status, refusals in sorted(by_status.items()):
        made[str(status)] = _refused(status, refusals)
    return made


def _headers(operation: Operation) -> dict[str, Any]:
    names = ["Request-Id", "Counterfoil-Version", "RateLimit-Remaining"]
    if operation.key != "none":
        names.append("Idempotent-Replayed")
    if operation.rows is not None:
        names.append("Link")
    if operation.tag == "Money":
        names.append("Ledger-Position")
    return {name: {"schema": {"type": "string"}} for name in names}


def _refused(status: int, refusals: Sequence[type[Problem]]) -> dict[str, Any]:
    codes = sorted({refusal.code for refusal in refusals})
    made: dict[str, Any] = {
        "description": "; ".join(f"`{code}`" for code in codes),
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="ProblemShape")}}},
    }
    if status in {429, 503}:
        made["headers"] = {"Retry-After": {"schema": {"type": "string"}}}
    return made


def _shown(value: Any) -> Any:
    """Take what only Python needs out of patterns; the rest stays as it is."""
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return (
        value.removesuffix(END) + "$" if isinstance(value, str) and value.endswith(END) else value
    )
