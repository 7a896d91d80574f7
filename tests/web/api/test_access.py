"""Who may do what: keys, scopes, other shops, limits; swept over every route."""

import re
from datetime import timedelta
from typing import Any

from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import func, select

from app.audit.operations import SYSTEM
from app.merchants import operations as merchants
from app.merchants.keys import SCOPES
from app.payments.models import Payment, Refund
from app.runtime import Runtime
from app.webhooks.models import Endpoint
from tests.support.cast import Cast
from tests.support.runtime import Clock
from tests.web.api.shop import Api, problem
from web.api.reference import all_routes
from web.api.webhook_endpoints import Empty

UNKNOWN_ID = "0" * 34


def filled(path: str, object_id: str) -> str:
    return re.sub(r"\{\w+\}", object_id, path)


def body_of(route: Any) -> Any:
    return None if route.body is None else route.operation.example or {}


async def new_key(rt: Runtime, cast: Cast, **changes: Any) -> tuple[str, str]:
    async with rt.sessions.begin() as session:
        key, secret = await merchants.create_key(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            merchant_id=cast.shop.id,
            livemode=False,
            name="Another",
            **changes,
        )
    return key.id, secret


def test_every_route_names_its_permission(app: Litestar) -> None:
    missing = [
        (route.path, handler.fn)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.http_methods != {"OPTIONS"} and not handler.opt.get("permission")
    ]
    assert missing == []


def test_every_api_permission_is_a_scope() -> None:
    assert {route.operation.permission for route in all_routes()} <= set(SCOPES)


async def test_without_a_good_key_nothing_is_told(api: Api) -> None:
    wrong = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {api.secret}"},
        {"Authorization": "Bearer cf_test_" + "0" * 52},
        {"Authorization": "Bearer sk_test_123"},
        {"Cookie": f"Authorization=Bearer {api.secret}; __Host-session={api.secret}"},
    ]
    for route in all_routes():
        path = filled(route.path, f"{route.operation.ids or 'pay'}_{UNKNOWN_ID}")
        for headers in wrong:
            answer = await api.client.request(route.method.upper(), path, headers=headers)
            problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_without_the_scope_is_refused(api: Api, rt: Runtime, cast: Cast) -> None:
    for wanted in SCOPES:
        others = [scope for scope in SCOPES if scope != wanted]
        _, secret = await new_key(rt, cast, scopes=others)
        poor = Api(api.client, secret, api.runner)
        for route in all_routes():
            if route.operation.permission != wanted:
                continue
            path = filled(route.path, f"{route.operation.ids or 'pay'}_{UNKNOWN_ID}")
            headers = {"Idempotency-Key": "k"}
            body = body_of(route)
            answer = await poor.send(route.method.upper(), path, json=body, headers=headers)
            problem(answer, 403, "scope_missing")


async def objects_of(api: Api) -> dict[str, str]:
    payment = await api.paid(5_000)
    refund = await api.post("/v1/refunds", {"payment": payment["id"], "amount": 100})
    endpoint = await api.post("/v1/webhook_endpoints", {"url": "http://127.0.0.1:9/hook"})
    await api.post(f"/v1/webhook_endpoints/{endpoint.json()['id']}/test", key=None)
    await api.runner.drain()
    events = (await api.get("/v1/events")).json()["data"]
    path = f"/v1/webhook_endpoints/{endpoint.json()['id']}/deliveries"
    deliveries = (await api.get(path)).json()["data"]
    return {
        "pay": payment["id"],
        "re": refund.json()["id"],
        "we": endpoint.json()["id"],
        "evt": events[0]["id"],
        "whd": deliveries[0]["id"],
    }


async def test_charlie_gets_404_for_everything_of_alices(
    api: Api, charlie: Api, rt: Runtime
) -> None:
    mine = await objects_of(api)
    before = await everything(rt)
    for route in all_routes():
        prefix = route.operation.ids
        if prefix is None:
            continue
        for object_id in (mine[prefix], f"{prefix}_{UNKNOWN_ID}"):
            answer = await charlie.send(
                route.method.upper(),
                filled(route.path, object_id),
                json=None if route.body is None else {},
                headers={"Idempotency-Key": f"k-{route.name}"},
            )
            assert answer.status_code == 404, (route.name, answer.text)
            assert mine[prefix] not in answer.text.replace(filled(route.path, mine[prefix]), "")
    assert await everything(rt) == before


