"""Payments, refunds, money, events and endpoints as a shop plugin sees them."""

import asyncio
import time
from typing import Any

import pytest
from litestar import Litestar
from sqlalchemy import func, select

from app.jobs import Job
from app.runtime import Runtime
from tests.support.invariants import check_invariants
from tests.support.psp import BookPsp
from tests.support.runtime import Clock
from tests.web.api.shop import Api, problem
from web.api import ledger

PATH = "/v1/payments"


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


async def test_a_payment_is_accepted_before_the_psp_is_asked(api: Api, psp: BookPsp) -> None:
    body = {
        "amount": 12840,
        "currency": "EUR",
        "reference": "DEMO-1",
        "customer": {"email": "Customer@example.com"},
        "metadata": {"cart": "17"},
    }
    answer = await api.post(PATH, body)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["status"], made["currency"], made["livemode"]) == ("requires_action", "eur", False)
    assert made["checkout_url"].startswith("https://localhost/checkout/pay_")
    assert made["metadata"] == {"cart": "17"}
    assert made["created_at"].endswith("Z")
    assert psp.requests == []
    assert (await api.get(f"{PATH}/{made['id']}")).json() == made


async def test_prefer_wait_waits_for_the_final_status(api: Api) -> None:
    body = {"amount": 100, "currency": "eur", "payment_method": "pm_card_visa"}
    waiting = asyncio.create_task(api.post(PATH, body, headers={"Prefer": "wait=9"}))
    for _ in range(200):
        if ids(await api.get(PATH)):
            break
        await asyncio.sleep(0.02)
    await api.runner.drain()
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded")
    assert answer.headers["preference-applied"] == "wait=9"


