"""Refunds, made through the API and by hand, and taken back."""

import asyncio
from typing import Any

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import Receiver, wait_until


async def paid(client: stripe.StripeClient, token: str = "pm_card_visa", **more: Any) -> str:
    fields: Any = {"amount": 1000, "currency": "eur", "payment_method": token, "confirm": True}
    return (await client.v1.payment_intents.create_async(fields | more)).id


async def test_parts_are_refunded_until_nothing_is_left(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await paid(client)
    part = await client.v1.refunds.create_async(
        {
            "payment_intent": intent,
            "amount": 400,
            "metadata": {"attempt_id": "att_r"},
            "expand": ["balance_transaction"],
        }
    )
    assert (part.status, part.amount) == ("succeeded", 400)
    line = part.balance_transaction
    assert isinstance(line, stripe.BalanceTransaction)
    assert (line.amount, line.fee, line.net, line.type) == (-400, 0, -400, "refund")
    with pytest.raises(stripe.InvalidRequestError) as more:
        await client.v1.refunds.create_async({"payment_intent": intent, "amount": 601})
    assert more.value.param == "amount"
    rest = await client.v1.refunds.create_async({"payment_intent": intent})
    assert rest.amount == 600
    with pytest.raises(stripe.InvalidRequestError) as empty:
        await client.v1.refunds.create_async({"payment_intent": intent, "amount": 1})
    assert empty.value.code == "charge_already_refunded"
    listed = await client.v1.refunds.list_async({"payment_intent": intent})
    assert [r.id for r in listed.data] == [rest.id, part.id]
    book = sandbox.book()
    assert book["by_metadata"]["att_r"]["refunded"] == 400
    charge = next(c for c in book["charges"] if c["payment_intent"] == intent)
    assert (charge["amount_refunded"], charge["refunded"]) == (1000, True)


async def test_f54_refunds_at_once_never_exceed_the_charge(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await paid(client)
    answers = await asyncio.gather(
        *(
            client.v1.refunds.create_async({"payment_intent": intent, "amount": 300})
            for _ in range(10)
        ),
        return_exceptions=True,
    )
    made = [a for a in answers if isinstance(a, stripe.Refund)]
    assert len(made) == 3
    refunds = [r for r in sandbox.book()["refunds"] if r["payment_intent"] == intent]
    assert sum(r["amount"] for r in refunds) == 900


async def test_what_was_not_captured_cannot_be_refunded(client: stripe.StripeClient) -> None:
    intent = await paid(client, capture_method="manual")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.refunds.create_async({"payment_intent": intent})
    assert refused.value.code == "charge_not_refundable"
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.create_async({})
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.create_async({"payment_intent": "pi_nobody"})


async def test_f20_a_refund_may_be_taken_back_and_its_money_returns(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    intent = await paid(client)
    refund = await client.v1.refunds.create_async({"payment_intent": intent, "amount": 400})
    net = sandbox.book()["net"]["eur"]
    failed = sandbox.post("/refund_fail", {"refund": refund.id})
    assert (failed["status"], failed["failure_reason"]) == ("failed", "lost_or_stolen_card")
    assert sandbox.book()["net"]["eur"] == net + 400
    wait_until(lambda: "refund.failed" in receiver.types(refund.id))
    full = await client.v1.refunds.create_async({"payment_intent": intent, "amount": 1000})
    assert full.status == "succeeded"
    with pytest.raises(RuntimeError, match="400"):
        sandbox.post("/refund_fail", {"refund": refund.id})


async def test_a_refund_by_hand_has_no_key_and_no_metadata(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    intent = await paid(client)
    made = sandbox.post("/refund", {"payment_intent": intent, "amount": 250})
    assert (made["amount"], made["metadata"]) == (250, {})
    # The two events are on their way at the same time.
    wait_until(lambda: "charge.refunded" in receiver.types(intent))
    wait_until(lambda: "refund.created" in receiver.types(made["id"]))
    event = next(e for e in receiver.events(made["id"]) if e["type"] == "refund.created")
    assert event["request"] == {"id": None, "idempotency_key": None}
    with pytest.raises(RuntimeError, match="400"):
        sandbox.post("/refund", {"payment_intent": intent, "amount": 751})
    with pytest.raises(RuntimeError, match="404"):
        sandbox.post("/refund", {"payment_intent": "pi_nobody"})


@pytest.mark.parametrize(
    ("token", "first", "last"),
    [
        ("pm_card_pendingRefund", "pending", "succeeded"),
        ("pm_card_refundFail", "succeeded", "failed"),
    ],
)
async def test_special_cards_decide_about_their_refund_later(
    client: stripe.StripeClient, sandbox: SandboxHandle, token: str, first: str, last: str
) -> None:
    sandbox.settings(settle_seconds=0.3)
    intent = await paid(client, token)
    refund = await client.v1.refunds.create_async({"payment_intent": intent})
    assert refund.status == first
    for _ in range(100):
        refund = await client.v1.refunds.retrieve_async(refund.id)
        if refund.status == last:
            break
        await asyncio.sleep(0.05)
    assert refund.status == last


@pytest.mark.parametrize(
    ("amount", "currency", "fee"),
    [(1000, "eur", 40), (10, "eur", 10), (1000, "jpy", 40), (10000, "kwd", 400), (333, "eur", 30)],
)
async def test_fees_are_integers_and_net_plus_fee_is_the_amount(
    client: stripe.StripeClient, amount: int, currency: str, fee: int
) -> None:
    intent = await paid(client, amount=amount, currency=currency)
    seen = await client.v1.payment_intents.retrieve_async(
        intent, {"expand": ["latest_charge.balance_transaction"]}
    )
    assert isinstance(seen.latest_charge, stripe.Charge)
    line = seen.latest_charge.balance_transaction
    assert isinstance(line, stripe.BalanceTransaction)
    assert (line.fee, line.net) == (fee, amount - fee)
    lines = await client.v1.balance_transactions.list_async({"source": seen.latest_charge.id})
    assert [entry.id for entry in lines.data] == [line.id]
