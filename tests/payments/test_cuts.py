"""Every call to a PSP, cut off at every await: the outcome ends known, and nobody pays twice."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import func, update

from app import jobs
from app.jobs import Claim, Job
from app.ledger import writer
from app.payments import processing
from app.payments.states import ATTEMPT_FINAL
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.cutting import cut
from tests.support.gates import OpenGates
from tests.support.psp import BookPsp
from tests.support.runtime import Clock

AMOUNT = 10_000
MOST = 400
_WAITING = update(Job).where(Job.state == "due", Job.queue.not_like("later:%"))


async def _charge(story: Story) -> str:
    return (await story.create(payment_method="pm_card_visa")).id


async def _page(story: Story) -> str:
    return (await story.create()).id


async def _held(story: Story) -> str:
    held = await story.create(payment_method="pm_card_visa", capture_method="manual")
    await story.work()
    return held.id


async def _capture(story: Story) -> str:
    payment_id = await _held(story)
    await story.capture(payment_id)
    return payment_id


async def _void(story: Story) -> str:
    payment_id = await _held(story)
    await story.cancel(payment_id)
    return payment_id


async def _refund(story: Story) -> str:
    paid = await story.charge()
    await story.refund(paid.id, 4_000)
    await writer.write_batches(story.rt, ledger_ids=["test:0"], owner="test")
    return paid.id


CASES: dict[str, tuple[Callable[[Story], Awaitable[str]], str, str, int]] = {
    "payments.charge": (_charge, "charge", "succeeded", AMOUNT),
    "payments.open_checkout": (_page, "open_checkout", "expired", 0),
    "payments.capture": (_capture, "capture", "succeeded", AMOUNT),
    "payments.void": (_void, "void", "canceled", 0),
    "payments.send_refund": (_refund, "send_refund", "succeeded", AMOUNT - 4_000),
}


async def _claimed(rt: Runtime, kind: str) -> Claim:
    async with rt.sessions.begin() as session:
        claims = await jobs.claim(session, queue="psp", limit=8, owner="cut", lease=60)
    (job,) = [one for one in claims if one.kind == kind]
    return job


@pytest.mark.parametrize("kind", CASES)
async def test_a_call_that_is_cut_at_any_await_ends_known_and_once(
    rt: Runtime, psp: BookPsp, clock: Clock, kind: str
) -> None:
    """F03 to F07."""
    begin, name, status, moved = CASES[kind]
    story = await Story.begin(rt, psp, gates=True)  # Their awaits are cut, too.
    psp.pages_end = True  # As time is made to pass, pages end, by the PSP's word.
    work = getattr(processing, name)
    payments: list[str] = []
    # Every await of the charge; of the others, which run the same lines, every third.
    for n in range(1, MOST, 1 if kind == "payments.charge" else 3):
        payments.append(await begin(story))
        job = await _claimed(rt, kind)
        came_that_far = await cut(work(rt, job), n)
        if not came_that_far:
            break
        async with rt.sessions.begin() as session:
            await jobs.hand_back(session, jobs=[job])
            # The next case must not pick this one up: it waits for the end.
            await session.execute(_WAITING.values(queue="later:" + Job.queue))
    else:
        raise AssertionError("it never came to an end")
    assert len(payments) > 5  # A quick database is waited for less often.
    async with rt.sessions.begin() as session:
        waiting = update(Job).where(Job.queue.like("later:%"))
        await session.execute(waiting.values(queue=func.substr(Job.queue, len("later:") + 1)))
    await _calm(story, clock, 4)
    for payment_id in payments:
        assert (await story.get(payment_id)).status == status
        tried, _ = await story.attempts(payment_id)
        assert {row.state for row in tried} <= ATTEMPT_FINAL
    assert psp.total() == moved * len(payments)
    assert len(psp.charges) == len(payments)
    assert await story.dead() == []
    await _nothing_sent_twice(psp)
    await story.end()


async def _calm(story: Story, clock: Clock, minutes: int) -> None:
    """Let minutes pass in which nobody is cut off and the PSP is found well again.

    Cuts are so quick after each other that a call may still count as being under way, and that
    the PSP's gates let no more replays out for a while.
    """
    story.rt.made_gates = OpenGates(story.rt)
    for _ in range(minutes):
        clock.forward(minutes=1)
        await story.hurry()


async def _nothing_sent_twice(psp: BookPsp) -> None:
    """I9: for each attempt and step one key, and the same parameters each time."""
    sent: dict[str, set[str]] = {}
    for _, key, request in psp.requests:
        if key is not None:
            sent.setdefault(key, set()).add(repr(request))
    assert all(len(parameters) == 1 for parameters in sent.values())


async def test_a_look_up_that_is_cut_at_any_await_ends_known_and_once(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F07: the janitor is stopped as well, in the middle of its look and of its replay."""
    from app.payments import resolving

    story = await Story.begin(rt, psp)
    payments: list[str] = []
    for n in range(1, MOST, 2):
        psp.script.extend(["ok", "never"])
        made = await story.charge()
        payments.append(made.id)
        (attempt,), _ = await story.attempts(made.id)
        if not await cut(resolving.resolve(rt, attempt_id=attempt.id), n):
            break
    await _calm(story, clock, 3)
    for payment_id in payments:
        assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == AMOUNT * len(payments)
    await _nothing_sent_twice(psp)
    await story.end()
