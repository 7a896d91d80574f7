"""A shop plugin: it sends requests with its key, as JSON, and plays its payments through."""

import re
from itertools import count
from typing import Any

import httpx

from web.api.openapi import Route
from web.api.reference import all_routes
from workers.runner import Runner

_KEYS = count(1)


class Api:
    """One shop's way to the API."""

    def __init__(self, client: httpx.AsyncClient, secret: str, runner: Runner) -> None:
        self.client = client
        self.secret = secret
        self.runner = runner

    async def get(self, path: str, **kw: Any) -> httpx.Response:
        return await self.send("GET", path, **kw)

    async def post(
        self, path: str, body: Any = None, *, key: str | None = "", **kw: Any
    ) -> httpx.Response:
        """Post JSON; `key` is made up unless given, None sends none."""
        headers = dict(kw.pop("headers", {}))
        if key is not None:
            headers["Idempotency-Key"] = key or f"key-{next(_KEYS)}"
        if body is not None:
            kw["json"] = body
        return await self.send("POST", path, headers=headers, **kw)

    async def send(self, method: str, path: str, **kw: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secret}", **kw.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **kw)

    async def create(self, amount: int = 10_000, **fields: Any) -> dict[str, Any]:
        """Create a payment; it must be accepted."""
        answer = await self.post("/v1/payments", {"amount": amount, "currency": "eur", **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def paid(self, amount: int = 10_000, **fields: Any) -> dict[str, Any]:
        """Create an off-session payment and let the workers carry it to the ledger."""
        made = await self.create(amount, payment_method="pm_card_visa", **fields)
        await self.runner.drain()
        answer = await self.get(f"/v1/payments/{made['id']}")
        found: dict[str, Any] = answer.json()
        assert found["status"] == "succeeded", found
        return found


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is problem details of this kind, as the spec says; return them."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == f"/docs/errors#{code}"
    assert body["request_id"] == answer.headers["request-id"]
    for route in _asked(answer.request):
        told = {(kind.status, kind.code) for kind in route.refusals()}
        assert (status, code) in told, f"the spec of {route.name} does not know {code}"
    return body


def _asked(request: httpx.Request) -> list[Route]:
    """Return the operation that a request asked for; none when there is no such address."""
    found = []
    for route in all_routes():
        pattern = re.sub(r"\{\w+\}", "[^/]+", route.path)
        if route.method.upper() == request.method and re.fullmatch(pattern, request.url.path):
            found.append(route)
    return found
