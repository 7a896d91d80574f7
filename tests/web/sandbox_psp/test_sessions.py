"""Checkout Sessions and the hosted page: from the API to the customer and back."""

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import stripe

from tests.support.sandbox import SandboxHandle


def order(**more: Any) -> Any:
    """Return the parameters of a session for two mugs and delivery: 53.40 EUR."""
    return {
        "mode": "payment",
        "line_items": [
            {
                "price_data": {
                    "currency": "eur",
                    "unit_amount": 2420,
                    "product_data": {"name": "Demo mug, blue"},
                },
                "quantity": 2,
            },
            {
                "price_data": {
                    "currency": "eur",
                    "unit_amount": 500,
                    "product_data": {"name": "Delivery <b>fast</b>"},
                },
                "quantity": 1,
            },
        ],
        "success_url": "http://localhost:9/done?s={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://localhost:9/cancel",
        "client_reference_id": "pay_1",
        "customer_email": "customer@demo-shop.example",
        "metadata": {"attempt_id": "att_1"},
        "payment_intent_data": {"metadata": {"attempt_id": "att_1"}},
        **more,
    }


async def opened(client: stripe.StripeClient, **more: Any) -> stripe.checkout.Session:
    return await client.v1.checkout.sessions.create_async(order(**more))


async def seen(client: stripe.StripeClient, session_id: str) -> stripe.checkout.Session:
    return await client.v1.checkout.sessions.retrieve_async(
        session_id, {"expand": ["payment_intent.latest_charge", "line_items"]}
    )


async def test_a_customer_pays_and_is_sent_to_the_shop(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client)
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert (session.amount_total, session.payment_intent) == (5340, None)
    assert session.url is not None
    page = sandbox.send("GET", urlsplit(session.url).path)
    assert page.status == 200
    for text in ("€53.40", "Demo mug, blue", "4000 0027 6000 3184", "customer@demo-shop.example"):
        assert text in page.body
    assert "<b>fast</b>" not in page.body
    paid = sandbox.pay(session.url)
    assert (paid.status, paid.location) == (303, f"http://localhost:9/done?s={session.id}")
    after = await seen(client, session.id)
    assert (after.status, after.payment_status, after.url) == ("complete", "paid", None)
    intent = after.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert (intent.status, intent.amount_received) == ("succeeded", 5340)
    assert intent.metadata["attempt_id"] == "att_1"
    assert after.line_items is not None
    assert [line.quantity for line in after.line_items.data] == [2, 1]


async def test_a_second_payment_of_a_paid_page_is_not_taken(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client)
    url = str(session.url)
    answers = await asyncio.gather(*(asyncio.to_thread(sandbox.pay, url) for _ in range(5)))
    assert {answer.status for answer in answers} == {303}
    assert len({answer.location for answer in answers}) == 1
    after = await seen(client, session.id)
    assert isinstance(after.payment_intent, stripe.PaymentIntent)
    mine = [c for c in sandbox.book()["charges"] if c["payment_intent"] == after.payment_intent.id]
    assert len(mine) == 1
    page = sandbox.send("GET", urlsplit(url).path)
    assert page.status == 200
    assert "This order is paid" in page.body
    assert f"http://localhost:9/done?s={session.id}" in page.body


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        ("4000000000000002", "card_declined", "ask your bank"),
        ("4000 0000 0000 9995", "card_declined", "not enough money"),
        ("4000-0000-0000-0119", "processing_error", "Try again in a little"),
        ("4111111111111111", "card_declined", "only the test cards"),
    ],
)
async def test_a_decline_is_shown_and_another_card_may_be_tried(
    client: stripe.StripeClient, sandbox: SandboxHandle, number: str, code: str, text: str
) -> None:
    session = await opened(client)
    url = str(session.url)
    page = sandbox.pay(url, number=number, cvc="987")
    assert page.status == 402
    assert f"Code: {code}" in page.body
    assert text in page.body
    assert "You have not been charged" in page.body
    assert 'value="987"' not in page.body
    after = await seen(client, session.id)
    assert (after.status, after.payment_status) == ("open", "unpaid")
    assert isinstance(after.payment_intent, stripe.PaymentIntent)
    assert after.payment_intent.status == "requires_payment_method"
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.payment_intents.cancel_async(after.payment_intent.id)
    assert sandbox.pay(url).status == 303
    paid = await seen(client, session.id)
    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    assert paid.payment_intent.id == after.payment_intent.id
    assert paid.payment_status == "paid"


