"""Holds that end, are taken or come twice while something else is being done about them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from app.janitor import processing as janitor
from app.jobs import Job
from app.payments import resolving
from app.payments.models import Attempt
from app.psp.port import RefundSeen
from app.reviews.models import Review
from app.runtime import Runtime
from tests.deadletters.letters import discard, verdict
from tests.payments.risks import HOLD, check, decide, set_terms
from tests.payments.story import Story, receive, refund_event
from tests.support.psp import BookPsp, Charge


async def _held(rt: Runtime, psp: BookPsp) -> tuple[Story, str, Charge]:
    story = await Story.begin(rt, psp)
    made = await story.charge(capture_method="manual")
    (charge,) = psp.charges.values()
    return story, made.id, charge


def _ended(charge: Charge) -> dict[str, Any]:
    return {"type": "payment_intent.canceled", "psp_reference": charge.id}


async def test_what_is_refused_while_the_end_of_its_page_is_unknown_is_let_go_of(
    rt: Runtime, psp: BookPsp
) -> None:
    """F12: the customer was faster than the page's end, whose answer was lost."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    await set_terms(story, **HOLD)
    made = await story.create()
    await story.work()
    (page,), _ = await story.attempts(made.id)
    psp.script.append("never")
    psp.pay(page.id)
    await story.hurry()  # The end of the page is asked for, and nobody knows what came of it.
    await resolving.resolve(rt, attempt_id=page.id)
    assert (await check(story, made.id)).review == "waiting"
    await decide(story, made.id, "refuse")
    for _ in range(4):
        await story.hurry()
        await story.forget_calls()
    (charge,) = psp.charges.values()
    assert charge.status == "canceled"
    assert (await story.get(made.id)).status == "failed"
    await story.end()


async def test_an_old_letter_about_a_cancel_takes_no_hold_away(rt: Runtime, psp: BookPsp) -> None:
    """I6: the page's end was refused, the customer paid, and a capture waits for a person."""
    psp.pages_end = True
    story, made, page = await Story.with_page(rt, psp, capture_method="manual")
    psp.script.append("rejected")
    await story.hurry()
    assert len(await story.dead()) == 1
    charge = psp.pay(page.id)
    await story.resolved(made.id)
    assert (await story.get(made.id)).status == "requires_capture"
    psp.script.append("rejected")
    await story.capture(made.id)
    await story.work()
    await story.retry_letters()
    assert charge.status == "succeeded"
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


@pytest.mark.parametrize("by", ["event", "look"])
async def test_a_hold_that_ends_while_a_person_is_asked_about_its_capture(
    rt: Runtime, psp: BookPsp, by: str
) -> None:
    """F29: the shop is not told that something is held which has gone."""
    story, payment_id, letter = await Story.with_refused_capture(rt, psp)
    (charge,) = psp.charges.values()
    charge.status = "canceled"
    if by == "event":
        await receive(rt, "evt_gone", **_ended(charge))
        await story.work()
    assert "nothing left to send" in (await verdict(rt, letter.id)).title.lower()
    ended = await story.get(payment_id)
    assert (ended.status, ended.status_reason) == ("canceled", "authorization_expired")
    await story.end()


