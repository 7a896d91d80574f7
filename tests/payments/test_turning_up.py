"""What was held to have had no effect, and turns up: it is booked once, and nothing is made twice.

A request may arrive after its answer was given up and its own replay refused.
"""

import pytest

from app.deadletters.operations import DiscardRefused, RetryRefused
from app.payments import outcomes, resolving
from app.payments.change import lock
from app.payments.models import Attempt, Refund
from app.payments.refunding import fail_refund
from app.psp.port import RefundSeen, Result
from app.runtime import Runtime
from tests.deadletters.letters import discard, retry
from tests.payments.story import Story, receive, refund_event
from tests.support.psp import BookPsp, Charge


def _of_attempt(charge: Charge, attempt_id: str, rt: Runtime, name: str) -> RefundSeen:
    seen = RefundSeen(
        psp_reference=name,
        amount=3_000,
        currency="eur",
        status="succeeded",
        attempt_id=attempt_id,
        installation=rt.installation,
    )
    charge.refunds = {**charge.refunds, name: seen}
    return seen


async def test_a_refused_replay_waits_for_the_request_before_it(rt: Runtime, psp: BookPsp) -> None:
    """F23: nobody is told of a refusal while an earlier request may still arrive."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never", "rejected"])
    made = await story.charge()
    await story.hurry()
    assert await story.dead() == []
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", charge.amount  # It arrives.
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert await story.dead() == []
    await story.end()


@pytest.mark.parametrize("bank", ["succeeded", "failed"])
async def test_of_two_attempts_of_a_refund_the_one_that_is_open_counts(
    rt: Runtime, psp: BookPsp, bank: str
) -> None:
    """F23: the first arrives and waits for the bank; the second is refused by then."""
    story, paid, refund = await Story.with_refused_refund(rt, psp)
    psp.script.append("rejected")
    await story.retry_letters()
    (letter,) = await story.dead()
    (charge,) = psp.charges.values()
    first = (await story.attempts(paid.id))[0][1]
    seen = _of_attempt(charge, first.id, rt, "re_late")
    seen.status = "pending"
    await refund_event(story, seen, charge.id)
    assert (await story.attempts(paid.id))[0][1].state == "sent"
    with pytest.raises(DiscardRefused):
        await discard(rt, letter.id)
    with pytest.raises(RetryRefused):
        await retry(rt, letter.id)
    seen.status = "succeeded" if bank == "succeeded" else "failed"
    await refund_event(story, seen, charge.id, 2)
    assert (await story.get_refund(refund.id)).status == bank
    assert psp.total() == {"succeeded": 7_000, "failed": 10_000}[bank]
    await story.end()


async def test_a_refund_that_was_given_up_and_is_paid_after_all_is_booked_beside_it(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: seen by a look at the attempt, whose event was lost."""
    story, paid, refund = await Story.with_refused_refund(rt, psp)
    (letter,) = await story.dead()
    await discard(rt, letter.id)
    assert (await story.get_refund(refund.id)).status == "failed"
    (charge,) = psp.charges.values()
    attempt = (await story.attempts(paid.id))[0][1]
    _of_attempt(charge, attempt.id, rt, "re_late")
    for _ in range(2):
        await resolving.look_back(rt, attempt_id=attempt.id)
    await story.work()
    assert (await story.get(paid.id)).amount_refunded == 3_000
    assert psp.total() == 7_000
    await story.end()


