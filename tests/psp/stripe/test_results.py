"""What the state of each object means for each kind of attempt, and what does not match it."""

from typing import Any

import pytest

from app.psp.port import Class, Request, Result
from tests.psp.stripe.wire import (
    OURS,
    adapter_at,
    intent,
    refund,
    reply,
    request,
    session,
    wired,
)

ERROR = {"type": "card_error", "code": "card_declined", "decline_code": "lost_card"}
HELD = {"status": "requires_capture"}
NEW = {"status": "requires_payment_method"}


async def looked_up(found: dict[str, Any], asked: Request, reference: str) -> Result:
    async with wired(reply(200, found)) as wire, adapter_at(wire.url) as adapter:
        return await adapter.look_up(asked, reference=reference)


INTENTS: list[tuple[str, dict[str, Any], Class]] = [
    ("charge", {}, "succeeded"),
    ("charge", HELD, "authorized"),
    ("charge", {"status": "processing"}, "pending"),
    ("charge", {"status": "canceled"}, "closed"),
    ("charge", {"status": "requires_confirmation"}, "next"),
    ("charge", NEW | {"last_payment_error": ERROR}, "declined"),
    ("charge", NEW, "next"),
    ("charge", {"status": "requires_action"}, "pending"),
    ("charge", {"status": "unheard_of"}, "unknown"),
    ("checkout", {}, "succeeded"),
    ("checkout", HELD, "authorized"),
    ("checkout", {"status": "canceled"}, "closed"),
    ("capture", {}, "succeeded"),
    ("capture", HELD, "next"),
    ("capture", {"status": "canceled"}, "closed"),
    ("capture", NEW | {"last_payment_error": ERROR}, "declined"),
    ("capture", NEW, "unknown"),
    ("void", {}, "succeeded"),
    ("void", HELD, "next"),
    ("void", {"status": "canceled"}, "closed"),
    ("void", {"status": "processing"}, "pending"),
    ("void", NEW, "next"),
]


@pytest.mark.parametrize(("kind", "state", "expected"), INTENTS)
async def test_an_intents_state_decides(kind: str, state: dict[str, Any], expected: Class) -> None:
    result = await looked_up(intent(**state), request(kind), "pi_1")
    assert result.cls == expected, result.message


PAID = {"status": "complete", "payment_status": "paid", "url": None}
UNPAID = {"status": "complete", "payment_status": "unpaid", "url": None}
SESSIONS: list[tuple[str, dict[str, Any], Class]] = [
    ("checkout", {}, "open"),
    ("checkout", {"payment_intent": intent(**NEW, last_payment_error=ERROR)}, "open"),
    ("checkout", PAID | {"payment_intent": intent()}, "succeeded"),
    ("checkout", PAID | {"payment_intent": None}, "unknown"),
    ("checkout", PAID | {"payment_intent": "pi_1"}, "unknown"),
    ("checkout", UNPAID | {"payment_intent": intent(status="processing")}, "pending"),
    ("checkout", UNPAID | {"payment_intent": intent(**HELD)}, "authorized"),
    ("checkout", UNPAID | {"payment_intent": intent(status="canceled")}, "closed"),
    ("checkout", UNPAID | {"payment_intent": intent(**NEW)}, "pending"),
    ("checkout", UNPAID | {"payment_intent": intent(**NEW, last_payment_error=ERROR)}, "closed"),
    ("checkout", {"status": "expired", "url": None}, "closed"),
    # The intent is the better witness: money moved, whatever the page says.
    ("checkout", {"status": "expired", "payment_intent": intent()}, "succeeded"),
    ("checkout", {"status": "complete", "payment_status": "no_payment_required"}, "mismatch"),
    ("checkout", {"status": "unheard_of"}, "unknown"),
    ("void", {}, "next"),
    ("void", {"status": "expired"}, "closed"),
    ("void", PAID | {"payment_intent": intent()}, "succeeded"),
    ("void", UNPAID | {"payment_intent": intent(**HELD)}, "authorized"),
]


@pytest.mark.parametrize(("kind", "state", "expected"), SESSIONS)
async def test_a_sessions_state_decides(kind: str, state: dict[str, Any], expected: Class) -> None:
    result = await looked_up(session(**state), request(kind), "cs_1")
    assert result.cls == expected, result.message
    assert result.session_reference == "cs_1"


