"""Hosted payments: the page opens, declines are noted, and only the PSP's word ends it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from app.jobs import Job
from app.payments.resolving import resolve
from app.runtime import Runtime
from tests.payments.story import Story, receive
from tests.support.psp import BookPsp, Charge
from tests.support.runtime import Clock


async def _page(story: Story, **fields: Any) -> tuple[str, Charge]:
    made = await story.create(**fields)
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    assert attempt.state == "open"
    charge = next(c for c in story.psp.charges.values() if c.attempt_id == attempt.id)
    return made.id, charge


async def _due(rt: Runtime, kind: str) -> int:
    async with rt.sessions.read() as session:
        query = select(func.count()).where(Job.kind == kind, Job.state == "due")
        return int((await session.execute(query)).scalar_one())


async def test_a_page_that_the_psp_decides_later_goes_over_processing(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id, charge = await _page(story)
    charge.status = "processing"
    await story.resolved(payment_id)
    undecided = await story.get(payment_id)
    assert (undecided.status, undecided.status_reason) == ("processing", None)
    charge.status, charge.captured = "succeeded", charge.amount
    await story.resolved(payment_id)
    assert (await story.get(payment_id)).status == "succeeded"
    assert await story.told(payment_id) == [
        ("payment.created", None),
        ("payment.processing", "requires_action"),
        ("payment.succeeded", "processing"),
    ]
    await story.end()


async def test_a_page_that_the_psp_refuses_later_has_failed(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    payment_id, charge = await _page(story)
    charge.status = "processing"
    await story.resolved(payment_id)
    charge.status, charge.declined = "canceled", "card_declined"
    await story.resolved(payment_id)
    failed = await story.get(payment_id)
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.code == "card_declined"
    await story.end()


async def test_what_the_psp_decides_later_is_looked_at_again_without_any_event(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F31."""
    from app.janitor.processing import sweep
    from app.payments.models import Attempt

    story = await Story.begin(rt, psp)
    payment_id, charge = await _page(story)
    charge.status = "processing"
    await story.resolved(payment_id)
    charge.status, charge.captured = "succeeded", charge.amount
    async with rt.sessions.begin() as session:
        attempt = await session.scalar(select(Attempt))
        assert attempt is not None
        assert attempt.next_check_at is not None
        attempt.next_check_at = datetime.now(UTC) - timedelta(minutes=1)
    assert await sweep(rt) == 1
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


@pytest.mark.parametrize("late", ["never", "not_sent", "busy", "rejected"])
async def test_a_late_word_about_a_page_that_is_known_to_be_open_says_nothing(
    rt: Runtime, psp: BookPsp, late: str
) -> None:
    """F04: its request hung, a look-up found the page meanwhile, then the call was given up."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    made = await story.create()

    async def found() -> None:
        step, key, request = psp.requests[-1]
        assert key is not None
        psp._answer(step, request, key, None, "ok")
        del psp.answers[key]  # So that the late word is the script's.
        await story.resolved(made.id)
        (attempt,), _ = await story.attempts(made.id)
        assert attempt.state == "open"

    psp.script.append(late)
    psp.meanwhile = found
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    assert attempt.state == "open"
    shown = await story.get(made.id)
    assert (shown.status, shown.status_reason) == ("requires_action", None)
    assert [step for step, _, _ in psp.requests].count("create") == 1
    await story.end()


async def test_a_page_has_one_job_for_its_end_however_often_it_is_looked_at(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    payment_id, _ = await _page(story)
    for _ in range(3):
        await story.resolved(payment_id)
    assert await _due(rt, "payments.expire") == 1
    await story.end()


async def test_a_page_whose_time_is_over_expires_by_the_psps_word(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    payment_id, charge = await _page(story, expires_in=1800)
    psp.script.append("not_sent")
    await story.hurry()
    asked = await story.get(payment_id)
    assert (asked.status, asked.status_reason) == ("processing", "canceling")
    await story.hurry()
    assert (await story.get(payment_id)).status == "expired"
    assert charge.status == "canceled"
    assert await story.told(payment_id) == [
        ("payment.created", None),
        ("payment.processing", "requires_action"),
        ("payment.expired", "processing"),
    ]
    await story.end()


async def test_a_customer_who_was_faster_than_the_end_has_paid(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    payment_id, charge = await _page(story)
    psp.pay(charge.attempt_id)
    await story.hurry()
    for _ in range(2):
        await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_money_that_was_held_just_before_the_end_stays_held(
    rt: Runtime, psp: BookPsp
) -> None:
    """The end of a page never lets go of what a customer has agreed to on it."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    payment_id, charge = await _page(story, capture_method="manual")
    psp.script.append("not_sent")
    await story.hurry()  # The end is asked for and does not get through.
    psp.pay(charge.attempt_id)
    await story.hurry()
    held = await story.get(payment_id)
    assert held.status == "requires_capture"
    assert charge.status == "requires_capture"
    await story.capture(payment_id)
    for _ in range(2):
        await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_an_end_that_nobody_knows_the_outcome_of_leaves_what_is_held_alone(
    rt: Runtime, psp: BookPsp
) -> None:
    """Seed 0 of the simulation: the customer was faster, and the payment ended in `canceling`.

    The PSP's event had told so, and then a look at the end's own outcome failed.
    """
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    payment_id, charge = await _page(story, capture_method="manual")
    psp.script.append("never")
    psp.pay(charge.attempt_id)
    await story.hurry()
    (page, end), _ = await story.attempts(payment_id)
    assert (page.state, end.state) == ("open", "unknown")
    await resolve(rt, attempt_id=page.id)  # What the PSP's event brings about.
    assert (await story.get(payment_id)).status == "requires_capture"
    psp.looks.append("lost")
    await resolve(rt, attempt_id=end.id)
    assert (await story.get(payment_id)).status == "requires_capture"
    await resolve(rt, attempt_id=end.id)
    held = await story.get(payment_id)
    assert (held.status, charge.status) == ("requires_capture", "requires_capture")
    (_, end), _ = await story.attempts(payment_id)
    assert (end.state, end.code) == ("rejected", "already_paid")
    await story.end()