async def test_what_only_waits_to_be_sent_gives_way_to_the_charge_that_arrives(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: the customer is charged once."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    made = await story.charge()
    psp.script.append("not_sent")
    await story.retry_letters()
    (first, second), _ = await story.attempts(made.id)
    assert (first.state, second.state) == ("rejected", "created")
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", charge.amount
    await receive(rt, "evt_late", psp_reference=charge.id, attempt_id=first.id)
    await story.work()
    await story.hurry()
    (first, second), _ = await story.attempts(made.id)
    assert (first.state, second.state) == ("succeeded", "not_sent")
    assert psp.total() == 10_000
    await story.end()


async def test_what_only_waits_to_be_sent_gives_way_to_the_refund_that_arrives(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: the customer is paid back once."""
    story, paid, refund = await Story.with_refused_refund(rt, psp)
    psp.script.append("not_sent")
    await story.retry_letters()
    (charge,) = psp.charges.values()
    (_, first, second), _ = await story.attempts(paid.id)
    assert (first.state, second.state) == ("rejected", "created")
    await refund_event(story, _of_attempt(charge, first.id, rt, "re_late"), charge.id)
    for _ in range(2):
        await story.hurry()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert psp.total() == 7_000
    await story.end()


async def test_a_busy_replay_does_not_undo_what_was_seen_meanwhile(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: the first request holds the key, and the PSP decides later."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never", "busy"])
    made = await story.charge()
    (charge,) = psp.charges.values()
    (attempt,), _ = await story.attempts(made.id)

    async def arrives() -> None:
        charge.status = "processing"
        await resolving.look_back(rt, attempt_id=attempt.id)

    psp.meanwhile = arrives
    await story.hurry()
    (attempt,), _ = await story.attempts(made.id)
    assert attempt.state == "sent"
    charge.status, charge.captured = "succeeded", charge.amount
    await receive(rt, "evt_paid", psp_reference=charge.id, attempt_id=attempt.id)
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_a_second_refusal_waits_as_well(rt: Runtime, psp: BookPsp) -> None:
    """F23: of a worker that stood still with its replay out, while another one was refused."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never", "rejected"])
    made = await story.charge()
    await story.hurry()
    (attempt,), _ = await story.attempts(made.id)
    assert (attempt.state, attempt.code) == ("unknown", "rejected")
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=made.id)
        row = await session.get_one(Attempt, attempt.id)
        ruling = await outcomes.apply(change, row, Result(cls="rejected", message="No."))
        await change.save()
    assert ruling.action == "look"
    await story.forget_calls()
    await story.hurry()
    assert len(await story.dead()) == 1
    await story.end()


async def test_what_the_bank_failed_does_not_undo_a_persons_retry(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: the first request arrived, and came to nothing."""
    story, paid, refund = await Story.with_refused_refund(rt, psp)
    psp.script.append("not_sent")
    await story.retry_letters()
    (charge,) = psp.charges.values()
    (_, first, _), _ = await story.attempts(paid.id)
    seen = _of_attempt(charge, first.id, rt, "re_late")
    seen.status = "failed"
    await refund_event(story, seen, charge.id)
    await story.hurry()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert psp.total() == 7_000
    await story.end()


@pytest.mark.parametrize("bank", ["succeeded", "failed"])
async def test_a_refund_under_way_that_was_given_up_by_another_letter_is_booked_beside_it(
    rt: Runtime, psp: BookPsp, bank: str
) -> None:
    """F23: its refund has failed meanwhile; the bank may fail it as well."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.append("pending")
    refund = await story.refund(paid.id, 3_000)
    await story.work()
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=paid.id)
        row = await session.get_one(Refund, refund.id)
        fail_refund(change, row, code="discarded", message=None, reserved=True)
        await change.save()
    (charge,) = psp.charges.values()
    seen = psp.change_refund("succeeded" if bank == "succeeded" else "failed")
    for number in (1, 2):
        await refund_event(story, seen, charge.id, number)
    assert (await story.get_refund(refund.id)).status == "failed"
    left = {"succeeded": 7_000, "failed": 10_000}[bank]
    assert ((await story.get(paid.id)).amount_refundable, psp.total()) == (left, left)
    if bank == "succeeded":
        await refund_event(story, psp.change_refund("failed"), charge.id, 3)
        assert (await story.get(paid.id)).amount_refundable == psp.total() == 10_000
    await story.end()
