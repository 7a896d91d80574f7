"""Payment intents, driven by the provider's own library."""

import asyncio

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import open_client


async def charge(client: stripe.StripeClient, token: str, **more: object) -> stripe.PaymentIntent:
    intent = await client.v1.payment_intents.create_async(
        {"amount": 5000, "currency": "eur", "payment_method": token, **more}  # type: ignore[typeddict-item] # tests vary it
    )
    return await client.v1.payment_intents.confirm_async(
        intent.id, {"off_session": True, "expand": ["latest_charge.balance_transaction"]}
    )


async def test_a_charge_takes_the_amount_and_books_the_fee(client: stripe.StripeClient) -> None:
    intent = await client.v1.payment_intents.create_async(
        {
            "amount": 5000,
            "currency": "EUR",
            "payment_method": "pm_card_visa",
            "metadata": {"attempt_id": "att_1"},
        }
    )
    assert (intent.status, intent.amount_received) == ("requires_confirmation", 0)
    paid = await client.v1.payment_intents.confirm_async(
        intent.id, {"off_session": True, "expand": ["latest_charge.balance_transaction"]}
    )
    assert (paid.status, paid.amount_received, paid.currency) == ("succeeded", 5000, "eur")
    made = paid.latest_charge
    assert isinstance(made, stripe.Charge)
    assert made.captured
    assert made.metadata["attempt_id"] == "att_1"
    line = made.balance_transaction
    assert isinstance(line, stripe.BalanceTransaction)
    assert (line.amount, line.fee, line.net) == (5000, 100, 4900)
    again = await client.v1.charges.retrieve_async(made.id)
    assert again.balance_transaction == line.id


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_insufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_authenticationRequired", "authentication_required", "authentication_required"),
        ("pm_card_processingError", "processing_error", "processing_error"),
    ],
)
async def test_a_decline_is_a_402_and_charges_nothing(
    client: stripe.StripeClient, sandbox: SandboxHandle, token: str, code: str, decline_code: str
) -> None:
    with pytest.raises(stripe.CardError) as refused:
        await charge(client, token)
    error = refused.value
    assert (error.http_status, error.code) == (402, code)
    assert isinstance(error.json_body, dict)
    body = error.json_body["error"]
    assert body["decline_code"] == decline_code
    intent = await client.v1.payment_intents.retrieve_async(body["payment_intent"]["id"])
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error is not None
    mine = [c for c in sandbox.book()["charges"] if c["payment_intent"] == intent.id]
    assert [(c["status"], c["amount_captured"]) for c in mine] == [("failed", 0)]


async def test_a_card_that_wants_a_second_step_asks_for_it_on_session(
    client: stripe.StripeClient,
) -> None:
    intent = await client.v1.payment_intents.create_async(
        {
            "amount": 100,
            "currency": "eur",
            "payment_method": "pm_card_authenticationRequired",
            "confirm": True,
        }
    )
    assert intent.status == "requires_action"
    assert intent.next_action is not None


async def test_a_hold_is_captured_in_part_and_the_rest_released(
    client: stripe.StripeClient,
) -> None:
    held = await charge(client, "pm_card_visa", capture_method="manual")
    assert (held.status, held.amount_capturable) == ("requires_capture", 5000)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.payment_intents.capture_async(held.id, {"amount_to_capture": 5001})
    taken = await client.v1.payment_intents.capture_async(held.id, {"amount_to_capture": 2000})
    assert (taken.status, taken.amount_received, taken.amount_capturable) == ("succeeded", 2000, 0)
    with pytest.raises(stripe.InvalidRequestError) as twice:
        await client.v1.payment_intents.capture_async(held.id)
    assert twice.value.code == "payment_intent_unexpected_state"


async def test_a_canceled_intent_can_never_be_charged(client: stripe.StripeClient) -> None:
    intent = await client.v1.payment_intents.create_async(
        {"amount": 5000, "currency": "eur", "payment_method": "pm_card_visa"}
    )
    ended = await client.v1.payment_intents.cancel_async(intent.id)
    assert ended.status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.confirm_async(intent.id, {"off_session": True})
    assert refused.value.code == "payment_intent_unexpected_state"
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.payment_intents.cancel_async(intent.id)


