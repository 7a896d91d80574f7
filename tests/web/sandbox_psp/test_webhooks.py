"""Events on their way: signed, again until taken, twice, late, lost, and after a restart."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import Receiver, open_client, wait_until
from tests.web.sandbox_psp.test_sessions import order


async def paid(client: stripe.StripeClient, token: str = "pm_card_visa", **more: Any) -> str:
    fields: Any = {"amount": 1000, "currency": "eur", "payment_method": token, "confirm": True}
    return (await client.v1.payment_intents.create_async(fields | more)).id


async def test_events_are_signed_as_the_library_verifies(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    options: Any = {"idempotency_key": "told"}
    fields: Any = {
        "amount": 5,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
    }
    intent = await client.v1.payment_intents.create_async(fields, options)
    wait_until(lambda: len(receiver.types(intent.id)) == 2)
    assert set(receiver.types(intent.id)) == {"charge.succeeded", "payment_intent.succeeded"}
    for signature, body in receiver.got:
        event = client.construct_event(body, signature, sandbox.webhook_secret)
        assert event.livemode is False
        assert event.api_version is not None
        with pytest.raises(stripe.SignatureVerificationError):
            client.construct_event(body + b" ", signature, sandbox.webhook_secret)
    told = receiver.events(intent.id)[0]
    assert told["request"]["idempotency_key"] == "told"
    kept = await client.v1.events.retrieve_async(told["id"])
    assert kept.type == told["type"]


async def test_a_refused_event_comes_again_with_the_same_id(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    sandbox.settings(webhooks={"retry_base": 0.1})
    receiver.statuses = [500, 500, 404, 500]
    intent = await paid(client)
    wait_until(lambda: len(receiver.got) >= 6)
    ids = [event["id"] for event in receiver.events(intent)]
    assert len(set(ids)) == 2
    wait_until(lambda: all(d["status"] == "delivered" for d in sandbox.get("/deliveries")[:2]))


@pytest.mark.parametrize(
    ("token", "count"), [("pm_fault_webhook_twice", 4), ("pm_fault_webhook_never", 0)]
)
async def test_events_come_twice_or_never(
    client: stripe.StripeClient, receiver: Receiver, token: str, count: int
) -> None:
    intent = await paid(client, token)
    marker = await paid(client)
    wait_until(lambda: len(receiver.types(marker)) == 2 and len(receiver.types(intent)) >= count)
    await asyncio.sleep(0.2)
    assert len(receiver.types(intent)) == count
    found = await client.v1.events.list_async({"limit": 100})
    assert intent in [event.data.object["id"] for event in found.data]


async def test_events_come_late(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    sandbox.settings(late_seconds=0.8)
    began = time.monotonic()
    intent = await paid(client, "pm_fault_webhook_late")
    assert receiver.types(intent) == []
    wait_until(lambda: len(receiver.types(intent)) == 2)
    assert time.monotonic() - began > 0.79


async def test_f28_events_come_before_the_answer(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    for _ in range(5):
        intent = await paid(client, "pm_fault_webhook_first")
        assert "payment_intent.succeeded" in receiver.types(intent)


async def test_a_script_makes_one_request_tell_twice_or_nothing(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    sandbox.fault("after", "double_webhook", path="/payment_intents")
    twice = await paid(client)
    sandbox.fault("after", "no_webhook", path="/payment_intents")
    silent = await paid(client)
    wait_until(lambda: len(receiver.types(twice)) == 4)
    assert receiver.types(silent) == []


async def test_loss_and_duplicates_by_policy(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    sandbox.settings(webhooks={"loss": 1.0})
    lost = await paid(client)
    sandbox.settings(webhooks={"loss": 0.0, "duplicate": 1.0})
    doubled = await paid(client)
    wait_until(lambda: len(receiver.types(doubled)) == 4)
    assert receiver.types(lost) == []


async def test_paused_events_wait(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    sandbox.settings(webhooks={"paused": True})
    intent = await paid(client)
    await asyncio.sleep(0.3)
    assert receiver.types(intent) == []
    sandbox.settings(webhooks={"paused": False})
    wait_until(lambda: len(receiver.types(intent)) == 2)


async def test_the_story_of_a_page_is_told(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    session = await client.v1.checkout.sessions.create_async(order())
    sandbox.pay(str(session.url), number="4000000000000002")
    sandbox.pay(str(session.url))
    other = await client.v1.checkout.sessions.create_async(order())
    await client.v1.checkout.sessions.expire_async(other.id)
    wait_until(lambda: "checkout.session.completed" in receiver.types(session.id))
    wait_until(lambda: receiver.types(other.id) == ["checkout.session.expired"])
    done = next(e for e in receiver.events(session.id) if e["type"].endswith("completed"))
    intent = done["data"]["object"]["payment_intent"]
    wait_until(lambda: "payment_intent.succeeded" in receiver.types(intent))
    wait_until(lambda: "payment_intent.payment_failed" in receiver.types(intent))


async def test_a_hold_tells_its_steps(client: stripe.StripeClient, receiver: Receiver) -> None:
    held = await paid(client, capture_method="manual")
    await client.v1.payment_intents.capture_async(held, {"amount_to_capture": 10})
    other = await paid(client, capture_method="manual")
    await client.v1.payment_intents.cancel_async(other)
    wait_until(lambda: "payment_intent.succeeded" in receiver.types(held))
    wait_until(lambda: "payment_intent.canceled" in receiver.types(other))
    wait_until(lambda: "payment_intent.amount_capturable_updated" in receiver.types(held))
    wait_until(lambda: "charge.captured" in receiver.types(held))


async def test_endpoints_of_the_api_have_their_own_secret_and_filter(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    url = f"{receiver.url}/own"
    made = await client.v1.webhook_endpoints.create_async(
        {"url": url, "enabled_events": ["payment_intent.succeeded"]}
    )
    assert made.secret is not None
    assert made.secret.startswith("whsec_")
    intent = await paid(client)
    wait_until(lambda: len(receiver.types(intent)) == 3)
    assert sorted(receiver.types(intent)).count("payment_intent.succeeded") == 2
    listed = await client.v1.webhook_endpoints.list_async()
    assert made.id in [endpoint.id for endpoint in listed.data]
    assert all("secret" not in endpoint for endpoint in listed.data)
    gone = await client.v1.webhook_endpoints.delete_async(made.id)
    assert gone.deleted
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.webhook_endpoints.create_async({"url": "ftp://x", "enabled_events": ["*"]})


async def test_what_was_not_delivered_leaves_after_a_crash(
    own_sandbox: Callable[..., SandboxHandle], receiver: Receiver
) -> None:
    first = own_sandbox(SANDBOX_WEBHOOK_URL=receiver.url)
    first.settings(webhooks={"paused": True})
    async with open_client(first) as client:
        intent = await paid(client)
    first.stop(kill=True)
    second = own_sandbox(SANDBOX_WEBHOOK_URL=receiver.url)
    second.settings(webhooks={"paused": False})
    wait_until(lambda: len(receiver.types(intent)) == 2)
    second.stop()
    third = own_sandbox()
    async with open_client(third) as client:
        assert (await client.v1.webhook_endpoints.list_async()).data == []
