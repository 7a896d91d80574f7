"""Every row of "Classifying a PSP outcome", over a real socket."""

from datetime import timedelta

import pytest

from app.psp.port import Class
from tests.psp.stripe.wire import NOW, adapter_at, intent, refusal, reply, request, wired

GMT = "Sun, 22 Nov 2026 12:00:00 GMT"
OWN = refusal()
HTML = b"<html><body>502 Bad Gateway</body></html>"
DECLINE = refusal(
    "card_error",
    code="card_declined",
    decline_code="insufficient_funds",
    payment_intent={"id": "pi_1", "status": "requires_payment_method"},
)
AUTHENTICATE = refusal("card_error", code="authentication_required")
IN_USE = refusal("idempotency_error", code="idempotency_key_in_use")
PAID = {"id": "pi_1", "status": "succeeded"}
DEEP = b"[" * 100_000 + b"]" * 100_000

ROWS: list[tuple[bytes, Class, bool]] = [
    (reply(400, OWN), "rejected", False),
    (reply(404, refusal(code="resource_missing")), "rejected", False),
    (reply(422, OWN), "rejected", False),
    (reply(400, refusal("idempotency_error")), "mismatch", False),
    (reply(400, refusal(code="rate_limit")), "busy", True),
    (reply(401, OWN), "not_sent", True),
    (reply(403, OWN), "not_sent", True),
    (reply(402, DECLINE), "declined", False),
    (reply(402, AUTHENTICATE), "declined", False),
    (reply(402, refusal("card_error", payment_intent=PAID)), "unknown", False),
    (reply(408, OWN), "busy", True),
    (reply(409, IN_USE), "busy", True),
    (reply(409, HTML), "busy", True),
    (reply(425, OWN), "busy", True),
    (reply(429, refusal(code="lock_timeout")), "busy", True),
    (reply(429, OWN, Stripe_Should_Retry="false"), "busy", False),
    (reply(500, refusal("api_error")), "unknown", False),
    (reply(500, refusal("api_error"), Stripe_Should_Retry="true"), "unknown", True),
    (reply(502, HTML), "unknown", True),
    (reply(503, refusal("api_error")), "unknown", True),
    (reply(503, refusal("api_error"), Stripe_Should_Retry="false"), "unknown", False),
    (reply(504, b""), "unknown", True),
    (reply(520, HTML), "unknown", True),
    (reply(529, HTML), "unknown", True),
    (reply(505, b""), "unknown", False),
    # Not in the provider's own words: something between us may have passed the request on.
    (reply(400, HTML), "unknown", False),
    (reply(403, HTML), "unknown", False),
    (reply(404, b"{}"), "unknown", False),
    (reply(402, b'{"error": "no"}'), "unknown", False),
    (reply(402, DEEP), "unknown", False),
    (reply(302, b"", Location="/elsewhere"), "unknown", False),
    (reply(307, b"", Location="/elsewhere"), "unknown", False),
    # A success that cannot be read.
    (reply(200, HTML), "unknown", True),
    (reply(200, b""), "unknown", True),
    (reply(200, b"\xff\xfe"), "unknown", True),
    (reply(200, b"null"), "unknown", True),
    (reply(200, b"[]"), "unknown", True),
    (reply(200, b"{}"), "unknown", True),
    (reply(200, DEEP), "unknown", True),
    (reply(200, {"object": "charge", "id": "ch_1"}), "unknown", True),
    (reply(200, intent(amount="12840")), "unknown", True),
    (reply(200, intent(amount=True)), "unknown", True),
    (reply(200, intent(created=10**15)), "unknown", True),
    (reply(200, intent())[:-40], "unknown", True),
    (reply(200, intent(status="a_new_status")), "unknown", True),
    (reply(201, intent()), "succeeded", True),
]


@pytest.mark.parametrize(
    ("answer", "expected", "resend"),
    ROWS,
    ids=[f"{row[0][9:12].decode()}-{row[1]}-{index}" for index, row in enumerate(ROWS)],
)
async def test_an_answer_gets_its_class_after_exactly_one_request(
    answer: bytes, expected: Class, resend: bool
) -> None:
    async def once(writer: object) -> None:
        writer.write(answer)  # type: ignore[attr-defined] # A StreamWriter.
        writer.close()  # type: ignore[attr-defined] # As above: a short answer ends here.

    async with wired(once) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.send("confirm", request(), key="k", reference="pi_1")
    assert (result.cls, result.resend) == (expected, resend), result
    assert len(wire.requests) == 1
    assert result.unauthorized == (expected == "not_sent")


async def test_a_decline_tells_its_codes_and_intent() -> None:
    answer = reply(402, DECLINE, Request_Id="req_9")
    async with wired(answer) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.send("confirm", request(), key="k", reference="pi_1")
    assert (result.code, result.decline_code) == ("card_declined", "insufficient_funds")
    assert (result.psp_reference, result.message, result.request_id) == ("pi_1", "No.", "req_9")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("21600", 3600.0),  # Six hours: the cap is one.
        ("999999999", 3600.0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1_0", None),
        ("soon", None),
        ("7 seconds", None),
        ("9" * 400, None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 18:00:00 GMT", 3600.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 99 Nov 2026 11:00:00 GMT", None),
        ("Sun, 22 Nov 99999999999 11:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize(("status", "cls"), [(429, "busy"), (503, "unknown")])
async def test_an_answer_tells_when_to_come_back_in_any_form(
    status: int, cls: str, value: str, seconds: float | None
) -> None:
    """F16: by our clock, and where the answer is dated, by the clock of who gave it."""
    for moment, date in ((NOW, {}), (NOW + timedelta(hours=1), {"Date": GMT})):
        answer = reply(status, OWN, Retry_After=value, **date)
        async with wired(answer) as wire, adapter_at(wire.url, clock=lambda: moment) as adapter:  # noqa: B023 - Used within its turn.
            result = await adapter.send("confirm", request(), key="k", reference="pi_1")
        assert (result.cls, result.retry_after) == (cls, seconds)


async def test_a_refusal_by_state_is_decided_by_the_object() -> None:
    refused = reply(400, refusal(code="payment_intent_unexpected_state"))
    outcomes = {}
    for status in ("succeeded", "canceled", "processing", "requires_confirmation"):
        found = reply(200, intent(status=status))
        async with wired(refused, found) as wire, adapter_at(wire.url) as adapter:
            result = await adapter.send("confirm", request(), key="k", reference="pi_1")
        outcomes[status] = result.cls
    assert outcomes == {
        "succeeded": "succeeded",
        "canceled": "closed",
        "processing": "pending",
        "requires_confirmation": "rejected",
    }


async def test_a_refusal_by_state_stays_unknown_when_the_object_cannot_be_seen() -> None:
    refused = reply(400, refusal(code="charge_already_captured"))
    async with wired(refused, reply(503, b"")) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.send("capture", request("capture"), key="k", reference=None)
    assert (result.cls, result.resend) == ("unknown", False)
