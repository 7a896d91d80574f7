"""Payments from acceptance to the ledger, with a PSP whose replies get lost."""

import asyncio

import pytest

from app.errors import Refused
from app.payments.accepting import ReferenceInUse
from app.payments.operations import (
    AmountExceedsRefundable,
    PaymentAlreadyPaid,
    PaymentWrongState,
)
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp


async def test_an_off_session_payment_is_charged_once_and_reaches_the_ledger(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge(10_000)
    assert (paid.status, paid.amount_captured, paid.finished) == ("succeeded", 10_000, True)
    assert paid.ledger_position is not None
    assert paid.fee == 165
    assert paid.net == 9_835
    assert psp.total() == 10_000
    await story.end()


async def test_a_decline_fails_the_payment_and_its_reference_is_free_again(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "declined"])
    failed = await story.charge(reference="order-1")
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.code == "card_declined"
    assert (await story.charge(reference="order-1")).status == "succeeded"
    with pytest.raises(ReferenceInUse):
        await story.create(reference="order-1")
    await story.end()


async def test_a_hosted_payment_waits_for_its_customer(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(5_000)
    assert made.status == "requires_action"
    assert made.checkout_url is not None
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    assert (attempt.state, attempt.page_url is not None) == ("open", True)
    psp.pay(attempt.id)
    async with rt.sessions.begin() as session:
        from app.janitor.processing import hurry

        await hurry(session, ids=rt.ids, rt=rt, payment_id=made.id)
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


@pytest.mark.parametrize("script", [["lost"], ["ok", "lost"], ["lost", "lost"]])
async def test_a_lost_reply_is_looked_up_and_nobody_is_charged_twice(
    rt: Runtime, psp: BookPsp, script: list[str]
) -> None:
    """F12."""
    story = await Story.begin(rt, psp)
    psp.script.extend(script)
    unknown = await story.charge()
    assert (unknown.status, unknown.status_reason) == ("processing", "outcome_unknown")
    for _ in script:
        await story.hurry()
    assert (await story.get(unknown.id)).status == "succeeded"
    assert psp.total() == 10_000
    _, calls = await story.attempts(unknown.id)
    assert any(call.kind == "lookup" for call in calls)
    await story.end()


async def test_a_request_that_never_arrived_is_sent_again_with_its_key(
    rt: Runtime, psp: BookPsp
) -> None:
    """F13."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never"])
    made = await story.charge()
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    keys = [key for step, key, _ in psp.requests if step == "confirm"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    await story.end()


async def test_a_psp_that_is_down_is_tried_again_and_nothing_fails(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["not_sent", "busy", "not_sent"])
    waiting = await story.charge()
    assert (waiting.status, waiting.status_reason) == ("processing", "psp_unavailable")
    for _ in range(4):
        await story.hurry()
    assert (await story.get(waiting.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_a_refused_request_waits_for_a_person_in_the_dead_letters(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    held = await story.charge()
    assert (held.status, held.status_reason) == ("processing", "held_for_operator")
    (dead,) = await story.dead()
    assert dead.kind == "payments.charge"
    await story.end()


async def test_manual_capture_takes_part_and_releases_the_rest(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(10_000, capture_method="manual")
    assert held.status == "requires_capture"
    assert (await story.capture(held.id, 4_000)).status == "processing"
    await story.work()
    paid = await story.get(held.id)
    assert (paid.status, paid.amount_captured) == ("succeeded", 4_000)
    assert psp.total() == 4_000
    await story.end()


async def test_a_cancel_lets_go_of_what_is_held(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(10_000, capture_method="manual")
    assert (await story.cancel(held.id)).status_reason == "canceling"
    await story.work()
    assert (await story.get(held.id)).status == "canceled"
    assert psp.total() == 0
    await story.end()


async def test_a_cancel_before_anything_left_us_ends_the_payment_at_once(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    assert (await story.cancel(made.id)).status == "canceled"
    await story.work()
    assert psp.charges == {}
    await story.end()


async def test_a_customer_who_was_faster_than_the_cancel_has_paid(
    rt: Runtime, psp: BookPsp
) -> None:
    story, made, attempt = await Story.with_page(rt, psp)
    await story.cancel(made.id)
    psp.pay(attempt.id)
    await story.hurry()
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    with pytest.raises(PaymentAlreadyPaid):
        await story.cancel(made.id)
    await story.end()


async def test_an_open_page_is_ended_by_the_psps_word_alone(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create()
    await story.work()
    asked = await story.cancel(made.id)
    assert (asked.status, asked.status_reason) == ("processing", "canceling")
    await story.work()
    assert (await story.get(made.id)).status == "canceled"
    await story.end()


async def test_a_refund_goes_through_the_ledger_before_the_psp(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge(10_000)
    part = await story.refund(paid.id, 4_000)
    assert part.status == "pending"
    await story.work()
    assert (await story.get_refund(part.id)).status == "succeeded"
    rest = await story.refund(paid.id)
    await story.work()
    assert (await story.get_refund(rest.id)).amount == 6_000
    after = await story.get(paid.id)
    assert (after.amount_refunded, after.amount_refundable, after.fee, after.net) == (
        10_000,
        0,
        0,
        0,
    )
    with pytest.raises(AmountExceedsRefundable):
        await story.refund(paid.id, 1)
    assert psp.total() == 0
    await story.end()


async def test_a_refund_that_the_wallet_does_not_cover_fails_and_frees_its_amount(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp, settle_delay_seconds=0, fee_return=False)
    first = await story.charge(10_000)
    from app.payments.settling import settle_due

    await settle_due(rt)
    await story.work()
    refund = await story.refund(first.id)
    await story.work()
    failed = await story.get_refund(refund.id)
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.code == "insufficient_balance"
    assert (await story.get(first.id)).amount_refundable == 10_000
    assert psp.total() == 10_000
    await story.end()


async def test_a_refund_whose_reply_is_lost_is_made_once(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge(10_000)
    psp.script.append("lost")
    refund = await story.refund(paid.id, 2_500)
    await story.work()
    assert (await story.get_refund(refund.id)).status == "pending"
    await story.hurry()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert psp.total() == 7_500
    await story.end()


async def test_two_refunds_racing_for_one_payments_money_never_both_win(
    rt: Runtime, psp: BookPsp
) -> None:
    """F54, trap 0.2."""
    story = await Story.begin(rt, psp)
    paid = await story.charge(10_000)
    asked = [story.refund(paid.id, 8_000) for _ in range(8)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    won = [answer for answer in answers if not isinstance(answer, BaseException)]
    lost = [answer for answer in answers if isinstance(answer, AmountExceedsRefundable)]
    assert (len(won), len(lost)) == (1, 7)
    await story.work()
    assert psp.total() == 2_000
    await story.end()


async def test_an_ended_payment_takes_no_further_action(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    await story.cancel(made.id)
    for ask in (story.cancel, story.capture, story.refund):
        with pytest.raises(PaymentWrongState):
            await ask(made.id)
    await story.end()


async def test_amounts_that_the_psp_cannot_write_are_refused_before_anything_is_sent(
    rt: Runtime, psp: BookPsp
) -> None:
    """Of some currencies the last digit must be 0: no dead letter comes of it later."""
    story = await Story.begin(rt, psp)
    held = await story.charge(10_000, capture_method="manual")
    paid = await story.charge(10_000)
    psp.step = 10
    with pytest.raises(Refused, match="multiples of 10"):
        await story.create(10_001)
    with pytest.raises(Refused, match="multiples of 10"):
        await story.capture(held.id, 4_001)
    with pytest.raises(Refused, match="multiples of 10"):
        await story.refund(paid.id, 1)
    await story.capture(held.id, 4_000)
    await story.refund(paid.id, 10)
    await story.work()
    assert psp.total() == 4_000 + 9_990
    assert await story.dead() == []
    await story.end()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ([], [("payment.succeeded", "processing")]),
        (["ok", "declined"], [("payment.failed", "processing")]),
        (["ok", "lost"], [("payment.succeeded", "processing")]),
        (["rejected"], []),
        (["not_sent", "busy"], [("payment.succeeded", "processing")]),
        (["ok", "pending"], []),
    ],
)
async def test_each_change_of_status_is_told_once_in_order(
    rt: Runtime, psp: BookPsp, script: list[str], told: list[tuple[str, str]]
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(script)
    made = await story.charge()
    for _ in range(2):
        await story.hurry()
    assert await story.told(made.id) == [("payment.created", None), *told]
    await story.end()


async def test_a_manual_capture_is_told_step_by_step(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    await story.capture(held.id)
    await story.work()
    refund = await story.refund(held.id, 1_000)
    await story.work()
    assert await story.told(held.id) == [
        ("payment.created", None),
        ("payment.requires_capture", "processing"),
        ("payment.processing", "requires_capture"),
        ("payment.succeeded", "processing"),
        ("refund.created", None),
        ("refund.succeeded", "pending"),
    ]
    row = await story.row(held.id)
    assert row.captured_at is not None
    assert row.available_on is not None
    assert (row.available_on - row.captured_at).days == 2
    assert (await story.get_refund(refund.id)).ledger_position is not None
    await story.end()


async def test_a_refused_charge_is_retried_as_a_new_attempt_with_a_new_key(
    rt: Runtime, psp: BookPsp
) -> None:
    from app import jobs

    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected", "ok", "rejected"])
    held = await story.charge()
    for _ in range(2):
        (letter,) = await story.dead()
        async with rt.sessions.begin() as session:
            await jobs.revive(session, job_id=letter.id, now=rt.clock(), why="cured")
        await story.hurry()
    paid = await story.get(held.id)
    assert (paid.status, paid.status_reason, paid.failure) == ("succeeded", None, None)
    tried, _ = await story.attempts(held.id)
    assert [row.state for row in tried] == ["rejected", "rejected", "succeeded"]
    keys = [key for step, key, _ in psp.requests if step == "confirm"]
    assert len(set(keys)) == 3
    assert psp.total() == 10_000
    await story.end()


async def test_an_odd_answer_changes_nothing_that_is_final(rt: Runtime, psp: BookPsp) -> None:
    """I6: whatever is heard later, an end stays what it was."""
    from app.payments import outcomes
    from app.payments.attempts import find
    from app.payments.change import lock
    from app.psp.port import Result

    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "declined"])
    failed = await story.charge()
    (attempt,), _ = await story.attempts(failed.id)
    for cls in ("succeeded", "authorized", "closed", "pending", "unknown", "rejected", "open"):
        async with rt.sessions.begin() as session:
            change = await lock(session, rt, payment_id=failed.id)
            known = await find(session, attempt.id)
            assert known is not None
            await outcomes.apply(change, known, Result(cls=cls))
            await change.save()
    assert (await story.get(failed.id)).status == "failed"
    assert len(await story.told(failed.id)) == 2
    await story.end()