async def test_an_open_page_tells_the_decline_on_it() -> None:
    declined = session(payment_intent=intent(**NEW, last_payment_error=ERROR))
    result = await looked_up(declined, request("checkout"), "cs_1")
    assert (result.cls, result.code, result.decline_code) == ("open", "card_declined", "lost_card")
    assert (result.psp_reference, result.page_url) == ("cs_1", "https://pay.test/cs_1")


async def test_an_intent_that_waits_leaves_the_word_to_its_session() -> None:
    for page, expected in ((session(), "open"), (session(status="expired"), "closed")):
        listed = {"data": [page], "has_more": False}
        waiting = intent(**NEW, last_payment_error=ERROR)
        script = reply(200, waiting), reply(200, listed), reply(200, page)
        async with wired(*script) as wire, adapter_at(wire.url) as adapter:
            result = await adapter.look_up(request("checkout"), reference="pi_1")
        assert (result.cls, result.session_reference) == (expected, "cs_1")


async def test_what_an_attempt_acts_on_is_frozen_with_it() -> None:
    void = request("void", psp_reference="cs_1")
    page = reply(200, session(status="expired"))
    async with wired(page) as wire, adapter_at(wire.url) as adapter:
        assert (await adapter.send("cancel", void, key="k", reference="pi_1")).cls == "closed"
        assert (await adapter.look_up(void, reference="pi_1")).cls == "closed"
    assert wire.requests[0][0] == "POST /v1/checkout/sessions/cs_1/expire"
    assert wire.requests[1][0].startswith("GET /v1/checkout/sessions/cs_1?")
    async with wired(reply(200, refund())) as wire, adapter_at(wire.url) as adapter:
        sent = await adapter.send("create", request("refund"), key="k", reference="re_1")
    assert sent.cls == "succeeded"
    assert b"payment_intent=pi_1" in wire.requests[0][2]


async def test_a_reference_that_a_step_cannot_act_on_is_rejected_unsent() -> None:
    async with wired(b"") as wire, adapter_at(wire.url) as adapter:
        for kind, step, wrong in (
            ("capture", "capture", "cs_1"),
            ("refund", "create", "cs_1"),
            ("refund", "create", None),
            ("void", "cancel", "re_1"),
        ):
            asked = request(kind, psp_reference=wrong)
            result = await adapter.send(step, asked, key="k", reference=None)
            assert (result.cls, result.code) == ("rejected", "reference_unusable")
        unconfirmed = await adapter.send("confirm", request(), key="k", reference=None)
        assert unconfirmed.cls == "rejected"
        with pytest.raises(ValueError, match="no step"):
            await adapter.send("capture", request(), key="k", reference="pi_1")
    assert wire.requests == []


REFUNDS: list[tuple[dict[str, Any], Class]] = [
    ({}, "succeeded"),
    ({"status": "pending"}, "pending"),
    ({"status": "requires_action"}, "pending"),
    ({"status": "failed", "failure_reason": "lost_or_stolen_card"}, "declined"),
    ({"status": "canceled"}, "declined"),
    ({"status": "unheard_of"}, "unknown"),
    ({"payment_intent": "pi_2"}, "mismatch"),
    ({"payment_intent": None}, "mismatch"),
    ({"amount": 12841}, "mismatch"),
    ({"amount": 12841, "status": "failed"}, "declined"),  # Nothing went back.
    ({"currency": "usd"}, "mismatch"),
    ({"metadata": None}, "mismatch"),
]


@pytest.mark.parametrize(("state", "expected"), REFUNDS)
async def test_a_refunds_state_decides(state: dict[str, Any], expected: Class) -> None:
    result = await looked_up(refund(**state), request("refund"), "re_1")
    assert result.cls == expected, result.message


