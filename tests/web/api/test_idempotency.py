"""The table "Idempotency", row by row, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app import idempotency
from app.audit.operations import SYSTEM
from app.egress import Egress
from app.idempotency import KeyRow
from app.jobs import Job
from app.merchants import operations as merchants
from app.payments import accepting
from app.payments.models import Payment, Refund
from app.runtime import Runtime
from tests.support.cast import Cast
from tests.support.invariants import check_invariants
from tests.support.runtime import Clock, resolve
from tests.web.api.shop import Api, problem
from web.api.reference import all_routes

PATH = "/v1/payments"
REUSED = "idempotency-key-reused"
BODY = {"amount": 1200, "currency": "eur", "metadata": {"a": "1", "b": "2"}}


async def count(rt: Runtime, table: Any) -> int:
    async with rt.sessions.read() as session:
        return int(await session.scalar(select(func.count()).select_from(table)) or 0)


async def test_a_missing_key_is_refused_where_one_is_needed(api: Api, rt: Runtime) -> None:
    """Each request would be accepted with a key, so nothing else can be what refuses it."""
    paid = await api.paid()
    held = [
        await api.create(capture_method="manual", payment_method="pm_card_visa") for _ in range(2)
    ]
    await api.runner.drain()
    requests: list[tuple[str, Any]] = [
        (PATH, {**BODY, "payment_method": "pm_card_visa"}),
        (f"{PATH}/{held[0]['id']}/capture", {"amount": 1_000}),
        (f"{PATH}/{held[1]['id']}/cancel", None),
        ("/v1/refunds", {"payment": paid["id"], "amount": 1_000}),
    ]
    assert {route.name for route in all_routes() if route.operation.key == "required"} == {
        "create_payment",
        "capture_payment",
        "cancel_payment",
        "create_refund",
    }
    kept = [await count(rt, table) for table in (Payment, Refund, KeyRow, Job)]
    for path, body in requests:
        answer = await api.post(path, body, key=None)
        told = problem(answer, 400, "idempotency-key-missing")
        assert told["param"] == "Idempotency-Key"
    assert [await count(rt, table) for table in (Payment, Refund, KeyRow, Job)] == kept
    for path, body in requests:
        assert (await api.post(path, body)).status_code in {200, 201}
    await api.runner.drain()
    await check_invariants(rt)


@pytest.mark.parametrize("key", ['""', "a b", "ä".encode().decode("latin-1"), "x" * 256, '"' * 300])
async def test_a_malformed_key_is_refused(api: Api, rt: Runtime, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    problem(await api.post(PATH, BODY, key=None, headers=headers), 400, "idempotency-key-invalid")
    assert await count(rt, KeyRow) == 0


async def test_a_repeated_key_header_is_refused(api: Api) -> None:
    headers = [
        ("Authorization", f"Bearer {api.secret}"),
        ("Idempotency-Key", "a"),
        ("Idempotency-Key", "b"),
    ]
    answer = await api.client.post(PATH, json=BODY, headers=headers)
    problem(answer, 400, "idempotency-key-invalid")


async def test_quotes_around_a_key_change_nothing(api: Api) -> None:
    first = await api.post(PATH, BODY, key="order-1")
    second = await api.post(PATH, BODY, key='"order-1"')
    assert second.json()["id"] == first.json()["id"]


async def test_the_scope_is_the_shop_and_the_mode(
    api: Api, charlie: Api, rt: Runtime, cast: Cast
) -> None:
    """F53: one key, told apart by shop and by mode, answers each with its own resource."""
    async with rt.sessions.begin() as session:
        _, secret = await merchants.create_key(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            merchant_id=cast.shop.id,
            livemode=True,
            name="Live",
        )
    live = Api(api.client, secret, api.runner)
    path, body = "/v1/webhook_endpoints", {"url": "https://shop.example/hook"}
    made = [await shop.post(path, body, key="same") for shop in (api, charlie, live)]
    assert [answer.status_code for answer in made] == [201] * 3
    assert len({answer.json()["id"] for answer in made}) == 3
    assert [answer.json()["livemode"] for answer in made] == [False, False, True]
    for shop, first in zip((api, charlie, live), made, strict=True):
        assert "idempotent-replayed" not in first.headers
        again = await shop.post(path, body, key="same")
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["id"] == first.json()["id"]
    async with rt.sessions.read() as session:
        scopes = set(await session.scalars(select(KeyRow.scope)))
    assert scopes == {
        f"m:{cast.shop.id}:test",
        f"m:{cast.shop.id}:live",
        f"m:{cast.other_shop.id}:test",
    }


async def test_a_replay_shows_the_resource_as_it_is_now(api: Api, rt: Runtime) -> None:
    body = {**BODY, "payment_method": "pm_card_visa"}
    first = await api.post(PATH, body, key="k")
    assert (first.status_code, first.json()["status"]) == (201, "processing")
    still = await api.post(PATH, body, key="k")
    assert (still.status_code, still.json()["status"]) == (201, "processing")
    await api.runner.drain()
    again = await api.post(PATH, body, key="k")
    assert (again.status_code, again.json()["status"]) == (201, "succeeded")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert await count(rt, Payment) == 1


async def test_spacing_and_field_order_are_the_same_request(api: Api) -> None:
    first = await api.post(PATH, BODY, key="k")
    spaced = b'{ "metadata": {"b":"2", "a":"1"},\n "currency":"eur", "amount":1200 }'
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    again = await api.send("POST", PATH, content=spaced, headers=headers)
    assert again.json()["id"] == first.json()["id"]


async def test_another_request_with_a_used_key_is_refused(api: Api, rt: Runtime) -> None:
    """F53."""
    first = await api.post(PATH, BODY, key="k")
    problem(await api.post(PATH, {**BODY, "amount": 1201}, key="k"), 422, "idempotency-key-reused")
    payment = first.json()["id"]
    other = await api.post(f"{PATH}/{payment}/cancel", key="k")
    problem(other, 422, "idempotency-key-reused")
    assert (await api.post(PATH, BODY, key="k")).status_code == 201
    assert await count(rt, Payment) == 1


async def test_a_refusal_is_stored_and_sent_again_byte_by_byte(api: Api, rt: Runtime) -> None:
    await api.create(reference="order-1")
    body = {**BODY, "reference": "order-1"}
    first = await api.post(PATH, body, key="k")
    problem(first, 409, "reference_in_use")
    assert "idempotent-replayed" not in first.headers
    again = await api.post(PATH, body, key="k")
    assert (again.status_code, again.content) == (409, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == "application/problem+json"
    assert again.headers["request-id"] != first.headers["request-id"]
    assert await count(rt, Payment) == 1


async def test_what_is_refused_before_the_work_stores_nothing(api: Api, rt: Runtime) -> None:
    problem(await api.post(PATH, {**BODY, "amount": 0}, key="k"), 400, "invalid_request")
    missing = f"{PATH}/pay_{'0' * 34}/cancel"
    problem(await api.post(missing, key="k"), 404, "payment_not_found")
    assert await count(rt, KeyRow) == 0
    assert (await api.post(PATH, BODY, key="k")).status_code == 201


async def test_a_key_in_use_right_now_is_answered_429(api: Api, rt: Runtime, cast: Cast) -> None:
    scope, hashed = f"m:{cast.shop.id}:test", idempotency.key_hash("k")
    async with _held(rt, scope, hashed):
        second = await api.post(PATH, BODY, key="k")
    problem(second, 429, "idempotency-in-progress")
    assert second.headers["retry-after"] == "1"
    assert (await api.post(PATH, BODY, key="k")).status_code == 201
    assert (await api.post(PATH, BODY, key="k")).headers["idempotent-replayed"] == "true"


@asynccontextmanager
async def _held(rt: Runtime, scope: str, hashed: str) -> AsyncIterator[None]:
    """Hold what the first request holds while it works."""
    if rt.sessions.sqlite:
        async with rt.keys_in_progress.hold(True, scope, hashed):
            yield
        return
    async with rt.sessions.begin() as session:
        await idempotency.look(session, scope=scope, hashed=hashed, fingerprint="")
        yield


async def test_a_crash_stores_nothing_and_the_retry_works(
    api: Api, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = accepting.create_payment

    async def broken(*_args: Any, **_kw: Any) -> Any:
        raise RuntimeError("the power went away: cf_test_secret SELECT 1")

    monkeypatch.setattr(accepting, "create_payment", broken)
    answer = await api.post(PATH, BODY, key="k")
    problem(answer, 500, "internal_error")
    assert "power" not in answer.text
    assert "SELECT" not in answer.text
    assert (await count(rt, Payment), await count(rt, KeyRow)) == (0, 0)
    monkeypatch.setattr(accepting, "create_payment", create)
    again = await api.post(PATH, BODY, key="k")
    assert again.status_code == 201
    assert "idempotent-replayed" not in again.headers


async def test_an_old_key_is_a_tombstone_for_ever(api: Api, rt: Runtime, clock: Clock) -> None:
    await api.post(PATH, BODY, key="k")
    clock.forward(days=31)
    async with rt.sessions.begin() as session:
        assert await idempotency.purge(session, now=clock()) == 1
    problem(await api.post(PATH, BODY, key="k"), 422, "idempotency-key-expired")
    assert await count(rt, Payment) == 1


async def test_a_hundred_requests_with_one_key_make_one_payment(api: Api, rt: Runtime) -> None:
    """F52."""
    answers = await asyncio.gather(*[api.post(PATH, BODY, key="k") for _ in range(100)])
    fresh = [a for a in answers if a.status_code == 201 and "idempotent-replayed" not in a.headers]
    replays = [a for a in answers if "idempotent-replayed" in a.headers]
    busy = [a for a in answers if a.status_code == 429]
    assert len(fresh) == 1
    assert len(fresh) + len(replays) + len(busy) == 100
    assert {a.json()["id"] for a in replays} <= {fresh[0].json()["id"]}
    assert all(a.headers["retry-after"] == "1" for a in busy)
    assert (await count(rt, Payment), await count(rt, KeyRow)) == (1, 1)


async def test_two_requests_with_one_reference_make_one_payment(api: Api, rt: Runtime) -> None:
    body = {**BODY, "reference": "order-1"}
    answers = await asyncio.gather(*[api.post(PATH, body) for _ in range(10)])
    assert sorted(a.status_code for a in answers) == [201] + [409] * 9
    assert await count(rt, Payment) == 1


async def test_two_refunds_of_80_from_100_give_one_and_a_stored_refusal(
    api: Api, rt: Runtime
) -> None:
    """F54."""
    payment = await api.paid(100)
    body = {"payment": payment["id"], "amount": 80}
    answers = await asyncio.gather(*[api.post("/v1/refunds", body, key=f"r{n}") for n in range(2)])
    assert sorted(a.status_code for a in answers) == [201, 422]
    refused = next(n for n, a in enumerate(answers) if a.status_code == 422)
    problem(answers[refused], 422, "amount_exceeds_refundable")
    again = await api.post("/v1/refunds", body, key=f"r{refused}")
    assert again.content == answers[refused].content
    assert await count(rt, Refund) == 1
    await api.runner.drain()
    await check_invariants(rt)


async def test_a_capture_and_a_cancel_are_replayed_too(api: Api) -> None:
    made = await api.create(5_000, capture_method="manual", payment_method="pm_card_visa")
    await api.runner.drain()
    path = f"{PATH}/{made['id']}/capture"
    first = await api.post(path, {"amount": 4_000}, key="c")
    assert (first.status_code, first.json()["status"]) == (200, "processing")
    await api.runner.drain()
    again = await api.post(path, {"amount": 4_000}, key="c")
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.json()["status"], again.json()["amount_captured"]) == ("succeeded", 4_000)


async def test_a_key_is_welcome_on_other_posts(api: Api) -> None:
    path = "/v1/webhook_endpoints"
    body = {"url": "http://127.0.0.1:9/hook"}
    first = await api.post(path, body, key="w")
    assert first.status_code == 201, first.text
    assert first.json()["secret"].startswith("whsec_")
    again = await api.post(path, body, key="w")
    assert again.json()["id"] == first.json()["id"]
    assert "secret" not in again.json()
    assert (await api.post(path, body, key=None)).json()["id"] != first.json()["id"]


async def test_a_replay_does_not_ask_for_the_name_of_the_host_again(api: Api, rt: Runtime) -> None:
    path, body = "/v1/webhook_endpoints", {"url": "https://shop.example/hook"}
    first = await api.post(path, body, key="w")
    assert first.status_code == 201, first.text

    async def nobody_answers(host: str, port: int) -> list[str]:
        raise OSError("the resolver is down")

    rt.egress = Egress(resolve=nobody_answers)
    again = await api.post(path, body, key="w")
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert again.headers["idempotent-replayed"] == "true"
    problem(await api.post(path, {**body, "url": "https://x.example/"}, key="w"), 422, REUSED)
    # Whether a name is known may change, so that answer is not stored with the key.
    problem(await api.post(path, body, key="w2"), 422, "url_not_resolved")
    problem(await api.post(path, body, key=None), 422, "url_not_resolved")
    rt.egress = Egress(resolve=resolve)
    assert (await api.post(path, body, key="w2")).status_code == 201
    assert await count(rt, KeyRow) == 2


async def test_a_replay_of_what_was_deleted_tells_that_it_is_gone(api: Api) -> None:
    body = {"url": "https://shop.example/hook"}
    made = (await api.post("/v1/webhook_endpoints", body, key="k")).json()
    await api.send("DELETE", f"/v1/webhook_endpoints/{made['id']}")
    again = await api.post("/v1/webhook_endpoints", body, key="k")
    problem(again, 404, "webhook_endpoint_not_found")


async def test_a_row_that_was_seen_too_late_is_replayed(
    api: Api, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL the look may be older than the lock; the unique key then decides."""
    first = await api.post(PATH, BODY, key="k")
    look, misses = idempotency.look, [True]

    async def blind(*args: Any, **kw: Any) -> Any:
        found = await look(*args, **kw)
        return None if misses and misses.pop() else found

    monkeypatch.setattr(idempotency, "look", blind)
    again = await api.post(PATH, BODY, key="k")
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert again.headers["idempotent-replayed"] == "true"
    assert await count(rt, Payment) == 1


async def test_a_fingerprint_of_an_older_rule_still_replays(api: Api, rt: Runtime) -> None:
    first = await api.post(PATH, BODY, key="k")
    async with rt.sessions.begin() as session:
        await session.execute(update(KeyRow).values(fingerprint_rule=0, fingerprint="old"))
    again = await api.post(PATH, BODY, key="k")
    assert again.json()["id"] == first.json()["id"]
