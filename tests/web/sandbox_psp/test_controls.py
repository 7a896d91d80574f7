"""Outage, credentials and the log that a checker reads page by page."""

import http.client
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import Receiver, open_client, wait_until

CHARGE: Any = {
    "amount": 700,
    "currency": "eur",
    "payment_method": "pm_card_visa",
    "confirm": True,
}


async def charge(client: stripe.StripeClient, key: str) -> stripe.PaymentIntent:
    options: Any = {"idempotency_key": key}
    return await client.v1.payment_intents.create_async(CHARGE, options)


async def test_the_log_and_the_book_are_read_on_from_a_cursor(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    begin = sandbox.book()["cursor"]
    last = sandbox.requests()[-1]["id"] if sandbox.requests() else 0
    intent = await charge(client, f"cursor-{begin}")
    await charge(client, f"cursor-{begin}")
    log = sandbox.requests(since=str(last), limit="1")
    log += sandbox.requests(since=str(log[-1]["id"]), limit="5")
    assert [entry["replayed"] for entry in log] == [0, 1]
    assert intent.id in log[0]["effect"]
    assert intent.latest_charge in log[0]["effect"]
    assert log[1]["effect"] == []
    assert log[0]["body_hash"] == log[1]["body_hash"]
    await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 100})
    changes = sandbox.get("/book", since=str(begin), limit="1")
    assert changes["more"]
    rest = sandbox.get("/book", since=str(changes["cursor"]))
    assert not rest["more"]
    assert [one["amount"] for one in changes["refunds"] + rest["refunds"]] == [100]
    charges = changes["charges"] + rest["charges"]
    assert [one["amount_refunded"] for one in charges] == [100]
    captures = changes["captures"] + rest["captures"]
    assert [one["amount"] for one in captures] == [700]
    assert rest["balance"] == sandbox.book()["balance"]
    assert sandbox.get("/book", since=str(rest["cursor"]))["charges"] == []


async def test_f25_a_revoked_or_rotated_key_is_refused(
    client: stripe.StripeClient, sandbox: SandboxHandle
) -> None:
    sandbox.post("/keys", {"action": "revoke"})
    with pytest.raises(stripe.AuthenticationError) as refused:
        await charge(client, "revoked")
    assert "Expired" in str(refused.value)
    sandbox.post("/keys", {"action": "restore"})
    await charge(client, "revoked")
    new = sandbox.post("/keys", {"action": "rotate", "overlap": 60})["secret_key"]
    await charge(client, "overlap")
    async with open_client(sandbox, key=new) as other:
        await charge(other, "rotated")
    sandbox.post("/keys", {"action": "rotate", "secret": "sk_test_newer"})
    with pytest.raises(stripe.AuthenticationError):
        await charge(client, "over")
    with pytest.raises(RuntimeError, match="400"):
        sandbox.post("/keys", {"action": "lose"})


async def test_f32_both_secrets_sign_during_the_overlap_and_a_restart_keeps_the_new_one(
    own_sandbox: Callable[..., SandboxHandle], receiver: Receiver
) -> None:
    first = own_sandbox(SANDBOX_WEBHOOK_URL=receiver.url)
    wish = {"secret": "whsec_new", "overlap": 60}
    assert first.post("/webhook_secret", wish)["webhook_secret"] == "whsec_new"
    async with open_client(first) as client:
        intent = await charge(client, "both")
        wait_until(lambda: len(receiver.types(intent.id)) == 2)
        signature, body = receiver.got[-1]
        for secret in (first.webhook_secret, "whsec_new"):
            client.construct_event(body, signature, secret)
        first.post("/webhook_secret", {"secret": "whsec_newer"})
        first.stop(kill=True)
    second = own_sandbox(SANDBOX_WEBHOOK_URL=receiver.url)
    async with open_client(second) as client:
        intent = await charge(client, "one")
        wait_until(lambda: len(receiver.types(intent.id)) == 2)
        signature, body = receiver.got[-1]
        client.construct_event(body, signature, "whsec_newer")
        with pytest.raises(stripe.SignatureVerificationError):
            client.construct_event(body, signature, "whsec_new")


def test_f19_an_outage_refuses_connections_and_ends_by_itself(
    own_sandbox: Callable[..., SandboxHandle],
) -> None:
    sandbox = own_sandbox()
    sandbox.post("/outage", {"mode": "refuse", "seconds": 1})

    def refused() -> bool:
        try:
            sandbox.get("/health")
        except ConnectionRefusedError:
            return True
        except (OSError, http.client.HTTPException):
            return False
        return False

    wait_until(refused)
    wait_until(lambda: not refused())
    assert sandbox.get("/health")["status"] == "ok"
    sandbox.post("/outage", {"mode": "503", "seconds": 0.2})
    assert sandbox.get("/health")["down"]
    wait_until(lambda: not sandbox.get("/health")["down"])
    for wish in ({"mode": "refuse"}, {"mode": "nap"}, {}):
        with pytest.raises(RuntimeError, match="400"):
            sandbox.post("/outage", wish)


