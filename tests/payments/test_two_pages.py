"""Pages and holds that turn up beside others, and what ends them."""

from typing import Literal

import pytest

from app.payments import resolving
from app.payments.models import Attempt
from app.runtime import Runtime
from tests.payments.story import Story, receive
from tests.support.psp import BookPsp, Charge


async def _first_is_paid(story: Story, first: Attempt) -> Charge:
    """Have the first request for a page arrive after all, its customer pay, and the PSP tell."""
    step, key, request = story.psp.requests[0]
    await story.psp.send(step, request, key=f"{key}", reference=None)
    charge = story.psp.pay(first.id)
    await receive(story.rt, "evt_paid", psp_reference=charge.id, attempt_id=first.id)
    await story.work()
    return charge


async def test_the_end_of_a_page_leaves_what_was_paid_on_it_alone(
    rt: Runtime, psp: BookPsp
) -> None:
    """I6: a capture was refused, and a person has it tried again."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    made = await story.create(capture_method="manual")
    await story.work()
    (page,), _ = await story.attempts(made.id)
    charge = psp.pay(page.id)
    await story.resolved(made.id)
    psp.script.append("rejected")
    await story.capture(made.id)
    await story.work()
    await story.hurry()  # The time of the page is over.
    assert charge.status == "requires_capture"
    await story.retry_letters()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_a_page_whose_replay_is_refused_is_made_anew_after_a_persons_retry(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: a refusal ends an attempt, never the payment."""
    story, payment_id, _ = await Story.with_refused_page(rt, psp)
    psp.script.extend(["never", "rejected"])
    await story.retry_letters()
    for _ in range(2):
        await story.hurry()
        await story.forget_calls()
    assert (await story.get(payment_id)).status == "requires_action"
    states = [row.state for row in (await story.attempts(payment_id))[0]]
    assert states == ["rejected", "rejected", "open"]
    await story.end()


async def test_a_page_that_arrives_after_its_replay_was_refused_is_the_one(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: no second page is made while the first request may still arrive."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    psp.script.extend(["never", "rejected"])
    made = await story.create()
    await story.work()
    ((step, key, request),) = psp.requests
    await story.hurry()
    await psp.send(step, request, key=f"{key}", reference=None)
    await story.hurry()
    (page,), _ = await story.attempts(made.id)
    assert (page.state, page.code) == ("open", None)
    assert (await story.get(made.id)).status == "requires_action"
    await story.end()


@pytest.mark.parametrize("ending", ["canceled", "failed"])
async def test_a_hold_that_comes_after_the_end_is_let_go_of(
    rt: Runtime, psp: BookPsp, ending: str
) -> None:
    """F23: also when another one was let go of before, or the newest attempt never held any."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    made = await story.charge(capture_method="manual")
    (late,) = psp.charges.values()
    if ending == "failed":
        psp.script.extend(["ok", "declined"])
    await story.retry_letters()
    if ending == "canceled":
        await story.cancel(made.id)
        await story.work()
    assert (await story.get(made.id)).status == ending
    first = (await story.attempts(made.id))[0][0]
    late.status = "requires_capture"
    kind = "payment_intent.amount_capturable_updated"
    await receive(rt, "evt_late", type=kind, psp_reference=late.id, attempt_id=first.id)
    for _ in range(2):
        await story.hurry()
    assert late.status == "canceled"
    assert await story.dead() == []
    await story.end()


async def test_a_refused_void_of_a_late_hold_is_told(rt: Runtime, psp: BookPsp) -> None:
    """F23: the worker that heard the no was killed before it wrote the letter."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never"])
    made = await story.charge(capture_method="manual")
    (charge,) = psp.charges.values()
    await story.cancel(made.id)
    await story.forget_calls()
    await story.hurry()
    assert (await story.get(made.id)).status == "canceled"
    first = (await story.attempts(made.id))[0][0]
    charge.status = "requires_capture"
    psp.script.append("rejected")
    kind = "payment_intent.amount_capturable_updated"
    await receive(rt, "evt_late", type=kind, psp_reference=charge.id, attempt_id=first.id)
    await story.work()
    (letter,) = await story.dead()
    await story.unbury(letter)
    await story.work()
    assert [one.id for one in await story.dead()] == [letter.id]
    await story.retry_letters()
    await story.hurry()
    assert charge.status == "canceled"
    await story.end()


async def test_the_end_of_a_second_page_leaves_what_the_first_holds(
    rt: Runtime, psp: BookPsp
) -> None:
    """I6: the first request arrived after its replay was refused."""
    story = await Story.begin(rt, psp)
    psp.script.append("rejected")
    psp.pages_end = True
    made = await story.create(capture_method="manual")
    await story.work()
    await story.retry_letters()
    (first, second), _ = await story.attempts(made.id)
    assert (first.state, second.state) == ("rejected", "open")
    charge = await _first_is_paid(story, first)
    assert (await story.get(made.id)).status == "requires_capture"
    page = next(one for one in psp.charges.values() if one.attempt_id == second.id)
    page.status = "canceled"
    await resolving.resolve(rt, attempt_id=second.id)
    assert (await story.get(made.id)).status == "requires_capture"
    await story.capture(made.id)
    await story.work()
    assert (charge.captured, psp.total()) == (10_000, 10_000)
    await story.end()


async def test_a_second_page_that_is_paid_as_well_is_a_persons_to_let_go_of(
    rt: Runtime, psp: BookPsp
) -> None:
    """I4: the hold that came first stays the payment's."""
    story = await Story.begin(rt, psp)
    psp.script.append("rejected")
    psp.pages_end = True
    made = await story.create(capture_method="manual")
    await story.work()
    await story.retry_letters()
    first, second = (await story.attempts(made.id))[0]
    charge = await _first_is_paid(story, first)
    psp.pay(second.id)
    await story.resolved(made.id)
    for _ in range(2):
        await story.hurry()
    assert (await story.row(made.id)).psp_reference == charge.id
    assert ["a second time" in (one.reason or "") for one in await story.dead()] == [True]
    await story.capture(made.id)
    await story.work()
    assert (charge.captured, psp.total()) == (10_000, 10_000)
    await story.end()


@pytest.mark.parametrize("method", ["automatic", "manual"])
async def test_a_second_page_that_is_heard_of_after_the_first_was_paid_is_looked_at_when_it_ends(
    rt: Runtime, psp: BookPsp, method: Literal["automatic", "manual"]
) -> None:
    """I10: its own answer was lost, and the payment needs it no more."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    psp.script.append("rejected")
    made = await story.create(capture_method=method)
    await story.work()
    psp.script.append("lost")
    await story.retry_letters()
    first, second = (await story.attempts(made.id))[0]
    assert (first.state, second.state) == ("rejected", "unknown")
    await _first_is_paid(story, first)
    await resolving.resolve(rt, attempt_id=second.id)
    second = (await story.attempts(made.id))[0][1]
    assert second.state == "open"
    held = {"automatic": "succeeded", "manual": "requires_capture"}[method]
    assert (await story.get(made.id)).status == held
    page = next(one for one in psp.charges.values() if one.attempt_id == second.id)
    page.status = "canceled"
    for _ in range(2):
        await story.hurry()
    assert (await story.attempts(made.id))[0][1].state == "closed"
    assert (await story.get(made.id)).status == held
    await story.end()