async def test_a_cancel_whose_page_was_paid_meanwhile_lets_go_of_the_money(
    rt: Runtime, psp: BookPsp
) -> None:
    """Seed 96 of the simulation: the job that was to do so waited for the page's own end."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    payment_id, charge = await _page(story, capture_method="manual")
    await story.cancel(payment_id)
    psp.script.append("never")
    await story.work()
    psp.pay(charge.attempt_id)
    (page, end), _ = await story.attempts(payment_id)
    assert (page.state, end.state) == ("open", "unknown")
    await resolve(rt, attempt_id=page.id)
    for _ in range(3):
        await story.hurry()
    assert (await story.get(payment_id)).status == "canceled"
    assert charge.status == "canceled"
    await story.end()


async def test_a_payment_whose_time_ran_out_while_the_psp_was_away_expires(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(expires_in=1800)
    psp.script.append("not_sent")
    await story.work()
    waiting = await story.get(made.id)
    assert (waiting.status, waiting.status_reason) == ("requires_action", "psp_unavailable")
    clock.forward(minutes=31)
    await story.hurry()
    assert (await story.get(made.id)).status == "expired"
    assert psp.charges == {}
    await story.end()


async def test_a_page_that_was_never_made_is_asked_for_anew_once_too_little_time_is_left(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """PSPs refuse a page that ends within half an hour; nothing was sent, so its end may move."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    made = await story.create(expires_in=2400)
    psp.script.append("not_sent")
    await story.work()
    clock.forward(minutes=20)
    await story.hurry()
    first, second = (await story.attempts(made.id))[0]
    assert (first.state, second.state) == ("not_sent", "open")
    (charge,) = psp.charges.values()
    assert charge.page_ends is not None
    assert charge.page_ends - clock() > timedelta(minutes=29)
    keys = {key for step, key, _ in psp.requests if step == "create"}
    assert len(keys) == 2
    await story.end()


async def test_a_page_that_was_refused_opens_after_a_retry(rt: Runtime, psp: BookPsp) -> None:
    """A payment that was held for the operator is the customer's again."""
    from app import jobs

    story = await Story.begin(rt, psp)
    made = await story.create()
    psp.script.append("rejected")
    await story.work()
    held = await story.get(made.id)
    assert (held.status, held.status_reason) == ("processing", "held_for_operator")
    (letter,) = await story.dead()
    async with rt.sessions.begin() as session:
        await jobs.revive(session, job_id=letter.id, now=rt.clock(), why="cured")
    await story.hurry()
    again = await story.get(made.id)
    assert (again.status, again.status_reason) == ("requires_action", None)
    attempt = (await story.attempts(made.id))[0][-1]
    psp.pay(attempt.id)
    await story.resolved(made.id)
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_a_page_that_nobody_can_find_is_closed_an_hour_after_its_end(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F22: the PSP's promise about its page is the evidence, and nothing is sent blindly."""
    story = await Story.begin(rt, psp)
    made = await story.create(expires_in=1800)
    psp.script.append("never")
    await story.work()
    clock.forward(minutes=40)
    await story.hurry()
    assert (await story.get(made.id)).status == "requires_action"
    clock.forward(minutes=60)
    await story.hurry()
    assert (await story.get(made.id)).status == "expired"
    assert [step for step, _, _ in psp.requests].count("create") == 1
    await story.end()


async def test_a_second_page_of_a_paid_payment_is_looked_at_when_it_ends(
    rt: Runtime, psp: BookPsp
) -> None:
    """I10: the first request arrived after its replay was refused; the event of the end is lost."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    psp.script.extend(["never", "rejected"])
    made = await story.create()
    await story.work()
    for _ in range(2):
        await story.hurry()
        await story.forget_calls()
    (first, second), _ = await story.attempts(made.id)
    assert (first.state, second.state) == ("rejected", "open")
    (page,) = psp.charges.values()
    psp.charges["pi_late"] = msgspec.structs.replace(
        page, id="pi_late", session="cs_late", attempt_id=first.id, status="open"
    )
    charge = psp.pay(first.id)
    await receive(rt, "evt_paid", psp_reference=charge.id, attempt_id=first.id)
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    page.status = "canceled"
    await story.hurry()
    (_, second), _ = await story.attempts(made.id)
    assert second.state == "closed"
    assert psp.total() == 10_000
    await story.end()