async def test_a_succeeded_payment_cannot_be_canceled(client: stripe.StripeClient) -> None:
    paid = await charge(client, "pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.payment_intents.cancel_async(paid.id)


async def test_a_hold_lapses_by_itself(client: stripe.StripeClient, sandbox: SandboxHandle) -> None:
    sandbox.settings(authorization_seconds=0.1)
    held = await charge(client, "pm_card_visa", capture_method="manual")
    for _ in range(100):
        held = await client.v1.payment_intents.retrieve_async(held.id)
        if held.status == "canceled":
            break
        await asyncio.sleep(0.05)
    assert (held.status, held.cancellation_reason) == ("canceled", "automatic")


@pytest.mark.parametrize(
    ("token", "end"),
    [
        ("pm_usBankAccount_success", "succeeded"),
        ("pm_usBankAccount_insufficientFunds", "requires_payment_method"),
    ],
)
async def test_a_bank_debit_is_processing_until_it_is_known(
    client: stripe.StripeClient, sandbox: SandboxHandle, token: str, end: str
) -> None:
    sandbox.settings(settle_seconds=0.5)
    intent = await charge(client, token)
    assert intent.status == "processing"
    for _ in range(100):
        intent = await client.v1.payment_intents.retrieve_async(intent.id)
        if intent.status != "processing":
            break
        await asyncio.sleep(0.05)
    assert intent.status == end


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"amount": 0, "currency": "eur"}, "amount", "amount_too_small"),
        ({"amount": "1e3", "currency": "eur"}, "amount", "parameter_invalid_integer"),
        ({"amount": -5, "currency": "eur"}, "amount", "parameter_invalid_integer"),
        ({"currency": "eur"}, "amount", "parameter_missing"),
        ({"amount": 100}, "currency", "parameter_missing"),
        ({"amount": 100, "currency": "xxq"}, "currency", None),
        ({"amount": 1001, "currency": "kwd"}, "amount", None),
        ({"amount": 100, "currency": "eur", "colour": "red"}, "colour", "parameter_unknown"),
        (
            {"amount": 100, "currency": "eur", "payment_method": "pm_nobody"},
            "payment_method",
            "resource_missing",
        ),
    ],
)
async def test_wrong_parameters_are_named(
    client: stripe.StripeClient, fields: dict[str, object], param: str, code: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.create_async(fields)  # type: ignore[arg-type] # wrong on purpose
    assert (refused.value.http_status, refused.value.param) == (400, param)
    assert refused.value.code == code


async def test_a_wrong_key_and_an_unknown_id_are_refused(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    async with open_client(sandbox, key="sk_test_other") as stranger:
        with pytest.raises(stripe.AuthenticationError):
            await stranger.v1.accounts.retrieve_current_async()
    assert (await client.v1.accounts.retrieve_current_async()).charges_enabled
    with pytest.raises(stripe.InvalidRequestError) as missing:
        await client.v1.payment_intents.retrieve_async("pi_nobody")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


async def test_lists_page_filter_and_show_things_late_when_told(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    made = [await charge(client, "pm_card_visa", metadata={"run": "lists"}) for _ in range(3)]
    ids = [intent.id for intent in reversed(made)]
    first = await client.v1.payment_intents.list_async({"limit": 2})
    assert ([i.id for i in first.data], first.has_more) == (ids[:2], True)
    rest = await client.v1.payment_intents.list_async({"limit": 2, "starting_after": ids[1]})
    assert rest.data[0].id == ids[2]
    back = await client.v1.payment_intents.list_async({"limit": 1, "ending_before": ids[2]})
    assert ([i.id for i in back.data], back.has_more) == ([ids[1]], True)
    future = await client.v1.payment_intents.list_async({"created": {"gte": made[-1].created + 60}})
    assert future.data == []
    query = {"query": 'metadata["run"]:"lists" AND status:"succeeded"'}
    found = await client.v1.payment_intents.search_async(query)  # type: ignore[arg-type] # typed dict
    assert {i.id for i in found.data} >= set(ids)
    sandbox.settings(list_delay=600, search_delay=600)
    late = await client.v1.payment_intents.list_async({"limit": 100})
    assert not {i.id for i in late.data} & set(ids)
    assert (await client.v1.payment_intents.search_async(query)).data == []  # type: ignore[arg-type] # typed dict
    assert (await client.v1.payment_intents.retrieve_async(ids[0])).id == ids[0]


async def test_the_balance_transaction_may_come_later(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    sandbox.settings(balance_transaction_delay=0.3)
    paid = await charge(client, "pm_card_visa")
    assert isinstance(paid.latest_charge, stripe.Charge)
    assert paid.latest_charge.balance_transaction is None
    await asyncio.sleep(0.35)
    later = await client.v1.charges.retrieve_async(paid.latest_charge.id)
    assert later.balance_transaction is not None
