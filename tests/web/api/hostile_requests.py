"""Every place of every operation where a client may put something, taken from the served spec."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Litestar

from tests.support.asgi import INSIDE, Answer, ask
from tests.web.api.seeded import Seeded

JSON = [(b"Content-Type", b"application/json")]
# What a header cannot carry: servers end it there, or do not take the request at all.
_NOT_IN_HEADERS = re.compile(rb"[\r\n\x00]")
_NAMED = {"invalid_request", "card_data_not_allowed", "integer_form", "url_not_allowed"}
_HERE = "@@here@@"
_NUMBERS = count()


class Place(msgspec.Struct, frozen=True):
    """Where a value goes: `within` is path, query, header or body; `name` is dotted in a body."""

    within: str
    name: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation of the spec and where it can be reached."""

    id: str
    method: str
    path: str
    spec: dict[str, Any]
    places: list[Place]
    good: dict[str, Any] | None  # A body that is accepted; None where there is no body.
    codes: dict[int, set[str]]  # What the spec declares, by status.


def operations(spec: dict[str, Any], shop: Seeded) -> list[Operation]:
    """Return all operations; those that take something away come last."""
    found = []
    for path, methods in spec["paths"].items():
        for method, told in methods.items():
            content = told.get("requestBody", {}).get("content", {}).get("application/json")
            places = [Place(one["in"], one["name"]) for one in told.get("parameters", [])]
            if content:
                names = _fields(spec, content["schema"], "")
                places += [Place("body", name) for name in names]
            found.append(
                Operation(
                    id=told["operationId"],
                    method=method.upper(),
                    path=path,
                    spec=told,
                    places=places,
                    good=_good(content.get("example", {}), shop) if content else None,
                    codes={
                        int(status): set(re.findall(r"`(\w[\w-]*)`", answer["description"]))
                        for status, answer in told["responses"].items()
                    },
                )
            )
    return sorted(found, key=lambda one: (one.method == "DELETE", one.method == "PATCH"))


def _fields(spec: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Return the name of every field of a body, down to keys of maps and items of lists."""
    for part in (schema, *schema.get("anyOf", [])):
        told = part
        if "$ref" in part:
            told = spec["components"]["schemas"][part["$ref"].rpartition("/")[2]]
        for name, below in told.get("properties", {}).items():
            yield path + name
            yield from _fields(spec, below, f"{path}{name}.")
        if isinstance(told.get("additionalProperties"), dict):
            yield f"{path}key"
        if "items" in told:
            yield f"{path}0"


def _good(example: Mapping[str, Any], shop: Seeded) -> dict[str, Any]:
    """Return an example's body that can be sent again and again."""
    good = {name: value for name, value in example.items() if name != "reference"}
    return good | {"payment": shop.paid, "amount": 1} if "payment" in good else good


class Sender:
    """Sends requests that are good but for one place, and judges the answers."""

    def __init__(self, app: Litestar, secret: str, shop: Seeded) -> None:
        self.app = app
        self.secret = secret
        self.shop = shop
        self.sent = 0
        self.accepted = 0

    async def put(self, operation: Operation, place: Place, value: bytes) -> Answer:
        """Send a value in a place: JSON text in a body, bytes elsewhere."""
        if place.within == "body":
            good = dict(operation.good or {})
            if "payment" in good and place.name == "amount":
                good["payment"] = self.shop.by_status["succeeded"][0]  # Null is all that is left.
            return await self.send(operation, body=_body(good, place.name, value))
        if place.within == "query":
            name = quote(place.name, safe="[]").encode()
            return await self.send(operation, query=name + b"=" + quote(value, safe="").encode())
        if place.within == "header":
            header = (place.name.encode(), _NOT_IN_HEADERS.sub(b"", value))
            return await self.send(operation, headers=[header])
        return await self.send(operation, last_id=quote(value, safe="").encode())

    async def send(
        self,
        operation: Operation,
        *,
        body: bytes | None = None,
        query: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        media: list[tuple[bytes, bytes]] = JSON,
        last_id: bytes | None = None,
    ) -> Answer:
        """Send a request with some parts replaced; judge what every answer must be."""
        usual = {
            b"Host": b"localhost",
            b"Authorization": f"Bearer {self.secret}".encode(),
            b"Idempotency-Key": b"hostile-%d" % next(_NUMBERS),
        } | dict(headers or [])
        if body is None and operation.good is not None:
            body = json.dumps(operation.good).encode()
        address = self._path(operation, last_id) + (b"?" + query if query else b"")
        answer = await ask(
            self.app,
            operation.method,
            address,
            headers=[*usual.items(), *(media if body is not None else [])],
            body=[body] if body else [],
        )
        self.sent += 1
        self._judge(operation, answer, elsewhere=last_id is not None)
        await self._tidy(operation, answer)
        return answer

    def _path(self, operation: Operation, last_id: bytes | None) -> bytes:
        path = operation.path.encode()
        for name in re.findall(r"\{(\w+)\}", operation.path):
            able = self.shop.for_path(operation.id, name)
            one = able[self.sent % len(able)].encode() if last_id is None else last_id
            path = path.replace(b"{%s}" % name.encode(), one)
        return path

    def _judge(self, operation: Operation, answer: Answer, *, elsewhere: bool) -> None:
        told = (operation.id, answer)
        assert answer.status < 500, told
        if answer.status < 300:
            self.accepted += 1
            assert answer.headers["content-type"] == "application/json", told
            return
        assert answer.headers["content-type"] == "application/problem+json", told
        assert not INSIDE.search(answer.body), told
        problem = answer.json()
        declared = operation.codes.get(answer.status, set())
        if elsewhere:  # An id with a slash is another address.
            declared = declared | {"not_found", "method_not_allowed"}
        assert (problem["status"], problem["code"] in declared) == (answer.status, True), told
        assert problem["detail"], told

    async def _tidy(self, operation: Operation, answer: Answer) -> None:
        """Take an endpoint away again, because a shop has only so many."""
        if operation.id == "create_webhook_endpoint" and answer.status == 201:
            address = f"/v1/webhook_endpoints/{answer.json()['id']}".encode()
            headers = [
                (b"Host", b"localhost"),
                (b"Authorization", f"Bearer {self.secret}".encode()),
            ]
            assert (await ask(self.app, "DELETE", address, headers=headers)).status == 200


def check_named(place: Place, answer: Answer) -> None:
    """Check that a refusal for a value says which place it is about."""
    if answer.status < 400:
        return
    problem = answer.json()
    if answer.status == 404 or problem["code"] not in _NAMED:
        return
    wanted = re.sub(r"\.(\d+)", r"[\1]", place.name)
    names = [problem["param"], *(one["param"] for one in problem["errors"])]
    assert any(name and (name.startswith(wanted) or wanted.startswith(name)) for name in names), (
        place,
        problem,
    )


def _body(good: dict[str, Any], name: str, value: bytes) -> bytes:
    """Return the good body with one field written as this JSON text."""
    body = json.loads(json.dumps(good))
    at, *below = name.split(".")[::-1]
    inner = body
    for step in reversed(below):
        found = inner.get(step)
        inner[step] = found if isinstance(found, dict) else {}
        inner = inner[step]
    if at == "0":
        # The last step is an item, so what holds it is a list.
        outer = body
        for step in reversed(below[1:]):
            outer = outer[step]
        outer[below[0]] = [_HERE]
    else:
        inner[at] = _HERE
    return json.dumps(body).encode().replace(json.dumps(_HERE).encode(), value, 1)
