"""The seeded policy: the same seed and the same requests meet the same faults."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.support.sandbox import SandboxHandle
from tests.web.sandbox_psp.conftest import UNREADABLE, Receiver, open_client, wait_until
from web.sandbox_psp.faults import ALL_FAULTS
from web.sandbox_psp.policy import Policy, Running

RATES = {"before:status": 0.2, "after:drop_response": 0.2, "after:reset": 0.2, "before:html": 0.1}
CHARGE: Any = {
    "amount": 700,
    "currency": "eur",
    "payment_method": "pm_card_visa",
    "confirm": True,
}


async def story(sandbox: SandboxHandle, name: str) -> list[str | None]:
    """Make 20 charges, each until it is answered; return the faults that struck, in order."""
    async with open_client(sandbox) as client:
        for number in range(20):
            options: Any = {"idempotency_key": f"{name}-{number}"}
            for _ in range(30):
                with contextlib.suppress(*UNREADABLE):
                    await client.v1.payment_intents.create_async(CHARGE, options)
                    break
    log = sandbox.requests(limit="100000")
    return [entry["fault"] for entry in log if str(entry["key"]).startswith(f"{name}-")]


async def test_the_same_seed_and_requests_meet_the_same_faults(sandbox: SandboxHandle) -> None:
    sandbox.policy(7, rates=RATES, seconds=0.01)
    first = await story(sandbox, "first")
    sandbox.policy(7, rates=RATES, seconds=0.01)
    again = await story(sandbox, "again")
    sandbox.policy(8, rates=RATES, seconds=0.01)
    other = await story(sandbox, "other")
    assert first == again != other
    assert {name for name in first if name} == set(RATES)


async def test_whatever_the_policy_does_each_key_charges_once(sandbox: SandboxHandle) -> None:
    before = len(sandbox.book()["charges"])
    rates = {
        name: 0.03
        for name in ALL_FAULTS
        if not name.endswith(("wrong_amount", "webhook", "key_mismatch"))
    }
    sandbox.policy(3, rates=rates, seconds=0.02, method="POST")
    await story(sandbox, "swarm")
    struck = sandbox.get("/policy")["struck"]
    assert len(sandbox.book()["charges"]) == before + 20
    assert sum(struck.values()) > 3


def test_draws_depend_on_the_route_and_its_count_alone() -> None:
    policy = Policy(seed=1, rates=RATES)
    one, other = Running(policy), Running(policy)
    for number in range(50):
        other.fault("GET", f"/v1/payment_intents/pi_{number}")
    ids = [f"/v1/payment_intents/pi_{number}/confirm" for number in range(50)]
    drawn = [one.fault("POST", path) for path in ids]
    assert drawn == [other.fault("POST", path.replace("pi_", "pi_x")) for path in ids]
    assert len({fault.bytes for fault in drawn if fault and fault.kind == "reset"}) > 3


def test_a_policy_ends_after_its_most_and_keeps_to_its_path() -> None:
    running = Running(Policy(seed=1, rates={"before:status": 1.0}, path="/refunds", most=2))
    assert running.fault("POST", "/v1/payment_intents") is None
    assert [bool(running.fault("POST", "/v1/refunds")) for _ in range(4)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("word", "count"), [("lost", 0), ("doubled", 4), ("late", 2), ("reordered", 2), ("first", 2)]
)
async def test_webhooks_by_policy(
    client: stripe.StripeClient,
    sandbox: SandboxHandle,
    receiver: Receiver,
    word: str,
    count: int,
) -> None:
    sandbox.settings(late_seconds=0.3, reorder_seconds=0.3)
    sandbox.policy(1, webhooks={word: 1.0})
    intent = await client.v1.payment_intents.create_async(CHARGE)
    if word == "first":
        assert len(receiver.types(intent.id)) == 2
    if word == "late":
        assert receiver.types(intent.id) == []
    sandbox.post("/policy", None)
    marker = await client.v1.payment_intents.create_async(CHARGE)
    wait_until(
        lambda: len(receiver.types(marker.id)) == 2 and len(receiver.types(intent.id)) >= count
    )
    assert len(receiver.types(intent.id)) == count
    if word == "reordered":
        assert receiver.types(intent.id) == ["payment_intent.succeeded", "charge.succeeded"]


@pytest.mark.parametrize(
    ("kind", "count"), [("late_webhook", 2), ("first_webhook", 2), ("reordered_webhook", 2)]
)
async def test_webhooks_by_script(
    client: stripe.StripeClient,
    sandbox: SandboxHandle,
    receiver: Receiver,
    kind: str,
    count: int,
) -> None:
    sandbox.settings(late_seconds=0.3, reorder_seconds=0.3)
    sandbox.fault("after", kind, path="/payment_intents")
    intent = await client.v1.payment_intents.create_async(CHARGE)
    assert len(receiver.types(intent.id)) == (2 if kind == "first_webhook" else 0)
    wait_until(lambda: len(receiver.types(intent.id)) == count)
    if kind == "reordered_webhook":
        assert receiver.types(intent.id) == ["payment_intent.succeeded", "charge.succeeded"]


async def test_a_token_reorders_events(
    client: stripe.StripeClient, sandbox: SandboxHandle, receiver: Receiver
) -> None:
    """F27: what happened first arrives last."""
    fields: Any = {**CHARGE, "payment_method": "pm_fault_webhook_reordered"}
    intent = await client.v1.payment_intents.create_async(fields)
    wait_until(lambda: len(receiver.types(intent.id)) == 2)
    assert receiver.types(intent.id) == ["payment_intent.succeeded", "charge.succeeded"]


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"seed": "x"},
        {"seed": 1, "rates": {"after:burn": 0.1}},
        {"seed": 1, "rates": {"after:reset": 1.1}},
        {"seed": 1, "rates": {"after:reset": 0.6, "before:status": 0.6}},
        {"seed": 1, "webhooks": {"eaten": 0.5}},
        {"seed": 1, "colour": "red"},
    ],
)
def test_a_wrong_policy_is_refused_and_changes_nothing(
    sandbox: SandboxHandle, wish: dict[str, Any]
) -> None:
    with pytest.raises(RuntimeError, match="400"):
        sandbox.post("/policy", wish)
    assert sandbox.get("/policy") == {"policy": None, "struck": {}}


def test_a_policy_and_scripts_survive_nothing(own_sandbox: Callable[..., SandboxHandle]) -> None:
    first = own_sandbox()
    first.policy(1, rates={"before:status": 1.0})
    first.fault("before", "status")
    first.stop(kill=True)
    second = own_sandbox()
    assert second.get("/policy")["policy"] is None
    assert second.get("/faults") == []