async def test_prefer_wait_gives_up_in_time(api: Api) -> None:
    body = {"amount": 100, "currency": "eur", "payment_method": "pm_card_visa"}
    since = time.monotonic()
    answer = await api.post(PATH, body, headers={"Prefer": "respond-async, wait=1"})
    assert time.monotonic() - since < 5
    assert (answer.status_code, answer.json()["status"]) == (201, "processing")
    for nonsense in ("wait=-1", "wait=abc", "hurry"):
        answer = await api.post(PATH, body, headers={"Prefer": nonsense})
        assert "preference-applied" not in answer.headers


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"currency": "kpw"}, 422, "currency_not_supported"),
        ({"psp": "paypal"}, 422, "psp_not_connected"),
        ({"return_url": "http://shop.example/"}, 422, "url_not_allowed"),
        ({"cancel_url": "http://127.0.0.1.evil.example/"}, 422, "url_not_allowed"),
    ],
)
async def test_what_a_rule_refuses_is_422(
    api: Api, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.post(PATH, {"amount": 100, "currency": "eur", **change})
    problem(answer, status, code)


async def test_a_shop_on_this_machine_may_use_http_in_test_mode(api: Api) -> None:
    made = await api.create(return_url="http://127.0.0.1:8080/thanks")
    assert made["return_url"] == "http://127.0.0.1:8080/thanks"


async def test_lists_are_narrowed_by_every_filter(api: Api, clock: Clock) -> None:
    small = await api.create(100, reference="small", customer={"email": "a@example.com"})
    clock.forward(seconds=2)
    between = clock().isoformat().replace("+", "%2B")
    clock.forward(seconds=2)
    big = await api.create(5_000, currency="usd", payment_method="pm_card_visa")
    assert ids(await api.get(PATH)) == [big["id"], small["id"]]
    expected = {
        "status=processing": [big],
        "status=succeeded": [],
        "currency=USD": [big],
        "reference=small": [small],
        "customer_email=A@Example.com": [small],
        "customer_email=b@example.com": [],
        f"created_gte={between}": [big],
        f"created_lt={between}": [small],
        "amount_gte=101": [big],
        "amount_lte=100": [small],
        "amount_gte=100&amount_lte=100&currency=eur": [small],
    }
    for query, found in expected.items():
        assert ids(await api.get(f"{PATH}?{query}")) == [one["id"] for one in found], query


async def test_refunds_are_narrowed_by_every_filter(api: Api, rt: Runtime, clock: Clock) -> None:
    euros, dollars = await api.paid(), await api.paid(currency="usd")
    small = await api.post("/v1/refunds", {"payment": euros["id"], "amount": 100})
    await api.runner.drain()
    clock.forward(seconds=2)
    between = clock().isoformat().replace("+", "%2B")
    clock.forward(seconds=2)
    big = await api.post("/v1/refunds", {"payment": dollars["id"], "amount": 5_000})
    assert ids(await api.get("/v1/refunds")) == [big.json()["id"], small.json()["id"]]
    expected = {
        f"payment={euros['id']}": [small],
        "status=succeeded": [small],
        "status=pending": [big],
        "currency=USD": [big],
        "currency=chf": [],
        f"created_gte={between}": [big],
        f"created_lt={between}": [small],
        "amount_gte=101": [big],
        "amount_gte=5000": [big],
        "amount_lte=4999": [small],
        "amount_lte=100": [small],
        "amount_gte=101&amount_lte=4999": [],
        f"amount_gte=100&currency=eur&created_lt={between}": [small],
    }
    for query, found in expected.items():
        wanted = [one.json()["id"] for one in found]
        assert ids(await api.get(f"/v1/refunds?{query}")) == wanted, query
    for wrong in ("created_gte=yesterday", "amount_gte=-1", "currency=eux", "reference=a"):
        problem(await api.get(f"/v1/refunds?{wrong}"), 400, "invalid_request")
    edge = await api.get("/v1/refunds?created_lt=9999-12-31T23:59:59-14:00")
    assert len(ids(edge)) == 2
    await api.runner.drain()
    await check_invariants(rt)


async def test_pages_follow_each_other_in_both_directions(api: Api) -> None:
    made = [(await api.create(100 + n))["id"] for n in range(5)][::-1]
    first = await api.get(f"{PATH}?limit=2&currency=eur")
    assert (ids(first), first.json()["has_more"]) == (made[:2], True)
    assert first.json()["url"] == PATH
    link = first.headers["link"]
    assert link.endswith('>; rel="next"')
    second = await api.get(link[1:].partition(">")[0])
    assert ids(second) == made[2:4]
    last = await api.get(f"{PATH}?limit=2&starting_after={made[3]}")
    assert (ids(last), last.json()["has_more"]) == (made[4:], False)
    assert "link" not in last.headers
    back = await api.get(f"{PATH}?limit=2&ending_before={made[3]}")
    assert (ids(back), back.json()["has_more"]) == (made[1:3], True)
    both = await api.get(f"{PATH}?starting_after={made[0]}&ending_before={made[1]}")
    problem(both, 422, "two_cursors")
    unknown = await api.get(f"{PATH}?starting_after=pay_{'0' * 34}")
    problem(unknown, 404, "cursor_not_found")


async def test_attempts_are_shown_in_full_when_asked_for(api: Api) -> None:
    paid = await api.paid()
    assert all(isinstance(one, str) for one in paid["attempts"])
    for path in (f"{PATH}/{paid['id']}?expand[]=attempts", f"{PATH}?expand%5B%5D=attempts"):
        found = (await api.get(path)).json()
        found = found["data"][0] if "data" in found else found
        assert found["attempts"][0]["object"] == "attempt"


async def test_a_cancel_and_a_capture_say_what_the_state_allows(api: Api) -> None:
    made = await api.create()
    assert (await api.post(f"{PATH}/{made['id']}/cancel")).json()["status"] == "canceled"
    answer = await api.post(f"{PATH}/{made['id']}/capture")
    problem(answer, 409, "payment_wrong_state")
    held = await api.create(capture_method="manual", payment_method="pm_card_visa")
    await api.runner.drain()
    answer = await api.post(f"{PATH}/{held['id']}/capture", {"amount": 10_001})
    problem(answer, 422, "amount_too_large")
    paid = await api.paid()
    problem(await api.post(f"{PATH}/{paid['id']}/cancel"), 409, "payment_already_paid")


async def test_reading_an_unknown_outcome_brings_the_look_forward_once(
    api: Api, rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    psp.script.extend(["ok", "never"])
    made = await api.create(payment_method="pm_card_visa")
    await api.runner.drain()
    path = f"{PATH}/{made['id']}"
    answer = (await api.get(path)).json()
    assert (answer["status"], answer["status_reason"]) == ("processing", "outcome_unknown")
    assert (await api.get(path)).status_code == 200
    async with rt.sessions.read() as session:
        query = select(func.count()).select_from(Job).where(Job.kind == "janitor.resolve")
        assert await session.scalar(query) == 1
    await api.runner.drain()
    assert (await api.get(path)).json()["status"] == "succeeded"
    assert psp.total() == 10_000


async def test_a_refund_moves_the_wallet_and_the_ledger_tells_it(api: Api, rt: Runtime) -> None:
    paid = await api.paid(10_000)
    body = {"payment": paid["id"], "amount": 4_000, "refund_amount_available": 10_000}
    made = await api.post("/v1/refunds", body)
    assert (made.status_code, made.json()["status"]) == (201, "pending")
    stale = await api.post("/v1/refunds", body)
    problem(stale, 412, "refund_amount_available_stale")
    await api.runner.drain()
    refund = (await api.get(f"/v1/refunds/{made.json()['id']}")).json()
    assert refund["status"] == "succeeded"
    for query in (f"payment={paid['id']}", "status=succeeded", ""):
        assert ids(await api.get(f"/v1/refunds?{query}")) == [refund["id"]]
    assert ids(await api.get("/v1/refunds?status=failed")) == []
    balance = await api.get("/v1/balance")
    wallet = balance.json()
    total = sum(one["amount"] for part in ("available", "pending") for one in wallet[part])
    now = (await api.get(f"{PATH}/{paid['id']}")).json()
    assert total == now["net"]
    position = int(balance.headers["ledger-position"])
    assert position == wallet["ledger_position"]
    entries = await api.get(f"/v1/ledger/entries?payment={paid['id']}")
    assert sum(one["amount"] for one in entries.json()["data"]) == total
    assert entries.headers["ledger-position"] == str(position)
    page = await api.get(f"/v1/ledger/entries?limit=1&starting_after={ids(entries)[0]}")
    assert ids(page) == ids(entries)[1:2]
    await check_invariants(rt)


async def test_a_balance_waits_for_what_was_recorded_before(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "WAIT_SECONDS", 0.2)
    paid = await api.paid(10_000)
    await api.post("/v1/refunds", {"payment": paid["id"], "amount": 100})
    late = await api.get("/v1/balance")
    assert (late.status_code, late.headers["ledger-pending"]) == (200, "1")
    for path in ("/v1/balance", "/v1/ledger/entries"):
        answer = await api.get(path, headers={"Ledger-Position-Min": "latest"})
        problem(answer, 503, "ledger_position_not_reached")
        assert answer.headers["retry-after"] == "1"
    assert (await api.get("/v1/ledger/entries")).status_code == 200
    await api.runner.drain()
    for wanted in ("latest", "1"):
        answer = await api.get("/v1/balance", headers={"Ledger-Position-Min": wanted})
        assert answer.status_code == 200
        assert "ledger-pending" not in answer.headers
    future = {"Ledger-Position-Min": str(10**17)}
    problem(await api.get("/v1/balance", headers=future), 503, "ledger_position_not_reached")
    for wrong in ("-1", "later", "1.0", "9" * 19):
        answer = await api.get("/v1/balance", headers={"Ledger-Position-Min": wrong})
        problem(answer, 400, "ledger_position_invalid")


async def test_a_wait_ends_as_soon_as_the_ledger_is_there(api: Api) -> None:
    paid = await api.paid(10_000)
    await api.post("/v1/refunds", {"payment": paid["id"], "amount": 100})
    asking = asyncio.create_task(api.get("/v1/balance"))
    await asyncio.sleep(0.15)
    await api.runner.drain()
    answer = await asking
    assert "ledger-pending" not in answer.headers


async def test_an_entry_of_the_other_mode_does_not_exist(api: Api) -> None:
    answer = await api.get("/v1/ledger/entries?starting_after=le_live0_1")
    problem(answer, 404, "not_found")


async def test_events_are_listed_by_type_and_payment(api: Api) -> None:
    paid = await api.paid()
    listed = await api.get(f"/v1/events?payment={paid['id']}")
    types = [one["type"] for one in listed.json()["data"]]
    assert types[-1] == "payment.created"
    assert "payment.succeeded" in types
    one = await api.get("/v1/events?type=payment.succeeded&limit=1")
    event = one.json()["data"][0]
    assert event["data"]["object"]["id"] == paid["id"]
    assert (await api.get(f"/v1/events/{event['id']}")).json() == event
    problem(await api.get(f"/v1/events/evt_{'0' * 34}"), 404, "event_not_found")


async def test_the_story_of_a_payment_is_told(api: Api) -> None:
    paid = await api.paid()
    told = (await api.get(f"{PATH}/{paid['id']}/timeline")).json()
    assert told["object"] == "timeline"
    assert told["data"][0]["kind"] == "accepted"
    assert {"psp_call", "ledger"} <= {one["kind"] for one in told["data"]}


async def test_the_life_of_a_webhook_endpoint(api: Api, app: Litestar) -> None:
    path = "/v1/webhook_endpoints"
    url = "http://127.0.0.1:9/hook"
    made = await api.post(path, {"url": url, "event_types": ["payment.succeeded"]}, key=None)
    assert made.status_code == 201
    endpoint = made.json()
    assert endpoint["secret"].startswith("whsec_")
    one = f"{path}/{endpoint['id']}"
    assert "secret" not in (await api.get(one)).json()
    assert ids(await api.get(path)) == [endpoint["id"]]
    changed = await api.send("PATCH", one, json={"disabled": True, "description": None})
    assert changed.json()["status"] == "disabled"
    problem(await api.post(f"{one}/test", key=None), 409, "webhook_endpoint_disabled")
    assert (await api.send("PATCH", one, json={"disabled": False})).json()["status"] == "active"
    rotated = (await api.post(f"{one}/rotate_secret", key=None)).json()
    assert rotated["secret"] != endpoint["secret"]
    assert rotated["old_secret_until"] is not None
    tested = await api.post(f"{one}/test", key=None)
    assert (tested.status_code, tested.json()["type"]) == (201, "endpoint.test")
    await api.runner.drain()
    (delivery,) = (await api.get(f"{one}/deliveries?event={tested.json()['id']}")).json()["data"]
    again = await api.post(f"/v1/webhook_deliveries/{delivery['id']}/redeliver", key=None)
    assert (again.status_code, again.json()["id"]) == (200, delivery["id"])
    gone = await api.send("DELETE", one)
    assert gone.json() == {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}
    problem(await api.get(one), 404, "webhook_endpoint_not_found")
    assert ids(await api.get(path)) == []


@pytest.mark.parametrize(
    "url", ["http://shop.example/hook", "https://10.0.0.1/hook", "https://169.254.169.254/"]
)
async def test_an_endpoint_inside_of_a_network_is_refused(api: Api, url: str) -> None:
    answer = await api.post("/v1/webhook_endpoints", {"url": url}, key=None)
    assert answer.status_code == 422, answer.text
    assert answer.json()["param"] == "url"
