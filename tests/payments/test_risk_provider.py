"""The risk provider: asked by the worker, once, and never trusted further than its answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, update

from app import jobs
from app.jobs import Job
from app.payments import checking, processing
from app.risk import queries
from app.risk.rules import Limits
from app.runtime import Runtime
from tests.payments.risks import HOLD, block, check, set_terms, state
from tests.payments.story import Story
from tests.payments.test_cuts import _WAITING, _claimed
from tests.support.cutting import cut
from tests.support.psp import BookPsp
from tests.support.receiver import Receiver, Reply, receiving


@pytest.fixture(autouse=True)
def pages_end(psp: BookPsp) -> None:
    """Let pages tell when they end, so that each open one has somebody who will end it."""
    psp.pages_end = True


@pytest.fixture
async def provider(rt: Runtime) -> AsyncIterator[Receiver]:
    """Return a risk provider that allows everything until a test has it say something else."""
    async with receiving(says("allow")) as receiver:
        rt.settings = msgspec.structs.replace(
            rt.settings,
            risk_url=receiver.url,
            risk_token="token-of-the-provider",
            deadlines=msgspec.structs.replace(rt.settings.deadlines, risk=0.5),
        )
        yield receiver


def says(decision: str, *reasons: str, **more: Any) -> Reply:
    return Reply(body=json.dumps({"decision": decision, "reasons": reasons, **more}).encode())


async def test_the_provider_is_asked_by_the_worker_with_hashes_only(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(
        payment_method="pm_card_visa",
        email="who@shop.example",
        name="Wilma Who",
        reference="ORDER-77",
        country="DE",
    )
    assert provider.requests == []
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    (asked,) = provider.requests
    assert asked.headers["authorization"] == "Bearer token-of-the-provider"
    said = json.loads(asked.body)
    assert (said["payment_id"], said["amount"], said["currency"]) == (made.id, 10_000, "eur")
    assert (said["country"], said["hosted"], said["version"]) == ("DE", False, 1)
    assert len(said["email_hash"]) == 64
    for secret in (b"who@", b"Wilma", b"ORDER-77", b"pm_card_visa"):
        assert secret not in asked.body
    row = await check(story, made.id)
    assert (row.provider, row.decision, row.fallback) == ("http", "allow", False)
    await story.end()


@pytest.mark.parametrize("hosted", [True, False])
@pytest.mark.parametrize("decision", ["allow", "hold", "refuse"])
async def test_what_the_provider_says_is_done(
    rt: Runtime, psp: BookPsp, provider: Receiver, decision: str, hosted: bool
) -> None:
    story = await Story.begin(rt, psp)
    provider.reply = says(decision, "Seen with stolen cards.", score=71)
    made = await story.create(payment_method=None if hosted else "pm_card_visa")
    await story.work()
    now = await state(story, made.id)
    wanted: dict[str, tuple[str, str | None]]
    if hosted:
        wanted = {"allow": ("requires_action", None), "hold": ("requires_action", None)}
    else:
        wanted = {"allow": ("succeeded", None), "hold": ("processing", "held_for_review")}
    assert now == wanted.get(decision, ("failed", None))
    row = await check(story, made.id)
    assert (row.decision, row.score) == (decision, 71.0)
    assert row.reasons == [{"code": "provider", "text": "Seen with stolen cards."}]
    if hosted and decision != "refuse":
        (_, _, request), *_ = psp.requests
        assert request.capture_method == ("manual" if decision == "hold" else "automatic")
    await story.end()


async def test_the_stricter_of_provider_and_shop_holds(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    held = await story.charge()
    assert held.status_reason == "held_for_review"
    provider.reply = says("refuse")
    assert (await story.charge()).status == "failed"
    asked = len(provider.requests)
    await block(story, "method", "pm_card_visa")
    assert (await story.charge()).status == "failed"
    assert len(provider.requests) == asked
    await story.end()


ODD = {
    "a server error": Reply(status=503),
    "another success": Reply(status=201, body=b'{"decision":"allow"}'),
    "a redirect": Reply(status=302, headers={"location": "http://localhost:1/"}),
    "a page": Reply(body=b"<html>allow</html>"),
    "nothing": Reply(body=b""),
    "an unknown word": Reply(body=b'{"decision":"perhaps"}'),
    "a word too many": Reply(body=b'{"decision":"allow","extra":1}'),
    "two minds": Reply(body=b'{"decision":"allow","decision":"refuse"}'),
    "no decision": Reply(body=b'{"score":1}'),
    "no object": Reply(body=b'["allow"]'),
    "a flag as score": Reply(body=b'{"decision":"allow","score":true}'),
    "no number": Reply(body=b'{"decision":"allow","score":NaN}'),
    "a huge score": Reply(body=b'{"decision":"allow","score":1e999}'),
    "a huge integer": Reply(body=b'{"decision":"allow","score":' + b"9" * 400 + b"}"),
    "control characters": Reply(body=b'{"decision":"allow","reasons":["a\\u0000b"]}'),
    "half a character": Reply(body=b'{"decision":"allow","reasons":["\\ud800"]}'),
    "not UTF-8": Reply(body=b'{"decision":"allow","reasons":["\xff"]}'),
    "a deep answer": Reply(body=b"[" * 30_000),
    "a long answer": Reply(body=b'{"decision":"allow"}' + b" " * 70_000),
    "packed": Reply(body=b'{"decision":"allow"}', headers={"content-encoding": "gzip"}),
    "too slow": Reply(body=b'{"decision":"allow"}', wait=5.0),
    "no HTTP": Reply(raw=b"\x00\x01\x02\r\n\r\n"),
    "a reset": Reply(raw=b"HTTP/1.1 200 X\r\ncontent-length: 999\r\n\r\n{"),
}


@pytest.mark.parametrize("odd", ODD)
async def test_anything_odd_counts_as_down_and_the_fallback_rule_decides(
    rt: Runtime, psp: BookPsp, provider: Receiver, odd: str
) -> None:
    """F14, F18 for the risk provider: small amounts pass, larger ones wait for a person."""
    story = await Story.begin(rt, psp)
    provider.reply = ODD[odd]
    small = await story.charge(10_000)
    large = await story.charge(10_001)
    assert small.status == "succeeded"
    assert (large.status, large.status_reason) == ("processing", "held_for_review")
    for payment_id in (small.id, large.id):
        row = await check(story, payment_id)
        assert (row.fallback, row.fallback_rule) == (True, "small_amounts_pass")
        assert row.failure
        assert row.reasons[-1]["code"] == "provider_down"
    async with rt.sessions.read() as session:
        found = await queries.provider_state(session, now=rt.clock())
    assert (found.fallbacks, found.fallbacks_day, found.waiting) == (2, 2, 1)
    assert found.failing
    await story.end()


async def test_nobody_listening_is_a_fallback_with_the_shops_own_limit(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, limits={"eur": Limits(pass_up_to=500)})
    await provider.stop()
    assert (await story.charge(500)).status == "succeeded"
    held = await story.create(501)
    await story.work()
    assert await state(story, held.id) == ("requires_action", None)
    assert (await check(story, held.id)).review == "later"
    ((_, _, request),) = [one for one in psp.requests if one[2].payment_id == held.id]
    assert request.capture_method == "manual"
    await story.end()


async def test_a_retry_of_the_job_asks_nobody_again(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.append("not_sent")
    made = await story.create(payment_method="pm_card_visa")
    await story.work()
    assert (await story.get(made.id)).status_reason == "psp_unavailable"
    provider.reply = says("refuse")
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert len(provider.requests) == 1
    await story.end()


async def test_a_crash_between_asking_and_writing_asks_again(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    """F03: the answer was nobody's yet, so the next worker asks for it again."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    job = await _claimed(rt, "payments.charge")
    opinion = await checking.ask(rt, job, "charge")
    assert opinion is not None
    async with rt.sessions.begin() as session:
        await jobs.hand_back(session, jobs=[job])
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    assert len(provider.requests) == 2
    await story.end()


