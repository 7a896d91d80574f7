"""Everything that a shop can own, and how each button of its pages is pressed.

Sweeps over the routes build on this: a route or a path parameter that is not listed here fails.
"""

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from sqlalchemy import select

from app import db
from app.audit.models import AuditRow
from app.audit.operations import SYSTEM
from app.merchants import operations as merchants
from app.payments import queries
from app.risk.models import RiskBlock, RiskCheck
from app.runtime import Runtime
from app.webhooks import operations as webhooks
from app.webhooks.models import Delivery, Event
from tests.payments.risks import block
from tests.support.browser import Browser
from tests.support.cast import Person
from tests.web.api.shop import Api
from tests.web.dashboard.money import Shop
from web.api.reference import all_routes

SHOP = "/m/{merchant_id}/{mode}"
TOUCHED_BY_READING = frozenset({"sessions"})  # When a person was last seen.


def _filled(path: str, known: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda found: known[found[1]], path)


class Belongings(msgspec.Struct, frozen=True):
    """Ids of a shop's objects, by the path parameter that they fill; payments by what they are."""

    shop: Shop
    ids: dict[str, str]
    held: str
    open: str
    doubtful: str
    refund: str

    def path(self, path: str, merchant_id: str, mode: str) -> str:
        """Fill an address; KeyError for a parameter that nobody has listed."""
        known = self.ids | {"merchant_id": merchant_id, "mode": mode}
        known["payment_id"] = self.payment_for(path)
        return _filled(path, known)

    def payment_for(self, path: str) -> str:
        """Return the payment that this route can do something with."""
        if "/reviews/" in path:
            return self.doubtful
        return {"capture": self.held, "cancel": self.open}.get(
            path.rsplit("/", 1)[-1], self.ids["payment_id"]
        )


# What a form of the shop's pages carries, next to its token and its one-time key.
FIELDS: dict[str, dict[str, Any]] = {
    "/keys": {"name": "Till", "scopes": ["payments:read"], "lasting": ""},
    "/keys/{key_id}/rotate": {"overlap": "3600"},
    "/keys/{key_id}/revoke": {},
    "/webhooks": {"url": "https://new.example/hook", "description": "New"},
    "/webhooks/{endpoint_id}/edit": {"url": "https://moved.example/hook", "description": "x"},
    "/webhooks/{endpoint_id}/secret": {},
    "/webhooks/{endpoint_id}/delete": {},
    "/webhooks/{endpoint_id}/off": {},
    "/webhooks/{endpoint_id}/on": {},
    "/webhooks/{endpoint_id}/test": {},
    "/webhooks/{endpoint_id}/deliveries/{delivery_id}/send": {},
    "/webhooks/{endpoint_id}/send": {},
    "/settings": {"name": "Another name", "step_up_limit": "500.00"},
    "/settings/members": {"email": "new@shop.example", "role": "viewer"},
    "/settings/members/{user_id}/role": {"role": "owner"},
    "/settings/members/{user_id}/remove": {},
    "/settings/risk": {"currency": "eur", "hold_above": "1.00"},
    "/settings/risk/blocks": {"kind": "country", "value": "FR", "note": ""},
    "/settings/risk/blocks/{block_id}/remove": {},
    "/payments/{payment_id}/ask": {},
    "/payments/{payment_id}/refund": {"part": "part", "amount": "1.00", "reason": ""},
    "/payments/{payment_id}/capture": {"amount": "10.00"},
    "/payments/{payment_id}/cancel": {},
    "/reviews/{payment_id}": {"decision": "approve", "reason": "I called the customer."},
}
_KEYED = frozenset(
    {
        "/keys",
        "/keys/{key_id}/rotate",
        "/webhooks",
        "/webhooks/{endpoint_id}/secret",
        "/webhooks/{endpoint_id}/test",
        "/settings/members",
        "/payments/{payment_id}/refund",
        "/payments/{payment_id}/capture",
        "/payments/{payment_id}/cancel",
        "/reviews/{payment_id}",
    }
)


async def fields(rt: Runtime, path: str, things: Belongings) -> dict[str, Any]:
    """Return what the form of a route sends when all is well; KeyError: list the new route."""
    tail = path.removeprefix(SHOP)
    sent = dict(FIELDS[tail])
    if tail in _KEYED:
        sent["form_key"] = rt.ids.token(16)
    async with rt.sessions.read() as session:
        if tail.endswith("/refund"):
            row = await queries.payment_row(
                session, **things.shop.story.who, payment_id=things.ids["payment_id"]
            )
            sent["available"] = str(row.amount_captured - row.amount_refunded)
        if tail == "/reviews/{payment_id}":
            version = select(RiskCheck.version).filter_by(
                **things.shop.story.who, payment_id=things.doubtful
            )
            sent["seen"] = str(await session.scalar(version))
    return sent


