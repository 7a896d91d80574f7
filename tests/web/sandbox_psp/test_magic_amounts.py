"""Magic amounts: a person who has no say in the payment method still meets each fault."""

import contextlib
from typing import Any

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import UNREADABLE, Receiver, wait_until
from tests.web.sandbox_psp.test_sessions import order
from web.sandbox_psp.triggers import MAGIC_AMOUNTS

REPLY_LOST = next(amount for amount, name in MAGIC_AMOUNTS.items() if name == "reply_lost")
TWICE = next(amount for amount, name in MAGIC_AMOUNTS.items() if name == "webhook_twice")


@pytest.mark.parametrize("amount", MAGIC_AMOUNTS)
async def test_a_magic_amount_is_charged_once_in_the_end(
    client: stripe.StripeClient, sandbox: SandboxHandle, amount: int
) -> None:
    sandbox.settings(slow_seconds=0.1)
    fields: Any = {"amount": amount, "currency": "eur", "payment_method": "pm_card_visa"}
    intent = await client.v1.payment_intents.create_async(fields)
    options: Any = {"idempotency_key": f"magic-{amount}"}
    for _ in range(3):
        with contextlib.suppress(*UNREADABLE):
            await client.v1.payment_intents.confirm_async(intent.id, {}, options)
    book = sandbox.book()["charges"]
    taken = [one["amount_captured"] for one in book if one["payment_intent"] == intent.id]
    assert taken == [amount + (MAGIC_AMOUNTS[amount] == "wrong_amount")]
    faults = [entry["fault"] for entry in sandbox.requests(key=f"magic-{amount}")]
    silent = MAGIC_AMOUNTS[amount].startswith("webhook") or MAGIC_AMOUNTS[amount] == "wrong_amount"
    assert any(faults) is not silent


async def test_a_page_and_a_refund_of_a_magic_amount_lose_their_answer_once(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    line: Any = order()
    line["line_items"] = [
        {
            "price_data": {
                "currency": "eur",
                "unit_amount": REPLY_LOST,
                "product_data": {"name": "Hat"},
            },
            "quantity": 1,
        }
    ]
    options: Any = {"idempotency_key": "magic-page"}
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.checkout.sessions.create_async(line, options)
    session = await client.v1.checkout.sessions.create_async(line, options)
    sandbox.pay(str(session.url))
    paid = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert paid.payment_status == "paid"
    plain: Any = {
        "amount": 100_000,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
    }
    intent = await client.v1.payment_intents.create_async(plain)
    refund: Any = {"payment_intent": intent.id, "amount": REPLY_LOST}
    options = {"idempotency_key": "magic-refund"}
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.refunds.create_async(refund, options)
    assert (await client.v1.refunds.create_async(refund, options)).amount == REPLY_LOST
    listed = await client.v1.refunds.list_async({"payment_intent": intent.id})
    assert len(listed.data) == 1


async def test_magic_also_decides_how_the_events_of_a_page_travel(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    fields: Any = {
        "amount": TWICE,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
    }
    intent = await client.v1.payment_intents.create_async(fields)
    wait_until(lambda: len(receiver.types(intent.id)) == 4)


async def test_magic_can_be_switched_off(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    sandbox.settings(magic_amounts=False)
    fields: Any = {
        "amount": REPLY_LOST,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
    }
    assert (await client.v1.payment_intents.create_async(fields)).status == "succeeded"