async def test_a_capture_that_arrives_while_a_person_is_asked_about_it_is_booked(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: its first request was under way for longer than its replay."""
    story, payment_id, charge = await _held(rt, psp)
    psp.script.extend(["never", "rejected"])
    await story.capture(payment_id)
    await story.work()
    await story.hurry()
    assert await story.dead() == []  # The first may arrive yet.
    await story.forget_calls()
    await story.hurry()
    assert len(await story.dead()) == 1
    charge.status, charge.captured = "succeeded", 10_000
    await receive(rt, "evt_paid", psp_reference=charge.id)
    await story.work()
    paid = await story.get(payment_id)
    assert (paid.status, paid.amount_captured) == ("succeeded", 10_000)
    await story.end()


async def test_a_refund_tells_of_a_capture_by_hand_that_nobody_heard_of(
    rt: Runtime, psp: BookPsp
) -> None:
    """F27: the event of the capture was lost."""
    story, payment_id, charge = await _held(rt, psp)
    charge.status, charge.captured = "succeeded", 7_000
    seen = RefundSeen(psp_reference="re_hand", amount=2_000, currency="eur", status="succeeded")
    charge.refunds = {"re_hand": seen}
    await refund_event(story, seen, charge.id)
    await story.hurry()
    paid = await story.get(payment_id)
    assert (paid.status, paid.amount_captured, paid.amount_refunded) == ("succeeded", 7_000, 2_000)
    assert psp.total() == 5_000
    await story.end()


@pytest.mark.parametrize("became", ["held", "canceled", "succeeded"])
async def test_a_hold_whose_events_were_lost_is_looked_at_each_day(
    rt: Runtime, psp: BookPsp, became: str
) -> None:
    """F31: it lapsed, or somebody has taken it at the PSP."""
    story, payment_id, charge = await _held(rt, psp)
    (attempt,), _ = await story.attempts(payment_id)
    assert attempt.next_check_at is not None
    assert attempt.next_check_at - datetime.now(UTC) > timedelta(hours=23)
    if became == "canceled":
        charge.status = "canceled"
    if became == "succeeded":
        charge.status, charge.captured = "succeeded", 10_000
    async with rt.sessions.begin() as session:
        late = datetime.now(UTC) - timedelta(minutes=1)
        await session.execute(update(Attempt).values(next_check_at=late))
    assert await janitor.sweep(rt) == 1
    await story.work()
    (attempt,), _ = await story.attempts(payment_id)
    status = {"held": "requires_capture"}.get(became, became)
    assert (await story.get(payment_id)).status == status
    assert (attempt.next_check_at is None) == (became != "held")
    assert await janitor.sweep(rt) == 0
    await story.end()


async def test_a_hold_that_is_being_taken_is_not_looked_at_and_again_the_next_day(
    rt: Runtime, psp: BookPsp
) -> None:
    story, payment_id, _ = await _held(rt, psp)
    psp.script.append("never")
    await story.capture(payment_id)
    await story.work()
    async with rt.sessions.begin() as session:
        late = datetime.now(UTC) - timedelta(minutes=1)
        charges = update(Attempt).where(Attempt.kind == "charge")
        await session.execute(charges.values(next_check_at=late))
    assert await janitor.sweep(rt) == 1
    looks = [step for step, _, _ in psp.requests].count("lookup")
    await story.work()
    assert [step for step, _, _ in psp.requests].count("lookup") == looks
    assert await janitor.sweep(rt) == 0
    for _ in range(2):
        await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_a_hold_of_another_amount_that_was_let_go_of_is_no_page_that_nobody_paid(
    rt: Runtime, psp: BookPsp
) -> None:
    """F21: the customer did pay, and got it back."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    psp.amounts["checkout"] = 10_100
    made = await story.create(capture_method="manual")
    await story.work()
    (page,), _ = await story.attempts(made.id)
    charge = psp.pay(page.id)
    await story.resolved(made.id)
    assert (await story.get(made.id)).status_reason == "held_for_review"
    charge.status = "canceled"
    await receive(rt, "evt_gone", **_ended(charge), attempt_id=page.id)
    await story.hurry()
    ended = await story.get(made.id)
    assert (ended.status, ended.status_reason) == ("canceled", "authorization_expired")
    await story.end()


async def _twice(rt: Runtime, psp: BookPsp) -> tuple[Story, str, Charge, Attempt]:
    """Return a payment that a second attempt's hold carries, and the first one's late intent."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    made = await story.charge(capture_method="manual")
    (late,) = psp.charges.values()
    await story.retry_letters()
    (first, second), _ = await story.attempts(made.id)
    assert (first.state, second.state) == ("rejected", "succeeded")
    return story, made.id, late, first


async def test_a_capture_by_hand_of_a_second_hold_does_not_take_the_place_of_the_first(
    rt: Runtime, psp: BookPsp
) -> None:
    """I4: its money fits no payment, and a person gives it back."""
    story, payment_id, late, first = await _twice(rt, psp)
    late.status, late.captured = "succeeded", 10_000
    await receive(rt, "evt_late", psp_reference=late.id, attempt_id=first.id)
    await story.hurry()
    row = await story.row(payment_id)
    assert (row.status, row.amount_captured) == ("requires_capture", 0)
    async with rt.sessions.read() as session:
        assert [one.kind for one in await session.scalars(select(Review))] == ["unexpected_receipt"]
    await story.capture(payment_id)
    await story.work()
    assert (await story.get(payment_id)).amount_captured == 10_000
    await story.end()


@pytest.mark.parametrize("then", ["declined", "requires_capture"])
async def test_a_charge_that_the_psp_decides_later_leaves_the_hold_of_another_alone(
    rt: Runtime, psp: BookPsp, then: str
) -> None:
    """I6: it arrived when a retry held the money already."""
    story, payment_id, late, first = await _twice(rt, psp)
    late.status = "processing"
    kind = "payment_intent.processing"
    await receive(rt, "evt_1", type=kind, psp_reference=late.id, attempt_id=first.id)
    await story.work()
    assert (await story.get(payment_id)).status == "requires_capture"
    late.status = then
    kind = "payment_intent.amount_capturable_updated"
    await receive(rt, "evt_2", type=kind, psp_reference=late.id, attempt_id=first.id)
    await story.hurry()
    letters = await story.dead()
    assert len(letters) == (then == "requires_capture")
    for letter in letters:
        assert "a second time" in (await verdict(rt, letter.id)).title
        await discard(rt, letter.id)
    await story.capture(payment_id)
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_a_cancel_that_arrives_after_it_was_held_to_be_refused_ends_the_payment(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: the letter's look finds it."""
    story, payment_id, charge = await _held(rt, psp)
    psp.script.append("rejected")
    await story.cancel(payment_id)
    await story.work()
    (letter,) = await story.dead()
    charge.status = "canceled"
    assert "happened already" in (await verdict(rt, letter.id)).title
    assert (await story.get(payment_id)).status == "canceled"
    await story.end()


@pytest.mark.parametrize("amount", [10_000, 10_100])
async def test_a_hold_that_went_while_the_end_of_its_page_was_unknown_has_not_expired(
    rt: Runtime, psp: BookPsp, amount: int
) -> None:
    """F29, F21, seed 4193: the shop had asked to capture it, and was told that nobody had paid."""
    psp.pages_end = True
    psp.amounts["checkout"] = amount
    story, made, page = await Story.with_page(rt, psp, capture_method="manual")
    psp.script.append("never")
    await story.hurry()
    charge = psp.pay(page.id)
    await receive(rt, "evt_held", psp_reference=charge.id, attempt_id=page.id)
    await story.work()
    if amount == made.amount:
        assert (await story.get(made.id)).status == "requires_capture"
        await story.capture(made.id)
    else:
        assert (await story.get(made.id)).status_reason == "held_for_review"
    charge.status = "canceled"
    await story.hurry()
    ended = await story.get(made.id)
    assert (ended.status, ended.status_reason) == ("canceled", "authorization_expired")
    async with rt.sessions.read() as session:
        assert await session.scalar(select(Review.id).where(Review.state == "open")) is None
    await story.end()


async def test_a_capture_does_not_wait_for_an_end_of_the_page_that_lies_in_the_dead_letters(
    rt: Runtime, psp: BookPsp
) -> None:
    """F29, seed 8106: the customer was faster, and the PSP away for long before that."""
    psp.pages_end = True
    story, made, page = await Story.with_page(rt, psp, capture_method="manual")
    psp.script.append("not_sent")
    async with rt.sessions.begin() as session:
        long_ago = rt.clock() - timedelta(hours=25)
        of = (Job.payment_id == made.id, Job.kind == "payments.expire")
        await session.execute(update(Job).where(*of).values(created_at=long_ago))
    await story.hurry()
    assert [letter.kind for letter in await story.dead()] == ["payments.expire"]
    charge = psp.pay(page.id)
    await receive(rt, "evt_held", psp_reference=charge.id, attempt_id=page.id)
    await story.work()
    await story.capture(made.id)
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    assert charge.status == "succeeded"
    await story.end()
