"""Two jobs, events and look-ups at the same payment at the same time: one effect, one story."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app import jobs
from app.errors import Conflict
from app.janitor.processing import hurry
from app.jobs import Job
from app.ledger.models import PostingRow
from app.payments import resolving
from app.payments.settling import settle_due
from app.runtime import Runtime
from tests.payments.story import Story, receive
from tests.support.psp import BookPsp
from tests.support.runtime import Clock
from workers.jobs import JOBS, queues
from workers.runner import Runner


async def _drain_by_three(story: Story) -> None:
    """Run what is due by three workers at once."""
    rt = story.rt
    workers = [
        Runner(rt, kinds=JOBS, queues=queues(f"worker {n}"), owner=f"worker {n}", lease=15)
        for n in range(3)
    ]
    for _ in range(4):
        async with rt.sessions.begin() as session:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await session.execute(update(Job).where(Job.state == "due").values(run_at=past))
        await asyncio.gather(*(worker.drain() for worker in workers))
    await story.work()


async def _captures(rt: Runtime) -> int:
    async with rt.sessions.read() as session:
        query = select(func.count()).where(PostingRow.kind == "capture")
        return int((await session.execute(query)).scalar_one())


async def test_events_look_ups_and_jobs_about_one_charge_record_it_once(
    rt: Runtime, psp: BookPsp
) -> None:
    """F26, F39."""
    story = await Story.begin(rt, psp)
    payment_id, attempt = await story.uncertain("lost")
    for n in range(3):
        await receive(rt, f"evt_{n}", attempt_id=attempt.id, installation=rt.installation)
    await asyncio.gather(
        *(resolving.resolve(rt, attempt_id=attempt.id) for _ in range(4)), _drain_by_three(story)
    )
    assert await _captures(rt) == 1
    assert await story.told(payment_id) == [
        ("payment.created", None),
        ("payment.succeeded", "processing"),
    ]
    assert psp.total() == 10_000
    await story.end()


async def test_look_ups_at_once_that_find_nothing_send_the_same_again(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never"])
    made = await story.charge()
    (attempt,), _ = await story.attempts(made.id)
    await asyncio.gather(*(resolving.resolve(rt, attempt_id=attempt.id) for _ in range(4)))
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert len({key for step, key, _ in psp.requests if step == "confirm"}) == 1
    assert await _captures(rt) == 1
    assert psp.total() == 10_000
    await story.end()


async def test_a_job_that_two_workers_believe_to_hold_has_one_effect(
    rt: Runtime, psp: BookPsp
) -> None:
    """F08, F39: the first is a zombie whose lease ran out in the middle of its call."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")

    async def taken_over() -> None:
        async with rt.sessions.begin() as session:
            await session.execute(
                update(Job)
                .where(Job.kind == "payments.charge")
                .values(owner="another", fence=Job.fence + 1)
            )

    psp.meanwhile = taken_over
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    assert attempt.state == "sent"
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).where(Job.state == "due").values(owner=None))
    for _ in range(3):
        await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


@pytest.mark.parametrize("first", ["capture", "cancel"])
async def test_a_capture_and_a_cancel_at_once_end_in_one_of_the_two(
    rt: Runtime, psp: BookPsp, first: str
) -> None:
    """F54."""
    story = await Story.begin(rt, psp)
    held = [await story.charge(capture_method="manual") for _ in range(3)]
    second = {"capture": "cancel", "cancel": "capture"}[first]
    asked: list[Any] = []
    for payment in held:
        asked += [getattr(story, first)(payment.id), getattr(story, second)(payment.id)]
    answers = await asyncio.gather(*asked, _drain_by_three(story), return_exceptions=True)
    assert all(not isinstance(a, BaseException) or isinstance(a, Conflict) for a in answers)
    await _drain_by_three(story)
    taken = 0
    for payment in held:
        ended = await story.get(payment.id)
        assert ended.status in {"succeeded", "canceled"}
        taken += ended.amount_captured
        told = [kind for kind, _ in await story.told(payment.id)]
        assert told.count("payment.succeeded") + told.count("payment.canceled") == 1
    assert psp.total() == taken
    assert {charge.status for charge in psp.charges.values()} <= {"succeeded", "canceled"}
    await story.end()