async def test_a_second_step_may_be_failed_and_then_passed(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client)
    path = urlsplit(str(session.url)).path
    answer = None
    for outcome, status in (("fail", 402), ("complete", 303)):
        asked = sandbox.pay(str(session.url), number="4000002760003184")
        assert (asked.status, asked.location) == (303, f"{path}/challenge")
        assert "second step" in sandbox.send("GET", f"{path}/challenge").body
        assert (await seen(client, session.id)).status == "open"
        answer = sandbox.submit(f"{path}/challenge", {"outcome": outcome})
        assert answer.status == status
    assert answer is not None
    assert answer.location == f"http://localhost:9/done?s={session.id}"
    assert (await seen(client, session.id)).payment_status == "paid"
    assert sandbox.submit(f"{path}/challenge", {"outcome": "complete"}).status == 303


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("number", "4242424242424241", "card number is not right"),
        ("number", "", "card number is not right"),
        ("expiry", "13 / 34", "Write the month"),
        ("expiry", "01 / 20", "has expired"),
        ("cvc", "12", "3 or 4 digits"),
        ("email", "nobody", "Write an address"),
        (
            "number",
            "\N{FULLWIDTH DIGIT FOUR}\N{FULLWIDTH DIGIT TWO}" * 8,
            "card number is not right",
        ),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_tried(
    client: stripe.StripeClient, sandbox: SandboxHandle, field: str, value: str, text: str
) -> None:
    session = await opened(client)
    page = sandbox.pay(str(session.url), **{field: value})
    assert page.status == 422
    assert text in page.body
    assert f'aria-describedby="{field}-wrong"' in page.body
    assert (await seen(client, session.id)).payment_intent is None


async def test_an_expired_page_cannot_be_paid(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client)
    url = str(session.url)
    ended = await client.v1.checkout.sessions.expire_async(session.id)
    assert (ended.status, ended.url) == ("expired", None)
    assert sandbox.pay(url).status == 303
    page = sandbox.send("GET", urlsplit(url).path)
    assert page.status == 410
    assert "has expired" in page.body
    assert (await seen(client, session.id)).payment_intent is None
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.checkout.sessions.expire_async(session.id)


async def test_a_page_expires_by_itself(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client, expires_at=int(time.time()) + 1)
    await asyncio.sleep(2)
    sandbox.pay(str(session.url))
    after = await seen(client, session.id)
    assert (after.status, after.payment_intent) == ("expired", None)


async def test_a_paid_page_cannot_be_expired(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client)
    sandbox.pay(str(session.url))
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.checkout.sessions.expire_async(session.id)


async def test_a_page_with_manual_capture_holds_the_money(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client, payment_intent_data={"capture_method": "manual"})
    sandbox.pay(str(session.url))
    after = await seen(client, session.id)
    assert (after.status, after.payment_status) == ("complete", "unpaid")
    assert isinstance(after.payment_intent, stripe.PaymentIntent)
    assert after.payment_intent.status == "requires_capture"
    await client.v1.payment_intents.capture_async(after.payment_intent.id)
    assert (await seen(client, session.id)).payment_status == "paid"


async def test_the_policy_lets_the_form_go_to_the_shop_and_nowhere_else(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    session = await opened(client)
    page = sandbox.send("GET", urlsplit(str(session.url)).path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.endswith("form-action 'self' http://localhost:9")
    assert "<script" not in page.body
    assert " style=" not in page.body


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"line_items": []}, "line_items"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"expires_at": 1}, "expires_at"),
        ({"expires_at": int(time.time()) + 90000}, "expires_at"),
        ({"mode": "subscription"}, None),
        ({"colour": "red"}, "colour"),
        ({"payment_intent_data": {"colour": "red"}}, "payment_intent_data[colour]"),
    ],
)
async def test_wrong_sessions_are_refused(
    client: stripe.StripeClient, more: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await opened(client, **more)
    assert refused.value.http_status == 400
    if param is not None:
        assert refused.value.param == param


async def test_sessions_are_found_by_the_time_they_were_made(client: stripe.StripeClient) -> None:
    session = await opened(client)
    around: Any = {"created": {"gte": session.created, "lte": session.created + 1}, "limit": 100}
    found = await client.v1.checkout.sessions.list_async(around)
    assert session.id in [entry.id for entry in found.data]
    before: Any = {"created": {"lt": session.created - 3600}}
    assert (await client.v1.checkout.sessions.list_async(before)).data == []


def test_an_unknown_page_says_so(sandbox: SandboxHandle) -> None:
    for path in ("/pay/cs_test_nobody", "/pay/cs_test_nobody/challenge"):
        page = sandbox.send("GET", path)
        assert page.status == 404
        assert "There is no such page" in page.body
    assert sandbox.submit("/pay/cs_test_nobody", {}).status == 404
