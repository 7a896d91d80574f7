"""Finding an attempt without its id: bounded, exact about whose it is, and never a proof."""

from datetime import timedelta
from typing import Any

import pytest

from app.psp.port import Result
from tests.psp.stripe.wire import (
    NOW,
    OURS,
    adapter_at,
    intent,
    refund,
    refusal,
    reply,
    request,
    session,
    wired,
)


def page(*entries: dict[str, Any], more: bool = False) -> bytes:
    return reply(200, {"object": "list", "data": list(entries), "has_more": more})


FOREIGN = intent(id="pi_9", metadata={"attempt_id": "att_1", "installation": "inst_9"})
OTHER = intent(id="pi_8", metadata=OURS | {"attempt_id": "att_8"})


async def test_an_intent_is_found_on_a_later_page_and_retrieved() -> None:
    script = page(FOREIGN, OTHER, more=True), page(intent()), reply(200, intent())
    async with wired(*script) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.look_up(request(), reference=None)
    assert (result.cls, result.psp_reference) == ("succeeded", "pi_1")
    lines = [line for line, _, _ in wire.requests]
    assert "starting_after=pi_8" in lines[1]
    assert lines[2].startswith("GET /v1/payment_intents/pi_1?")


async def test_a_page_is_found_among_sessions() -> None:
    script = page(session()), reply(200, session())
    async with wired(*script) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.look_up(request("checkout"), reference=None)
    assert (result.cls, result.session_reference) == ("open", "cs_1")
    assert wire.requests[0][0].startswith("GET /v1/checkout/sessions?")


async def test_a_refund_is_found_among_those_of_its_intent() -> None:
    script = page(refund(id="re_9", metadata={}), refund()), reply(200, refund())
    async with wired(*script) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.look_up(request("refund"), reference=None)
    assert (result.cls, result.psp_reference) == ("succeeded", "re_1")
    assert "payment_intent=pi_1" in wire.requests[0][0]


async def test_search_finds_what_lists_bury() -> None:
    busy = [page(OTHER, more=True)] * 5
    script = *busy, page(FOREIGN, intent()), reply(200, intent())
    async with wired(*script) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.look_up(request(), reference=None)
    assert (result.cls, len(wire.requests)) == ("succeeded", 7)
    assert "/search?" in wire.requests[5][0]


async def test_nothing_found_is_bounded_and_says_so() -> None:
    asked = request(created_at=NOW - timedelta(hours=3))
    async with wired(page(OTHER, more=True)) as wire, adapter_at(wire.url) as adapter:
        result = await adapter.look_up(asked, reference=None)
    assert result.cls == "not_found"
    # Five pages around the attempt, five of the time in which replays were possible, one search.
    assert len(wire.requests) == 11


async def test_an_unknown_id_is_not_found() -> None:
    missing = reply(404, refusal(code="resource_missing"))
    async with wired(missing) as wire, adapter_at(wire.url) as adapter:
        assert (await adapter.look_up(request(), reference="pi_1")).cls == "not_found"


FAILURES = [
    (reply(401, refusal()), "not_sent"),
    (reply(404, b"<html>"), "unknown"),
    (reply(400, refusal()), "rejected"),
    (reply(402, refusal("card_error")), "declined"),
    (reply(429, refusal(), Retry_After="3"), "busy"),
    (reply(500, refusal("api_error")), "unknown"),
    (reply(503, b""), "unknown"),
    (reply(200, b"<html>"), "unknown"),
]


@pytest.mark.parametrize(("answer", "own"), FAILURES)
async def test_a_look_ups_own_failure_is_never_the_attempts(answer: bytes, own: str) -> None:
    async with wired(answer) as wire, adapter_at(wire.url) as adapter:
        results = [
            await adapter.look_up(request(), reference="pi_1"),
            await adapter.look_up(request(), reference=None),
            await adapter.look_up(request("refund"), reference=None),
            await adapter.look_up_refunds("pi_1"),
            await adapter.fee("pi_1"),
        ]
    for result in results:
        assert isinstance(result, Result)
        assert (result.cls, result.resend) == ("unknown", False)
        assert result.raw["look_up"] == own


async def test_refunds_that_go_on_for_ever_or_cannot_be_read_are_unknown() -> None:
    odd = refund(currency="isk", amount=1250)
    for answer in (page(refund(), more=True), page({"id": 5}), page(odd)):
        async with wired(answer) as wire, adapter_at(wire.url) as adapter:
            found = await adapter.look_up_refunds("pi_1")
        assert isinstance(found, Result)
        assert found.cls == "unknown"


async def test_an_unreachable_psp_is_not_healthy_and_every_look_up_unknown() -> None:
    async with adapter_at("http://127.0.0.1:9") as adapter:
        assert not await adapter.healthy()
        assert (await adapter.look_up(request(), reference="pi_1")).cls == "unknown"
    for status, healthy in ((200, True), (401, True), (503, False)):
        async with wired(reply(status, refusal())) as wire, adapter_at(wire.url) as adapter:
            assert await adapter.healthy() == healthy