async def test_a_question_that_is_cut_at_any_await_is_asked_again_and_decided_once(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    """F07: nothing is written before the answer, so a shutdown in between costs a question."""
    story = await Story.begin(rt, psp)
    made: list[str] = []
    for n in range(1, 200):
        made.append((await story.create(payment_method="pm_card_visa")).id)
        job = await _claimed(rt, "payments.charge")
        was_cut = await cut(checking.ask(rt, job, "charge"), n)
        async with rt.sessions.begin() as session:
            await jobs.hand_back(session, jobs=[job])
            await session.execute(_WAITING.values(queue="later:" + Job.queue))
        if not was_cut:
            break
    else:
        pytest.fail("the question never came to its end")
    assert len(made) > 5
    async with rt.sessions.begin() as session:
        waits = update(Job).where(Job.queue.like("later:%"))
        await session.execute(waits.values(queue=func.substr(Job.queue, len("later:") + 1)))
    await story.work()
    for payment_id in made:
        assert (await story.get(payment_id)).status == "succeeded"
        assert (await check(story, payment_id)).decision == "allow"
    assert psp.total() == 10_000 * len(made)
    await story.end()


async def test_a_cancel_while_the_provider_is_asked_wins(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    job = await _claimed(rt, "payments.charge")
    opinion = await checking.ask(rt, job, "charge")
    assert opinion is not None
    await story.cancel(made.id)
    await processing.charge(rt, job)
    assert (await story.get(made.id)).status == "canceled"
    assert psp.requests == []
    await story.end()


async def test_no_transaction_is_open_while_the_provider_is_asked(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    story = await Story.begin(rt, psp)
    longer = msgspec.structs.replace(rt.settings.deadlines, risk=60.0)
    rt.settings = msgspec.structs.replace(rt.settings, deadlines=longer)
    provider.reply = Reply(body=b'{"decision":"allow"}', wait=60.0)
    await story.create(payment_method="pm_card_visa")
    work = asyncio.create_task(story.work())
    await provider.wait_for(1)
    # Another writer is not held up, and the pool has all of its connections.
    await asyncio.wait_for(set_terms(story, merchant_per_hour=9), 30.0)
    assert rt.sessions.engine.pool.checkedout() == 0  # type: ignore[attr-defined] # A queue's.
    assert not work.done()
    await provider.stop()
    await work
    await story.end()


async def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while(
    rt: Runtime, psp: BookPsp, provider: Receiver
) -> None:
    """Whoever comes next does not wait for its deadline in vain, and it is asked again later."""
    now = 1000.0
    rt.timer = lambda: now
    story = await Story.begin(rt, psp)
    provider.reply = Reply(status=503)
    failures = []
    for number in range(8):
        made = await story.create(payment_method="pm_card_visa", reference=f"order {number}")
        await story.work()
        row = await check(story, made.id)
        assert row.fallback
        failures.append(row.failure or "")
    assert len(provider.requests) == 5
    assert ["left alone" in failure for failure in failures] == [False] * 5 + [True] * 3
    now += 6.0
    provider.reply = says("allow")
    made = await story.create(payment_method="pm_card_visa", reference="later")
    await story.work()
    assert not (await check(story, made.id)).fallback
    assert len(provider.requests) == 6
    await story.end()
