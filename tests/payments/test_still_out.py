"""Requests that may still be out: nothing is decided, and nothing sent, as if they were not."""

import pytest

from app.failpoints import Failpoints
from app.payments import resolving
from app.psp.breaker import IN_A_ROW
from app.psp.registry import SANDBOX
from app.runtime import Runtime
from tests.desk.test_desk import decide, the_item
from tests.payments.story import Story
from tests.support.gates import OpenGates
from tests.support.psp import BookPsp
from tests.support.runtime import Clock


class StandsStill(Failpoints):
    """A process that stands still between a note and its request, so many times."""

    def __init__(self, clock: Clock, *, times: int) -> None:
        super().__init__()
        self._clock = clock
        self._left = times

    def hit(self, place: str) -> None:
        if place == "psp.before_send" and self._left:
            self._left -= 1
            self._clock.forward(minutes=2)


async def _state(story: Story, payment_id: str) -> str:
    return (await story.attempts(payment_id))[0][-1].state


async def _late(story: Story, psp: BookPsp, *words: str) -> str:
    """Charge; while the answer to the first step lies, the janitor goes on, answered so."""
    made = await story.create(payment_method="pm_card_visa")
    psp.script.extend(["ok", *words])

    async def others() -> None:
        await story.forget_calls()
        (attempt,), _ = await story.attempts(made.id)
        await resolving.resolve(story.rt, attempt_id=attempt.id)

    psp.meanwhile = others
    await story.work()
    return made.id


def _confirms(psp: BookPsp) -> int:
    return [name for name, _, _ in psp.requests].count("confirm")


async def test_the_step_that_others_have_sent_is_theirs(rt: Runtime, psp: BookPsp) -> None:
    """F08: the answer to the first step lay for long; the second was sent meanwhile."""
    story = await Story.begin(rt, psp)
    payment_id = await _late(story, psp, "ok", "never", "busy")
    assert _confirms(psp) == 1
    assert await _state(story, payment_id) == "unknown"
    assert await story.dead() == []
    assert (await story.cancel(payment_id)).status == "processing"
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", charge.amount  # What was lost arrives.
    await story.resolved(payment_id)
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_what_the_psp_decides_later_is_not_sent_again(rt: Runtime, psp: BookPsp) -> None:
    """F08: a second confirm, answered “busy”, made it look as if nothing had been asked."""
    story = await Story.begin(rt, psp)
    payment_id = await _late(story, psp, "ok", "pending", "busy")
    assert _confirms(psp) == 1
    assert await _state(story, payment_id) == "sent"
    assert (await story.cancel(payment_id)).status == "processing"
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", charge.amount  # The PSP has decided.
    await story.resolved(payment_id)
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


@pytest.mark.parametrize("word", ["busy", "rejected", "not_sent"])
async def test_a_step_sent_beside_a_replay_of_the_one_before_stays_open(
    rt: Runtime, psp: BookPsp, word: str
) -> None:
    """F08: a replay of the first step has no answer when the first answer to it is heard."""
    story = await Story.begin(rt, psp)
    payment_id = await _late(story, psp, "never", word)
    assert _confirms(psp) == 1
    assert await _state(story, payment_id) == "unknown"
    assert await story.dead() == []
    assert (await story.cancel(payment_id)).status == "processing"
    await story.resolved(payment_id)
    await story.forget_calls()
    await story.hurry()
    assert (await story.get(payment_id)).status == "canceled"
    assert psp.total() == 0
    await story.end()


@pytest.mark.parametrize("word", ["declined", "ok"])
async def test_a_replay_that_stood_still_leaves_what_others_have_settled(
    rt: Runtime, psp: BookPsp, clock: Clock, word: str
) -> None:
    """F08: it left a moment for the next look on an attempt that had ended."""
    story = await Story.begin(rt, psp)
    payment_id, attempt = await story.uncertain("never")
    psp.script.append(word)
    rt.made_gates = gates = OpenGates(rt)

    async def others() -> None:
        clock.forward(minutes=2)
        await story.forget_calls()
        await resolving.resolve(rt, attempt_id=attempt.id)

    async def then_stand_still() -> None:
        gates.meanwhile = others

    psp.while_looking = then_stand_still
    await story.hurry()
    assert await _state(story, payment_id) == {"declined": "declined", "ok": "succeeded"}[word]
    ((settled,), calls) = await story.attempts(payment_id)
    assert settled.next_check_at is None
    assert "kept" in {call.outcome for call in calls}
    await story.end()


async def test_the_janitor_leaves_the_step_that_others_have_sent(rt: Runtime, psp: BookPsp) -> None:
    """F08: the answer to its own replay of the first step lay while another one went on."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    psp.script.extend(["never", "ok", "ok", "never", "busy"])
    await story.work()  # The first step had no answer.
    (attempt,), _ = await story.attempts(made.id)

    async def others() -> None:
        await story.forget_calls()
        await resolving.resolve(rt, attempt_id=attempt.id)

    psp.meanwhile = others
    await story.hurry()
    assert _confirms(psp) == 1
    assert await _state(story, made.id) == "unknown"
    psp.script.clear()
    await story.resolved(made.id)
    assert (await story.get(made.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_what_was_noted_long_ago_is_not_sent(rt: Runtime, psp: BookPsp, clock: Clock) -> None:
    """F08: the process stood still between its note and the request."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")

    rt.made_gates = gates = OpenGates(rt)
    gates.before = lambda: clock.forward(minutes=2)
    await story.work()
    assert psp.requests == []
    ((attempt,), (call,)) = await story.attempts(made.id)
    # It was never out, and to send it is no retry.
    assert (attempt.state, attempt.step, attempt.first_sent_at) == ("created", None, None)
    assert call.outcome == "kept"
    gates.before = None
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_what_is_too_old_takes_no_room_at_the_gate(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F08: nor the one probe that an open breaker lets out."""
    story = await Story.begin(rt, psp)
    rt.made_gates = gates = OpenGates(rt)
    entered: list[str] = []
    gates.before = lambda: entered.append("a call")
    made = await story.create(payment_method="pm_card_visa")
    timer = rt.timer

    def stands_still() -> float:
        rt.timer = timer
        clock.forward(minutes=2)
        return timer()

    rt.timer = stands_still
    await story.work()
    assert entered == []
    await story.hurry()
    assert len(entered) == 2
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_what_stood_still_says_nothing_about_the_psp(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F08: five of them in a row had shut that operation's gate for everybody."""
    story = await Story.begin(rt, psp, gates=True)
    made = [await story.create(payment_method="pm_card_visa") for _ in range(IN_A_ROW + 1)]
    rt.failpoints = StandsStill(clock, times=len(made))
    for _ in range(2):
        await story.hurry()
    calls = [call for one in made for call in (await story.attempts(one.id))[1]]
    assert [call.outcome for call in calls].count("kept") == len(made)
    assert {(await story.get(one.id)).status for one in made} == {"succeeded"}
    assert rt.gates.shut(SANDBOX, "charge") is None
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


async def test_a_look_that_lay_is_not_its_own_earlier_miss(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F23: two looks ten minutes apart are to find nothing, not one that took so long."""
    story, paid, _ = await Story.with_refund(rt, psp, "never")
    clock.forward(hours=24)

    async def sleep() -> None:
        clock.forward(minutes=11)

    psp.while_looking = sleep
    for _ in range(2):  # The second one is asked right after the first was answered.
        await story.hurry()
        assert await _state(story, paid.id) == "unknown"
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
