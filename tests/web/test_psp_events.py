"""Events from PSPs: verified, stored once, refused clearly; never a 5xx for what they send."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
import structlog
from sqlalchemy import func, select

from app.inbox.models import ReceivedEvent
from app.jobs import Job
from app.psp.port import EventRefused, PspEvent
from app.runtime import Runtime
from tests.support.psp import BookPsp

PATH = "/psp/conn_sandbox/events"


@pytest.fixture(autouse=True)
def verifying(psp: BookPsp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the PSP in memory sign with a word."""

    def verify(body: bytes, headers: Mapping[str, str], now: datetime) -> PspEvent:
        if headers.get("stripe-signature") != "good":
            raise EventRefused("wrong signature")
        return PspEvent(id=body.decode(), type="x", created_at=now, livemode=False, about="other")

    monkeypatch.setattr(psp, "verify_event", verify)


async def stored(rt: Runtime) -> tuple[int, int]:
    async with rt.sessions.read() as session:
        events = await session.scalar(select(func.count()).select_from(ReceivedEvent))
        work = await session.scalar(
            select(func.count()).select_from(Job).where(Job.kind == "inbox.apply")
        )
    return int(events or 0), int(work or 0)


async def test_a_true_event_is_stored_once_with_its_job(client: Any, rt: Runtime) -> None:
    headers = {"Stripe-Signature": "good"}
    for _ in range(3):
        answer = await client.post(PATH, content=b"evt_1", headers=headers)
        assert answer.status_code == 200
    assert await stored(rt) == (1, 1)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 10_000, b"null", b"evt_1"])
async def test_anything_else_is_refused_and_leaves_nothing(
    client: Any, rt: Runtime, body: bytes
) -> None:
    for headers in ({}, {"Stripe-Signature": "bad"}, {"Stripe-Signature": b"\xe9\xff"}):
        answer = await client.post(PATH, content=body, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["code"] == "event_not_verified"
    assert await stored(rt) == (0, 0)


async def test_two_signature_headers_are_refused_even_if_one_is_true(
    client: Any, rt: Runtime
) -> None:
    """F30."""
    for pair in (("good", "bad"), ("bad", "good"), ("good", "good")):
        headers = [("Stripe-Signature", value) for value in pair]
        answer = await client.post(PATH, content=b"evt_1", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "event_not_verified")
    assert await stored(rt) == (0, 0)


async def test_an_unknown_connection_does_not_exist(client: Any) -> None:
    for name in ("conn_x", "conn_stripe_live", "..%2f", "%00"):
        answer = await client.post(f"/psp/{name}/events", content=b"x")
        assert answer.status_code == 404


async def test_a_large_event_is_refused_and_alarms(client: Any, rt: Runtime) -> None:
    async def parts() -> Any:
        for _ in range(5):
            yield b"x" * 65_536

    with structlog.testing.capture_logs() as lines:
        for content in (b"x" * 262_145, parts()):
            answer = await client.post(PATH, content=content, headers={"Stripe-Signature": "good"})
            assert answer.status_code == 413
    alarms = [line for line in lines if line["log_level"] == "error"]
    assert len(alarms) == 2
    assert {line["connection_id"] for line in alarms} == {"conn_sandbox"}
    answer = await client.post(PATH, content=b"y" * 255, headers={"Stripe-Signature": "good"})
    assert answer.status_code == 200
    assert await stored(rt) == (1, 1)


async def test_it_takes_only_posts(client: Any) -> None:
    answer = await client.get(PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