def test_an_outage_may_answer_nothing_at_all(sandbox: SandboxHandle) -> None:
    sandbox.post("/outage", {"mode": "hang"})
    line = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=0.5)
    line.request("GET", "/v1/account", headers={"Authorization": f"Bearer {sandbox.secret_key}"})
    with pytest.raises(TimeoutError):
        line.getresponse()
    line.close()
    sandbox.post("/outage", {"mode": "none"})
    assert not sandbox.get("/health")["down"]


def test_a_kill_at_any_moment_keeps_each_key_to_one_object(
    own_sandbox: Callable[..., SandboxHandle],
) -> None:
    """What was answered is there after the crash, and a replay makes nothing twice."""
    told: dict[str, str] = {}
    sent: set[str] = set()

    def shoot(sandbox: SandboxHandle, lane: str) -> None:
        form = urlencode({name: str(value).lower() for name, value in CHARGE.items()}).encode()
        for number in range(10_000):
            key = f"{lane}-{number}"
            sent.add(key)
            headers = {
                "Authorization": f"Bearer {sandbox.secret_key}",
                "Content-Type": "application/x-www-form-urlencoded",
                "Idempotency-Key": key,
            }
            try:
                answer = sandbox.send("POST", "/v1/payment_intents", form, headers)
            except (OSError, http.client.HTTPException):
                return
            told[key] = answer.body.split('"id":"')[1].split('"')[0]

    for crash in range(3):
        sandbox = own_sandbox()
        lanes = [threading.Thread(target=shoot, args=(sandbox, f"{crash}{n}")) for n in "abc"]
        for lane in lanes:
            lane.start()
        enough = len(told) + 3
        wait_until(lambda: len(told) >= enough, seconds=60)  # noqa: B023 - asked at once.
        time.sleep(0.013 * crash)
        sandbox.stop(kill=True)
        for lane in lanes:
            lane.join()
    last = own_sandbox()
    form = urlencode({name: str(value).lower() for name, value in CHARGE.items()}).encode()
    for key in sent:
        headers = {
            "Authorization": f"Bearer {last.secret_key}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Idempotency-Key": key,
        }
        body = last.send("POST", "/v1/payment_intents", form, headers).body
        assert told.get(key, "") in body
    assert len(told) >= 9
    assert len(last.book()["charges"]) == len(sent)


def test_the_page_switches_each_fault_on_and_all_off(sandbox: SandboxHandle) -> None:
    def send(part: str, **form: str) -> int:
        return sandbox.submit(f"/_sandbox/page/{part}", form).status

    assert send("fault", fault="after:reset", target="confirm", number="40", count="2") == 303
    assert send("policy", seed="4", **{"after:reset": "12.5", "webhook lost": "50"}) == 303
    assert send("settings", loss="25", delay="2") == 303
    assert send("settings", list_delay="3") == 303
    assert send("keys", action="revoke") == 303
    assert send("outage", mode="drop", seconds="60") == 303
    waiting = sandbox.get("/faults")[0]
    assert (waiting["path"], waiting["count"], waiting["fault"]["bytes"]) == ("/confirm", 2, 40)
    policy = sandbox.get("/policy")["policy"]
    assert (policy["rates"], policy["webhooks"]) == ({"after:reset": 0.125}, {"lost": 0.5})
    settings = sandbox.get("/settings")
    assert (settings["down"], settings["down_mode"], settings["list_delay"]) == (True, "drop", 3)
    assert (settings["webhooks"]["loss"], settings["webhooks"]["delay"]) == (0.25, 2)
    shown = sandbox.send("GET", "/_sandbox").body
    for text in ("is cut off", "after:reset", "with seed 4", "is <b>revoked</b>"):
        assert text in shown
    assert send("fault", fault="after:burn", target="confirm") == 400
    assert send("fault", fault="after:reset", target="moon") == 400
    assert send("policy", seed="4", **{"after:reset": "101"}) == 400
    assert send("settings", delay="-1") == 400
    assert send("outage", mode="refuse") == 400
    assert send("reset") == 303
    assert not sandbox.get("/settings")["down"]
    assert (sandbox.get("/faults"), sandbox.get("/policy")["policy"]) == ([], None)
