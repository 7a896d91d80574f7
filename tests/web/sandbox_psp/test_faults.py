"""Faults: what each payment method, script and header does to the wire and to the book."""

import asyncio
import contextlib
import json
import socket
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import UNREADABLE


async def prepared(client: stripe.StripeClient, token: str) -> stripe.PaymentIntent:
    return await client.v1.payment_intents.create_async(
        {"amount": 900, "currency": "eur", "payment_method": token}
    )


def charged(sandbox: SandboxHandle, intent_id: str) -> list[int]:
    """Return the captured amounts of an intent in the sandbox's book."""
    return [
        c["amount_captured"]
        for c in sandbox.book()["charges"]
        if c["payment_intent"] == intent_id and c["captured"]
    ]


def raw_post(
    sandbox: SandboxHandle, path: str, form: dict[str, str], **headers: str
) -> tuple[bytes, bool]:
    """Post over a bare socket; return all bytes that came, and whether it ended in a reset."""
    parts = urlsplit(sandbox.url)
    body = urlencode(form).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Authorization: Bearer {sandbox.secret_key}",
        f"Content-Length: {len(body)}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    got = b""
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 10) as line:
        line.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            while part := line.recv(65536):
                got += part
        except ConnectionResetError:
            return got, True
    return got, False


async def confirm(client: stripe.StripeClient, intent_id: str, key: str) -> stripe.PaymentIntent:
    options: Any = {"idempotency_key": key}
    return await client.v1.payment_intents.confirm_async(intent_id, {"off_session": True}, options)


