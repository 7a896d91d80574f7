"""Idempotency keys: one effect, the same answer, and no other parameters."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import open_client

FIELDS: Any = {"amount": 700, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}


def changed(**fields: object) -> Any:
    """Return the request with other fields."""
    return {**FIELDS, **fields}


async def test_the_same_request_gets_the_same_answer_and_one_charge(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    options: Any = {"idempotency_key": "twice"}
    first = await client.v1.payment_intents.create_async(FIELDS, options)
    again = await client.v1.payment_intents.create_async(FIELDS, options)
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert first.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert again.last_response.headers["Original-Request"] == first.last_response.request_id
    charges = [c for c in sandbox.book()["charges"] if c["payment_intent"] == first.id]
    assert len(charges) == 1
    log = sandbox.requests(key="twice")
    assert [(r["status"], r["replayed"]) for r in log] == [(200, 0), (200, 1)]
    assert log[0]["body"] == log[1]["body"]
    assert all("authorization" not in r["headers"] for r in log)


async def test_other_parameters_or_another_path_are_an_error(client: stripe.StripeClient) -> None:
    options: Any = {"idempotency_key": "mismatch"}
    made = await client.v1.payment_intents.create_async(FIELDS, options)
    with pytest.raises(stripe.IdempotencyError) as refused:
        await client.v1.payment_intents.create_async(changed(amount=701), options)
    assert refused.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        await client.v1.refunds.create_async({"payment_intent": made.id}, options)


async def test_a_decline_is_replayed_and_a_validation_error_is_not_kept(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    options: Any = {"idempotency_key": "declined"}
    declined = changed(payment_method="pm_card_chargeDeclined")
    bodies = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as refused:
            await client.v1.payment_intents.create_async(declined, options)
        bodies.append(refused.value.json_body)
    assert bodies[0] == bodies[1]
    assert [r["replayed"] for r in sandbox.requests(key="declined")] == [0, 1]

    options = {"idempotency_key": "invalid"}
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.payment_intents.create_async(changed(amount=0), options)
    made = await client.v1.payment_intents.create_async(FIELDS, options)
    assert made.status == "succeeded"


async def test_a_key_in_progress_is_a_409(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    sandbox.settings(slow_seconds=1.0)
    options: Any = {"idempotency_key": "busy"}
    slow = changed(payment_method="pm_fault_slow")
    running = asyncio.create_task(client.v1.payment_intents.create_async(slow, options))
    await asyncio.sleep(0.4)
    with pytest.raises(stripe.StripeError) as refused:
        await client.v1.payment_intents.create_async(slow, options)
    assert refused.value.http_status == 409
    assert isinstance(refused.value.json_body, dict)
    assert refused.value.json_body["error"]["code"] == "idempotency_key_in_use"
    made = await running
    assert (await client.v1.payment_intents.create_async(slow, options)).id == made.id


async def test_100_requests_at_once_with_one_key_charge_once(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    options: Any = {"idempotency_key": "stampede"}
    answers = await asyncio.gather(
        *(client.v1.payment_intents.create_async(FIELDS, options) for _ in range(100)),
        return_exceptions=True,
    )
    made = {a.id for a in answers if isinstance(a, stripe.PaymentIntent)}
    others = [a for a in answers if not isinstance(a, stripe.PaymentIntent)]
    assert len(made) == 1
    assert all(isinstance(a, stripe.StripeError) and a.http_status == 409 for a in others)
    charges = [c for c in sandbox.book()["charges"] if c["payment_intent"] in made]
    assert len(charges) == 1


async def test_a_key_past_its_window_charges_again(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    options: Any = {"idempotency_key": "pruned"}
    first = await client.v1.payment_intents.create_async(FIELDS, options)
    sandbox.settings(key_window=0.05)
    await asyncio.sleep(0.1)
    second = await client.v1.payment_intents.create_async(FIELDS, options)
    assert second.id != first.id


async def test_kept_answers_and_the_book_survive_a_crash(
    own_sandbox: Callable[..., SandboxHandle],
) -> None:
    options: Any = {"idempotency_key": "crash"}
    before = own_sandbox()
    before.settings(poison_cured=True)
    async with open_client(before) as client:
        first = await client.v1.payment_intents.create_async(FIELDS, options)
    before.stop(kill=True)
    after = own_sandbox()
    async with open_client(after) as client:
        again = await client.v1.payment_intents.create_async(FIELDS, options)
    assert again.id == first.id
    assert len(after.book()["charges"]) == 1
    assert after.get("/settings")["poison_cured"]
    assert after.stop() == 0
