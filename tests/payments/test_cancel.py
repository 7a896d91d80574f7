"""Cancels: a wish that is kept while something is under way, and that ends with the PSP's word."""

import msgspec
import pytest
from sqlalchemy import select

from app.ledger.models import PostingRow
from app.payments import resolving
from app.payments.operations import PaymentAlreadyPaid, PaymentBusy, PaymentWrongState
from app.reviews.models import Review
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp


async def _held(story: Story) -> str:
    held = await story.charge(10_000, capture_method="manual")
    assert held.status == "requires_capture"
    return held.id


async def test_a_cancel_right_after_a_capture_was_accepted_lets_go_of_what_is_held(
    rt: Runtime, psp: BookPsp
) -> None:
    """F54: the capture has not been sent, so the later word holds, and the PSP confirms it."""
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    await story.capture(payment_id)
    asked = await story.cancel(payment_id)
    assert (asked.status, asked.status_reason) == ("processing", "canceling")
    await story.work()
    assert (await story.get(payment_id)).status == "canceled"
    assert [charge.status for charge in psp.charges.values()] == ["canceled"]
    assert psp.total() == 0
    await story.end()


async def test_a_cancel_while_a_capture_waits_for_the_psp_lets_go_of_what_is_held(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    await story.capture(payment_id)
    psp.script.append("not_sent")
    await story.work()
    with pytest.raises(PaymentBusy):
        await story.capture(payment_id)
    await story.cancel(payment_id)
    await story.hurry()
    assert (await story.get(payment_id)).status == "canceled"
    assert [charge.status for charge in psp.charges.values()] == ["canceled"]
    await story.end()


async def test_a_cancel_after_a_refused_capture_lets_go_of_what_is_held(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    await story.capture(payment_id)
    psp.script.append("rejected")
    await story.work()
    held = await story.get(payment_id)
    assert (held.status, held.status_reason) == ("processing", "held_for_operator")
    assert len(await story.dead()) == 1
    await story.cancel(payment_id)
    await story.work()
    assert (await story.get(payment_id)).status == "canceled"
    assert [charge.status for charge in psp.charges.values()] == ["canceled"]
    await story.end()


@pytest.mark.parametrize("script", ["not_sent", "busy", "rejected", "never"])
async def test_nobody_is_charged_once_a_cancel_was_kept_while_a_charge_was_under_way(
    rt: Runtime, psp: BookPsp, script: str
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    psp.script.extend(["ok", script])

    async def cancel() -> None:
        asked = await story.cancel(made.id)
        assert (asked.status, asked.status_reason) == ("processing", "canceling")

    async def not_yet() -> None:
        psp.meanwhile = cancel  # During the confirm, which comes next.

    psp.meanwhile = not_yet
    await story.work()
    for _ in range(3):
        await story.hurry()
    assert (await story.get(made.id)).status == "canceled"
    assert psp.total() == 0
    assert await story.dead() == []
    await story.end()


async def test_a_cancel_between_the_two_steps_of_a_charge_keeps_the_second_from_being_sent(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    psp.meanwhile = lambda: story.cancel(made.id)
    await story.work()
    assert (await story.get(made.id)).status == "canceled"
    assert [step for step, _, _ in psp.requests] == ["create"]
    await story.end()


@pytest.mark.parametrize("script", [["lost"], ["never"], ["never", "lost"]])
async def test_a_cancel_while_the_page_is_being_made_ends_it(
    rt: Runtime, psp: BookPsp, script: list[str]
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create()
    psp.script.extend(script)
    await story.work()
    asked = await story.cancel(made.id)
    assert (asked.status, asked.status_reason) == ("processing", "canceling")
    for _ in range(4):
        await story.hurry()
    assert (await story.get(made.id)).status == "canceled"
    assert {charge.status for charge in psp.charges.values()} <= {"canceled"}
    await story.end()


@pytest.mark.parametrize("script", ["not_sent", "rejected"])
async def test_a_cancel_during_a_page_that_never_came_to_be_ends_the_payment(
    rt: Runtime, psp: BookPsp, script: str
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create()
    psp.script.append(script)
    psp.meanwhile = lambda: story.cancel(made.id)
    await story.work()
    assert (await story.get(made.id)).status == "canceled"
    assert await story.dead() == []
    await story.end()


async def test_a_charge_that_was_unknown_and_succeeded_wins_over_the_cancel(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    unknown = await story.charge()
    await story.cancel(unknown.id)
    await story.hurry()
    assert (await story.get(unknown.id)).status == "succeeded"
    with pytest.raises(PaymentAlreadyPaid):
        await story.cancel(unknown.id)
    assert psp.total() == 10_000
    await story.end()


async def test_a_capture_that_was_unknown_and_succeeded_wins_over_the_cancel(
    rt: Runtime, psp: BookPsp
) -> None:
    """F54."""
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    await story.capture(payment_id)
    psp.script.append("lost")
    await story.work()
    await story.cancel(payment_id)
    await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_a_capture_that_did_not_happen_gives_way_to_the_cancel(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    await story.capture(payment_id)
    psp.script.append("never")
    await story.work()
    await story.cancel(payment_id)
    for _ in range(2):
        await story.hurry()
    assert (await story.get(payment_id)).status == "canceled"
    assert psp.total() == 0
    await story.end()


@pytest.mark.parametrize("script", ["lost", "never", "not_sent", "busy"])
async def test_a_cancel_whose_reply_is_lost_ends_once(
    rt: Runtime, psp: BookPsp, script: str
) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    await story.cancel(payment_id)
    psp.script.append(script)
    await story.work()
    waiting = await story.get(payment_id)
    assert (waiting.status, waiting.status_reason) == ("processing", "canceling")
    await story.hurry()
    assert (await story.get(payment_id)).status == "canceled"
    await story.end()


async def test_a_cancel_that_the_psp_refuses_while_it_could_still_be_paid_waits_for_a_person(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    await story.cancel(payment_id)
    psp.script.append("rejected")
    await story.work()
    held = await story.get(payment_id)
    assert (held.status, held.status_reason) == ("processing", "held_for_operator")
    (letter,) = await story.dead()
    assert letter.payment_id == payment_id
    assert [step for step, _, _ in psp.requests].count("cancel") == 1
    await story.end()


async def test_a_hold_that_lapsed_before_the_cancel_is_canceled(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    (charge,) = psp.charges.values()
    charge.status = "canceled"
    await story.cancel(payment_id)
    await story.work()
    ended = await story.get(payment_id)
    assert (ended.status, ended.status_reason) == ("canceled", None)
    await story.end()


async def test_a_hold_that_lapsed_before_the_capture_has_expired(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    (charge,) = psp.charges.values()
    charge.status = "canceled"
    await story.capture(payment_id)
    await story.work()
    ended = await story.get(payment_id)
    assert (ended.status, ended.status_reason) == ("canceled", "authorization_expired")
    assert await story.dead() == []
    await story.end()


async def test_money_that_was_captured_at_the_psp_before_the_cancel_is_recorded(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id = await _held(story)
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", 7_000
    await story.cancel(payment_id)
    await story.work()
    paid = await story.get(payment_id)
    assert (paid.status, paid.amount_captured) == ("succeeded", 7_000)
    await story.end()


async def test_money_that_comes_after_the_end_waits_in_suspense_for_a_person(
    rt: Runtime, psp: BookPsp
) -> None:
    """F20: a payment that has ended keeps its status, and the money is not lost sight of."""
    story, made, attempt = await Story.with_page(rt, psp)
    charge = psp.pay(attempt.id)
    async with rt.sessions.begin() as session:
        row = await session.get_one(type(await story.row(made.id)), made.id)
        row.status, row.finished_at = "expired", rt.clock()
    await story.resolved(made.id)
    assert (await story.get(made.id)).status == "expired"
    (letter,) = await story.dead()
    assert "refund" in (letter.reason or "").lower()
    (attempt,), _ = await story.attempts(made.id)
    assert (attempt.state, attempt.code) == ("succeeded", "unexpected")
    assert charge.captured == 10_000
    await story.end()


async def test_an_answer_to_a_cancel_that_lies_about_the_amount_freezes_nothing(
    rt: Runtime, psp: BookPsp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: the customer was faster, and a look-up shows with how much."""
    story, made, attempt = await Story.with_page(rt, psp)
    charge = psp.pay(attempt.id)

    async def lying(step: str, *_arguments: object, **_fields: object) -> object:
        assert step == "cancel"
        return msgspec.structs.replace(psp._seen(charge), amount=1, psp_reference="pi_other")

    monkeypatch.setattr(psp, "send", lying)
    await story.cancel(made.id)
    await story.work()
    for _ in range(2):
        await story.hurry()
    paid = await story.get(made.id)
    assert (paid.status, paid.amount_captured) == ("succeeded", 10_000)
    (attempt, *_), _ = await story.attempts(made.id)
    assert attempt.psp_reference == charge.id
    await story.end()


@pytest.mark.parametrize("told_by", ["void", "event"])
async def test_a_hold_after_the_end_that_somebody_captures_waits_in_suspense_for_a_person(
    rt: Runtime, psp: BookPsp, told_by: str
) -> None:
    """F29: it was to be let go of, and somebody at the PSP was faster."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    made = await story.charge(capture_method="manual")
    async with rt.sessions.begin() as session:
        row = await session.get_one(type(await story.row(made.id)), made.id)
        row.status, row.finished_at = "canceled", rt.clock()
    ((attempt,), _), (charge,) = await story.attempts(made.id), psp.charges.values()
    await resolving.resolve(rt, attempt_id=attempt.id)
    charge.status, charge.captured = "succeeded", 10_000
    if told_by == "event":
        await resolving.look_at_hold(rt, attempt_id=attempt.id)
    for _ in range(2):  # Whatever tells of it again changes nothing.
        await story.work()
        await resolving.look_at_hold(rt, attempt_id=attempt.id)
    assert (await story.get(made.id)).status == "canceled"
    async with rt.sessions.read() as session:
        posted = list(await session.scalars(select(PostingRow.kind)))
        asked = list(await session.scalars(select(Review.kind)))
    assert (posted, asked) == (["unexpected_receipt"], ["unexpected_receipt"])
    await story.end()


async def test_a_payment_that_waits_for_a_review_is_not_canceled(rt: Runtime, psp: BookPsp) -> None:
    """F21: frozen means frozen."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    made = await story.charge()
    (charge,) = psp.charges.values()
    charge.amount = charge.captured = 9_000
    await story.hurry()
    held = await story.get(made.id)
    assert (held.status, held.status_reason) == ("processing", "held_for_review")
    with pytest.raises(PaymentWrongState):
        await story.cancel(made.id)
    assert psp.total() == 9_000
    await story.end()