async def everything(rt: Runtime) -> Any:
    async with rt.sessions.read() as session:
        rows = [
            (await session.execute(select(func.count(), func.max(table.updated_at)))).one()
            for table in (Payment, Refund, Endpoint)
        ]
        return [tuple(row) for row in rows]


async def test_alices_objects_are_in_no_list_filter_or_cursor_of_charlies(
    api: Api, charlie: Api
) -> None:
    mine = await objects_of(api)
    for route in all_routes():
        if route.operation.rows is None or route.operation.ids is not None:
            continue
        assert (await charlie.get(route.path)).json()["data"] == [], route.name
        assert (await api.get(route.path)).json()["data"] != [], route.name
    for query in (f"payment={mine['pay']}", f"starting_after={mine['re']}"):
        answer = await charlie.get(f"/v1/refunds?{query}")
        assert answer.status_code == 404 or answer.json()["data"] == []
    answer = await charlie.post("/v1/refunds", {"payment": mine["pay"], "amount": 1})
    problem(answer, 404, "payment_not_found")
    assert (await charlie.get("/v1/balance")).json()["available"] == []


async def test_a_revoked_key_stops_within_a_second(
    api: Api, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    key_id, secret = await new_key(rt, cast)
    other = Api(api.client, secret, api.runner)
    assert (await other.get("/v1/payments")).status_code == 200
    async with rt.sessions.begin() as session:
        await merchants.revoke_key(
            session,
            ids=rt.ids,
            now=clock(),
            actor=SYSTEM,
            merchant_id=cast.shop.id,
            livemode=False,
            key_id=key_id,
        )
    clock.forward(seconds=1)
    problem(await other.get("/v1/payments"), 401, "unauthenticated")


async def test_an_expired_key_stops_at_once(
    api: Api, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    _, secret = await new_key(rt, cast, expires_at=clock() + timedelta(milliseconds=900))
    other = Api(api.client, secret, api.runner)
    first = await other.get("/v1/payments")
    assert first.status_code == 200
    clock.forward(seconds=0.95)
    problem(await other.get("/v1/payments"), 401, "unauthenticated")


async def test_a_switched_off_shop_is_told_so(
    api: Api, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    async with rt.sessions.begin() as session:
        await merchants.set_disabled(
            session,
            ids=rt.ids,
            now=clock(),
            actor=SYSTEM,
            merchant_id=cast.shop.id,
            disabled=True,
        )
    problem(await api.get("/v1/payments"), 403, "merchant_disabled")


async def test_a_key_in_the_address_is_refused_and_not_repeated(api: Api) -> None:
    for path in (f"/v1/payments?key={api.secret}", f"/v1/payments/{api.secret}"):
        answer = await api.get(path)
        problem(answer, 400, "api_key_in_url")
        assert api.secret not in answer.text
        assert answer.headers["cache-control"] == "no-store"


async def test_too_many_requests_are_told_when_to_come_again(
    api: Api, app: Litestar, clock: Clock
) -> None:
    app.state.limiter._burst, app.state.limiter._rate = 3, 0.5
    answers = [await api.get("/v1/payments?limit=1") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers["ratelimit-remaining"] for a in answers] == ["2", "1", "0", "0"]
    refused = problem(answers[-1], 429, "rate_limited")
    assert refused["type"] != "/docs/errors#idempotency-in-progress"
    assert answers[-1].headers["retry-after"] == answers[-1].headers["ratelimit-reset"] == "2"


async def test_live_and_test_mode_do_not_see_each_other(
    api: Api, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    made = await api.create()
    async with rt.sessions.begin() as session:
        _, secret = await merchants.create_key(
            session,
            ids=rt.ids,
            now=clock(),
            actor=SYSTEM,
            merchant_id=cast.shop.id,
            livemode=True,
            name="Live",
        )
    live = Api(api.client, secret, api.runner)
    problem(await live.get(f"/v1/payments/{made['id']}"), 404, "payment_not_found")
    answer = await live.post("/v1/payments", {"amount": 100, "currency": "eur"})
    problem(answer, 422, "psp_not_connected")


def test_a_bodiless_action_takes_no_fields() -> None:
    assert Empty.__struct_fields__ == ()