async def test_f12_reply_lost_charges_once_and_the_replay_tells_it(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_reply_lost")
    with pytest.raises(stripe.APIConnectionError):
        await confirm(client, intent.id, "lost")
    assert charged(sandbox, intent.id) == [900]
    looked_up = await client.v1.payment_intents.retrieve_async(intent.id)
    assert looked_up.status == "succeeded"
    assert (await confirm(client, intent.id, "lost")).status == "succeeded"
    assert charged(sandbox, intent.id) == [900]
    log = sandbox.requests(key="lost")
    assert [(r["status"], r["fault"]) for r in log] == [
        (None, "after:drop_response"),
        (200, None),
    ]


async def test_reply_lost_sends_not_a_single_byte(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_reply_lost")
    path = f"/v1/payment_intents/{intent.id}/confirm"
    assert raw_post(sandbox, path, {"off_session": "true"})[0] == b""
    assert charged(sandbox, intent.id) == [900]


async def test_f13_not_charged_timeout_hangs_up_without_a_charge_once(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    sandbox.settings(hang_seconds=0.3)
    intent = await prepared(client, "pm_fault_not_charged_timeout")
    path = f"/v1/payment_intents/{intent.id}/confirm"
    began = time.monotonic()
    got, _ = raw_post(sandbox, path, {"off_session": "true"}, Idempotency_Key="silent")
    assert (got, time.monotonic() - began > 0.29) == (b"", True)
    assert charged(sandbox, intent.id) == []
    found = await client.v1.payment_intents.retrieve_async(intent.id)
    assert found.status == "requires_confirmation"
    assert (await confirm(client, intent.id, "silent")).status == "succeeded"
    assert charged(sandbox, intent.id) == [900]


async def test_f15_500_then_ok_is_not_charged_and_not_kept(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_500_then_ok")
    with pytest.raises(stripe.APIError) as broken:
        await confirm(client, intent.id, "500ok")
    assert broken.value.http_status == 500
    assert charged(sandbox, intent.id) == []
    assert (await confirm(client, intent.id, "500ok")).status == "succeeded"
    assert charged(sandbox, intent.id) == [900]


async def test_f15_500_charged_is_charged_and_the_500_is_replayed(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_500_charged")
    for _ in range(2):
        with pytest.raises(stripe.APIError) as broken:
            await confirm(client, intent.id, "500charged")
        assert broken.value.http_status == 500
    assert charged(sandbox, intent.id) == [900]
    assert [r["replayed"] for r in sandbox.requests(key="500charged")] == [0, 1]
    found = await client.v1.payment_intents.retrieve_async(intent.id)
    assert found.status == "succeeded"


async def test_f16_429_asks_for_patience_twice(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_429")
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError) as refused:
            await confirm(client, intent.id, "429")
        assert refused.value.headers is not None
        assert refused.value.headers["Retry-After"] == "1"
    assert charged(sandbox, intent.id) == []
    assert (await confirm(client, intent.id, "429")).status == "succeeded"


async def test_slow_answers_late_after_the_charge(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    sandbox.settings(slow_seconds=0.6)
    intent = await prepared(client, "pm_fault_slow")
    began = time.monotonic()
    running = asyncio.create_task(confirm(client, intent.id, "slow"))
    await asyncio.sleep(0.3)
    assert charged(sandbox, intent.id) == [900]
    assert (await running).status == "succeeded"
    assert time.monotonic() - began > 0.59


@pytest.mark.parametrize("token", ["html", "garbage", "truncate", "reset", "slow_body"])
async def test_f14_an_answer_that_cannot_be_read_hides_a_charge(
    client: stripe.StripeClient, sandbox: SandboxHandle, token: str
) -> None:
    sandbox.settings(slow_seconds=0.3)
    intent = await prepared(client, f"pm_fault_{token}")
    began = time.monotonic()
    # A slow body arrives whole in the end.
    with contextlib.nullcontext() if token == "slow_body" else pytest.raises(UNREADABLE):
        await confirm(client, intent.id, token)
    # A sleep may end a clock's tick early.
    assert time.monotonic() - began > (0.29 if token == "slow_body" else 0)
    assert charged(sandbox, intent.id) == [900]
    assert (await confirm(client, intent.id, token)).status == "succeeded"
    assert charged(sandbox, intent.id) == [900]


async def test_f17_a_key_in_use_is_refused_twice_without_an_effect(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_key_in_use")
    for _ in range(2):
        with pytest.raises(stripe.StripeError) as refused:
            await confirm(client, intent.id, f"busy-{intent.id}")
        assert refused.value.http_status == 409
    assert charged(sandbox, intent.id) == []
    assert (await confirm(client, intent.id, f"busy-{intent.id}")).status == "succeeded"


async def test_f21_wrong_amount_charges_another_amount_than_asked(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_wrong_amount")
    paid = await confirm(client, intent.id, "wrong")
    assert (paid.amount, paid.amount_received) == (901, 901)
    assert charged(sandbox, intent.id) == [901]


async def test_poison_is_refused_until_it_is_cured(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_fault_poison")
    for key in ("poison-1", "poison-1", "poison-2"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await confirm(client, intent.id, key)
        assert (refused.value.http_status, refused.value.param) == (400, "payment_method")
    sandbox.poison(cured=True)
    assert (await confirm(client, intent.id, "poison-3")).status == "succeeded"
    assert charged(sandbox, intent.id) == [900]
    sandbox.poison(cured=False)
    other = await prepared(client, "pm_fault_poison")
    with pytest.raises(stripe.InvalidRequestError):
        await confirm(client, other.id, "poison-4")


@pytest.mark.parametrize(
    ("fault", "charges"),
    [
        (("before", "drop_request", {}), []),
        (("before", "status", {"status": 503, "should_retry": True}), []),
        (("after", "drop_response", {}), [900]),
        (("after", "reset", {"bytes": 40}), [900]),
        (("after", "status", {"status": 502}), [900]),
        (("after", "truncate", {}), [900]),
        (("after", "garbage", {}), [900]),
        (("after", "html", {}), [900]),
        (("before", "html", {}), []),
        (("before", "garbage", {}), []),
        (("before", "truncate", {}), []),
        (("before", "reset", {"bytes": 60}), []),
        (("before", "slow_body", {"seconds": 0.1}), []),
        (("before", "key_in_use", {}), []),
        (("before", "key_mismatch", {}), []),
        (("before", "status", {"status": 429, "retry_after": "soon"}), []),
    ],
)
async def test_a_scripted_fault_strikes_once_on_its_side_of_the_effect(
    client: stripe.StripeClient,
    sandbox: SandboxHandle,
    fault: tuple[str, str, dict[str, Any]],
    charges: list[int],
) -> None:
    when, kind, fields = fault
    intent = await prepared(client, "pm_card_visa")
    sandbox.fault(when, kind, method="POST", path="/confirm", **fields)
    with pytest.raises(UNREADABLE):
        await confirm(client, intent.id, f"script-{intent.id}")
    assert charged(sandbox, intent.id) == charges
    found = await client.v1.payment_intents.retrieve_async(intent.id)
    assert (found.status == "succeeded") == bool(charges)
    # The same key again never charges twice; only a kept 502 hides that it charged.
    with contextlib.suppress(stripe.APIError):
        await confirm(client, intent.id, f"script-{intent.id}")
    assert charged(sandbox, intent.id) == [900]


async def test_a_header_resets_the_connection_at_a_byte(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_card_visa")
    path = f"/v1/payment_intents/{intent.id}/confirm"
    got, was_reset = raw_post(
        sandbox, path, {"off_session": "true"}, X_Sandbox_Fault="after:reset=17"
    )
    assert (got, was_reset) == (b"HTTP/1.1 200 OK\r\n", True)
    assert charged(sandbox, intent.id) == [900]


async def test_a_scripted_wrong_amount_lies_while_the_book_is_right(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    intent = await prepared(client, "pm_card_visa")
    sandbox.fault("after", "wrong_amount", path="/confirm")
    assert (await confirm(client, intent.id, f"lie-{intent.id}")).amount == 901
    assert charged(sandbox, intent.id) == [900]


def test_an_unknown_fault_is_refused(sandbox: SandboxHandle) -> None:
    with pytest.raises(RuntimeError, match="400"):
        sandbox.fault("before", "drop_response")
    got, _ = raw_post(sandbox, "/v1/refunds", {}, X_Sandbox_Fault="x", Connection="close")
    assert got.startswith(b"HTTP/1.1 400")


async def test_down_refuses_every_call_and_up_again_serves(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    sandbox.settings(down=True)
    with pytest.raises(stripe.APIError) as refused:
        await prepared(client, "pm_card_visa")
    assert refused.value.http_status == 503
    sandbox.settings(down_mode="drop")
    with pytest.raises(stripe.APIConnectionError):
        await prepared(client, "pm_card_visa")
    assert sandbox.get("/health") == {"status": "ok", "down": True}
    sandbox.settings(down=False)
    assert (await prepared(client, "pm_card_visa")).status == "requires_confirmation"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"amount[=1", 400),
        (b"a=%FF%FE", 400),
        (b"amount=1&amount[x]=2", 400),
        (b"a[b][c][d][e][f][g][h][i][j]=1", 400),
        (b"a%00b=1", 400),
        (b"&".join(b"a%d=1" % n for n in range(1200)), 400),
        (b"amount[]=100&currency=eur", 400),
        (b"metadata=text&amount=100&currency=eur", 400),
        (b"expand=latest_charge&amount=100&currency=eur", 400),
        (b"amount=100&currency=eur&expand[]=nothing", 400),
        (b"x" * 1_000_001, 413),
    ],
)
def test_hostile_forms_are_refused_without_a_trace(
    sandbox: SandboxHandle, body: bytes, status: int
) -> None:
    before = sandbox.book()
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}
    answer = sandbox.send("POST", "/v1/payment_intents", body, headers)
    assert answer.status == status
    if status == 400:
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
    assert sandbox.book() == before