WRONG: list[dict[str, Any]] = [
    {"amount": 12841},
    {"amount_received": 12839},
    {"currency": "usd"},
    {"livemode": True},
    {"metadata": {}},
    {"metadata": OURS | {"attempt_id": "att_2"}},
    {"metadata": OURS | {"installation": "inst_2"}},
    {"metadata": OURS | {"payment_id": "pay_2"}},
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_charge_that_is_not_what_was_asked_for_is_a_mismatch(wrong: dict[str, Any]) -> None:
    async with wired(reply(200, intent(**wrong))) as wire, adapter_at(wire.url) as adapter:
        sent = await adapter.send("confirm", request(), key="k", reference="pi_1")
        found = await adapter.look_up(request(), reference="pi_1")
    assert (sent.cls, found.cls) == ("mismatch", "mismatch")
    assert "differs from the request" in (sent.message or "")


async def test_a_page_that_is_not_what_was_asked_for_is_a_mismatch() -> None:
    wrongs: tuple[dict[str, Any], ...] = (
        {"amount_total": 1},
        {"currency": "usd"},
        {"livemode": True},
        {"metadata": {}},
    )
    for wrong in wrongs:
        result = await looked_up(session(**wrong), request("checkout"), "cs_1")
        assert result.cls == "mismatch"


async def test_another_captured_amount_is_a_mismatch_and_a_part_is_not() -> None:
    asked = request("capture", amount=5000)
    assert (await looked_up(intent(amount_received=5000), asked, "pi_1")).amount == 5000
    assert (await looked_up(intent(amount_received=5001), asked, "pi_1")).cls == "mismatch"


async def test_a_charge_that_was_captured_in_part_is_a_success_when_capture_was_manual() -> None:
    asked = request(capture_method="manual")
    result = await looked_up(intent(amount_received=5000), asked, "pi_1")
    assert (result.cls, result.amount, result.amount_captured) == ("succeeded", 12840, 5000)


async def test_fee_and_method_come_with_the_charge() -> None:
    charge = {
        "object": "charge",
        "id": "ch_1",
        "amount_refunded": 0,
        "balance_transaction": {"id": "txn_1", "fee": 218, "currency": "usd"},
        "payment_method_details": {"type": "card", "card": {"brand": "amex", "last4": "0005"}},
    }
    result = await looked_up(intent(latest_charge=charge), request(), "pi_1")
    assert (result.fee, result.fee_currency, result.balance_transaction) == (218, "usd", "txn_1")
    assert result.method == "American Express •••• 0005"


@pytest.mark.parametrize(
    ("changes", "captured", "expected"),
    [
        ({}, 5_000, "released"),
        ({}, 0, "released"),  # The whole hold was let go.
        ({"balance_transaction": "txn_1"}, 5_000, "succeeded"),
        ({"metadata": OURS}, 5_000, "succeeded"),
        ({"amount": 100}, 5_000, "succeeded"),
        ({"status": "failed"}, 5_000, "failed"),
        ({}, None, "succeeded"),
    ],
)
async def test_what_was_held_and_never_taken_is_no_money_given_back(
    changes: dict[str, Any], captured: int | None, expected: str
) -> None:
    charge = {"object": "charge", "id": "ch_1", "amount": 12_840, "amount_refunded": 0}
    charge["amount_captured"] = captured
    rest = 12_840 - (captured or 0)
    entry = refund(**({"amount": rest, "metadata": {}, "charge": charge} | changes))
    page = reply(200, {"data": [entry], "has_more": False})
    async with wired(page) as wire, adapter_at(wire.url) as adapter:
        seen = await adapter.look_up_refunds("pi_1")
    assert isinstance(seen, list)
    assert [one.status for one in seen] == [expected]
    assert "expand" in wire.requests[0][0]


@pytest.mark.parametrize("kind", ["charge", "checkout", "capture", "void"])
async def test_a_refund_by_hand_is_seen_with_its_charge(kind: str) -> None:
    """Whatever was asked about: for a page that is to be ended its money may be news, too."""
    charge = {"object": "charge", "id": "ch_1", "amount_refunded": 500}
    page = {"data": [refund(amount=500, metadata={}, status="pending")], "has_more": False}
    script = reply(200, intent(latest_charge=charge)), reply(200, page)
    async with wired(*script) as wire, adapter_at(wire.url) as adapter:
        asked = request(kind, psp_reference="pi_1")
        result = await adapter.look_up(asked, reference="pi_1")
    assert [(r.psp_reference, r.amount, r.status) for r in result.refunds] == [
        ("re_1", 500, "pending")
    ]
    assert result.refunds[0].attempt_id is None


@pytest.mark.parametrize(
    ("received", "expected"), [(0, "closed"), (12841, "mismatch")], ids=["nothing", "something"]
)
async def test_an_object_that_ended_without_taking_anything_may_be_of_any_amount(
    received: int, expected: Class
) -> None:
    other = intent(status="canceled", amount=12841, amount_received=received)
    assert (await looked_up(other, request(), "pi_1")).cls == expected