async def test_a_customer_who_pays_while_the_shop_cancels_is_charged_or_not_and_told_so(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    made = [await story.create() for _ in range(4)]
    await story.work()

    async def customer(payment_id: str) -> None:
        (attempt,), _ = await story.attempts(payment_id)
        charge = next(c for c in psp.charges.values() if c.attempt_id == attempt.id)
        if charge.status == "open":
            psp.pay(attempt.id)
        async with rt.sessions.begin() as session:
            await hurry(session, ids=rt.ids, rt=rt, payment_id=payment_id)

    await asyncio.gather(
        *(story.cancel(payment.id) for payment in made[::2]),
        *(customer(payment.id) for payment in made),
        *(story.cancel(payment.id) for payment in made[1::2]),
        _drain_by_three(story),
        return_exceptions=True,
    )
    await _drain_by_three(story)
    ends = [(await story.get(payment.id)).status for payment in made]
    assert set(ends) <= {"succeeded", "canceled"}
    assert psp.total() == 10_000 * ends.count("succeeded")
    assert await story.dead() == []
    await story.end()


async def test_refunds_race_the_day_when_the_payment_settles(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp, settle_delay_seconds=0)
    paid = [await story.charge() for _ in range(3)]
    await asyncio.gather(
        *(story.refund(payment.id, 3_000) for payment in paid),
        settle_due(rt),
        *(story.refund(payment.id, 3_000) for payment in paid),
        settle_due(rt),
    )
    await _drain_by_three(story)
    while await settle_due(rt):
        pass
    await story.work()
    assert psp.total() == 3 * 4_000
    for payment in paid:
        assert (await story.row(payment.id)).amount_pending == 0
    await story.end()


async def test_a_second_hold_does_not_take_the_place_of_the_first(
    rt: Runtime, psp: BookPsp
) -> None:
    """I4: seed 338. A request that had been refused arrived after all, when a retry held money."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    made = await story.charge(capture_method="manual")
    (late,) = psp.charges.values()
    (letter,) = await story.dead()
    async with rt.sessions.begin() as session:
        await jobs.revive(session, job_id=letter.id, now=rt.clock(), why="cured")
    await story.work()
    assert (await story.get(made.id)).status == "requires_capture"
    late.status = "requires_capture"
    (first, second), _ = await story.attempts(made.id)
    kind = "payment_intent.amount_capturable_updated"
    await receive(rt, "evt_late", type=kind, psp_reference=late.id, attempt_id=first.id)
    await story.work()
    row = await story.row(made.id)
    assert (row.status, row.psp_reference) == ("requires_capture", second.psp_reference)
    await story.capture(made.id)
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert (late.captured, psp.total()) == (0, 10_000)
    assert ["a second time" in (one.reason or "") for one in await story.dead()] == [True]
    await story.end()


async def test_what_waits_is_sent_though_the_host_that_failed_before_was_ahead(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F60, F03, seed 5490: the refused attempt counted as the newest, and no other could be made.

    Its worker was killed before it had written the letter, so the next one tried again.
    """
    story = await Story.begin(rt, psp)
    psp.script.append("rejected")
    made = await story.charge()
    (letter,) = await story.dead()
    clock.forward(seconds=-2)  # The next host's clock is behind.
    psp.script.extend(["ok", "busy"])
    await story.unbury(letter)
    await story.work()
    refused, waits = (await story.attempts(made.id))[0]
    assert (refused.state, waits.state) == ("rejected", "created")
    await story.hurry()
    assert await story.dead() == []
    assert (await story.get(made.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()
