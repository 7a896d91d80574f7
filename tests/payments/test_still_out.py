"""Requests that may still be out: nothing is decided, and nothing sent, as if they were not."""

import pytest

from app.payments import resolving
from app.runtime import Runtime
from tests.desk.test_desk import decide, the_item
from tests.payments.story import Story
from tests.support.gates import OpenGates
from tests.support.psp import BookPsp
from tests.support.runtime import Clock


async def _state(story: Story, payment_id: str) -> str:
    return (await story.attempts(payment_id))[0][-1].state


@pytest.mark.parametrize("word", ["busy", "rejected", "not_sent"])
async def test_what_the_janitor_has_sent_stays_an_open_question(
    rt: Runtime, psp: BookPsp, word: str
) -> None:
    """F03: the answer to the first step lay for a minute; the second was sent meanwhile."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    psp.script.extend(["ok", "ok", "never", word])

    async def others() -> None:
        await story.forget_calls()
        (attempt,), _ = await story.attempts(made.id)
        await resolving.resolve(rt, attempt_id=attempt.id)

    psp.meanwhile = others
    await story.work()
    assert [name for name, _, _ in psp.requests].count("confirm") == 2
    assert await _state(story, made.id) == "unknown"
    assert await story.dead() == []
    assert (await story.cancel(made.id)).status == "processing"
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", charge.amount  # What was lost arrives.
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_what_was_noted_long_ago_is_not_sent(rt: Runtime, psp: BookPsp, clock: Clock) -> None:
    """F08: the process stood still between its note and the request."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")

    rt.made_gates = gates = OpenGates(rt)
    gates.before = lambda: clock.forward(minutes=2)
    await story.work()
    assert psp.requests == []
    assert await _state(story, made.id) == "created"
    gates.before = None
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_a_person_is_not_believed_while_the_request_may_still_arrive(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """The key is a day old, but what was sent under it first was turned away."""
    story, _, refund = await Story.with_refund(rt, psp, "not_sent")
    clock.forward(hours=25)
    psp.script.append("never")
    await story.hurry()
    await decide(rt, await the_item(rt), "did_not_happen")
    await story.work()
    assert (await story.get_refund(refund.id)).status == "pending"
    assert "may be under way" in ((await the_item(rt)).finding or "")
    clock.forward(minutes=6)
    await decide(rt, await the_item(rt), "did_not_happen")
    await story.work()
    assert (await story.get_refund(refund.id)).status == "failed"
    await story.end()


async def test_a_miss_from_before_the_last_request_proves_nothing(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F23."""
    story, paid, _ = await Story.with_refund(rt, psp, "busy")
    clock.forward(hours=23, minutes=30)
    attempt = (await story.attempts(paid.id))[0][-1]
    await resolving.look_back(rt, attempt_id=attempt.id)
    clock.forward(minutes=11)
    psp.script.append("never")
    for _ in range(2):
        await story.hurry()
    assert await _state(story, paid.id) == "unknown"
    for _ in range(2):
        clock.forward(minutes=11)
        await story.hurry()
    assert await _state(story, paid.id) == "needs_review"
    await story.end()


async def test_an_answer_that_comes_after_the_refusal_is_heard(rt: Runtime, psp: BookPsp) -> None:
    """F31: no event tells of it, and nobody would ask again."""
    story = await Story.begin(rt, psp)
    payment_id, attempt = await story.uncertain("never")
    psp.script.extend(["ok", "rejected"])

    async def others() -> None:
        for _ in range(2):
            await story.forget_calls()
            await resolving.resolve(rt, attempt_id=attempt.id)
        assert await _state(story, payment_id) == "rejected"

    psp.meanwhile = others
    await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    assert await _state(story, payment_id) == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_a_look_that_lay_for_long_is_no_proof(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F23: asked before the request could have arrived, and heard of when it must have."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never", "rejected"])
    made = await story.charge()

    async def the_next_one() -> None:
        psp.while_looking = sleep

    async def sleep() -> None:
        clock.forward(minutes=10)

    psp.while_looking = the_next_one
    for _ in range(2):  # The refusal of the replay, and the look at it.
        await story.hurry()
    assert [name for name, _, _ in psp.requests].count("lookup") == 2
    assert await _state(story, made.id) == "unknown"
    assert await story.dead() == []
    await story.hurry()
    assert await _state(story, made.id) == "rejected"
    assert len(await story.dead()) == 1
    await story.end()