async def furnish(shop: Shop, mark: str = "") -> Belongings:
    """Give Alice's shop one of everything, in test mode; again with another mark."""
    rt, story, who = shop.story.rt, shop.story, shop.story.who
    acting: dict[str, Any] = {"ids": rt.ids, "now": rt.clock(), "actor": SYSTEM, **who}
    async with rt.sessions.begin() as session:
        endpoint, _ = await webhooks.create_endpoint(
            session,
            **acting,
            sealer=rt.sealer,
            url=await rt.egress.check_url("http://127.0.0.1:9/hook"),
            description="Alice's",
            event_types=[],
        )
        key, _ = await merchants.create_key(session, **acting, name="Alice's")
    await block(story, "email", f"mallory{mark}@example.com")
    paid = await story.charge(reference=f"PAID{mark}", name="Mrs Private")
    refund = await story.refund(paid.id, 500)
    held = await story.charge(1_000, capture_method="manual")
    hosted = await story.create(2_000)
    doubtful = await story.create(
        12_840, payment_method="pm_card_visa", country="DE", card_country="NG"
    )
    await story.work()
    async with rt.sessions.read() as session:
        delivery = await session.scalar(
            select(Delivery.id).where(Delivery.endpoint_id == endpoint.id).limit(1)
        )
        audited = await session.scalar(select(AuditRow.id).where(AuditRow.object_id == key.id))
        blocked = await session.scalar(select(RiskBlock.id).order_by(RiskBlock.id.desc()).limit(1))
        told = await session.scalar(select(Event.id).where(Event.payment_id == paid.id).limit(1))
    assert told is not None
    assert delivery is not None
    assert audited is not None
    assert blocked is not None
    ids = {
        "payment_id": paid.id,
        "refund_id": refund.id,
        "event_id": told,
        "endpoint_id": endpoint.id,
        "delivery_id": delivery,
        "key_id": key.id,
        "user_id": shop.cast.vera.id,
        "row_id": audited,
        "block_id": blocked,
    }
    return Belongings(shop, ids, held.id, hosted.id, doubtful.id, refund.id)


def routes(app: Litestar) -> list[tuple[str, str, HTTPRouteHandler]]:
    """Return method, path and handler of every page of a shop."""
    found = [
        (str(method), route.path_format, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path_format.startswith(SHOP)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    ]
    assert len(found) > 40
    return found


async def rows(rt: Runtime) -> dict[str, list[tuple[Any, ...]]]:
    """Return the whole database but for what reading touches."""
    async with rt.sessions.snapshot() as session:
        return {
            table.name: [tuple(row) for row in await session.execute(select(table))]
            for table in db.Base.metadata.sorted_tables
            if table.name not in TOUCHED_BY_READING
        }


def changed(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> list[str]:
    """Return the names of tables that are not as they were, in any order of their rows."""
    return [
        name
        for name, found in after.items()
        if sorted(map(repr, found)) != sorted(map(repr, before[name]))
    ]


class Pressed(msgspec.Struct, frozen=True):
    """A request that was made: its route, and what came of it."""

    route: str
    method: str
    status: int
    words: str


_LAST = ("/delete", "/revoke", "/remove")  # What they end is needed by the others.


def _ends(route: tuple[str, str, Any]) -> bool:
    return route[0] == "POST" and route[1].endswith(_LAST)


async def press_all(
    app: Litestar, rt: Runtime, things: Belongings, person: Person
) -> AsyncIterator[Pressed]:
    """Open every page of the shop and press every button as somebody who may, in a good order."""
    merchant_id = things.shop.cast.shop.id
    async with Browser(app, person) as browser:
        for method, path, _ in sorted(routes(app), key=_ends):
            at = things.path(path, merchant_id, "test")
            if method == "GET":
                page = await browser.get(at)
            else:
                page = await browser.post(at, await fields(rt, path, things))
            yield Pressed(path, method, page.status, page.words)


async def call_all(api: Api, things: Belongings) -> AsyncIterator[Pressed]:
    """Call every operation of the API with objects that it can do something with."""
    ids = things.ids
    bodies: dict[str, Any] = {
        "POST /v1/payments": {"amount": 700, "currency": "eur"},
        "POST /v1/refunds": {"payment": ids["payment_id"], "amount": 100},
        "POST /v1/webhook_endpoints": {"url": "https://third.example/hook"},
        "PATCH /v1/webhook_endpoints/{endpoint_id}": {"description": "moved"},
    }
    found = [(route.method.upper(), route.path) for route in all_routes()]
    for method, path in sorted(found, key=lambda one: one[0] == "DELETE"):
        at = _filled(path, ids | {"payment_id": things.payment_for(path)})
        answer = await api.send(
            method,
            at,
            json=bodies.get(f"{method} {path}"),
            headers={"Idempotency-Key": f"key-{method}-{path}"} if method != "GET" else {},
        )
        yield Pressed(path, method, answer.status_code, answer.text)
