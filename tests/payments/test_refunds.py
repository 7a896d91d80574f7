"""Refunds: set aside first, sent once, late answers, and money that comes back."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from app.jobs import Job
from app.ledger.models import PostingRow
from app.payments import resolving, schemas
from app.payments.operations import RefundAmountStale
from app.payments.settling import settle_due
from app.psp.port import RefundSeen
from app.runtime import Runtime
from tests.payments.story import Story, refund_event
from tests.support.psp import BookPsp, Charge


async def _postings(rt: Runtime, kind: str) -> list[PostingRow]:
    async with rt.sessions.read() as session:
        query = select(PostingRow).where(PostingRow.kind == kind).order_by(PostingRow.id)
        return list(await session.scalars(query))


async def _paid_back(
    rt: Runtime, psp: BookPsp, amount: int
) -> tuple[Story, schemas.PaymentShape, schemas.RefundShape, Charge]:
    """Return a shop with a payment of 10,000, of which the PSP has given a part back."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    refund = await story.refund(paid.id, amount)
    await story.work()
    (charge,) = psp.charges.values()
    return story, paid, refund, charge


async def test_a_refused_refund_is_held_for_the_operator_and_its_retry_is_a_new_request(
    rt: Runtime, psp: BookPsp
) -> None:
    story, paid, refund = await Story.with_refused_refund(rt, psp, 4_000)
    held = await story.get_refund(refund.id)
    assert (held.status, held.status_reason) == ("pending", "held_for_operator")
    assert (await story.get(paid.id)).amount_refundable == 6_000
    assert len(await story.dead()) == 1
    await story.retry_letters()
    done = await story.get_refund(refund.id)
    assert (done.status, done.status_reason) == ("succeeded", None)
    keys = [key for _, key, request in psp.requests if request.kind == "refund" and key]
    assert (len(keys), len(set(keys))) == (2, 2)
    assert psp.total() == 6_000
    await story.end()


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
async def test_a_refund_that_the_bank_decides_later_ends_by_its_event(
    rt: Runtime, psp: BookPsp, ending: Any
) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.append("pending")
    refund = await story.refund(paid.id, 4_000)
    await story.work()
    assert (await story.get_refund(refund.id)).status == "pending"
    (charge,) = psp.charges.values()
    await refund_event(story, psp.change_refund(ending), charge.id)
    assert (await story.get_refund(refund.id)).status == ending
    left = {"succeeded": 6_000, "failed": 10_000}[ending]
    assert (await story.get(paid.id)).amount_refundable == left
    assert psp.total() == left
    await story.end()


async def test_a_refund_that_failed_later_goes_back_to_where_the_rest_of_the_payment_lies_now(
    rt: Runtime, psp: BookPsp
) -> None:
    """The payment settles while its refund is under way."""
    story = await Story.begin(rt, psp, settle_delay_seconds=0)
    paid = await story.charge()
    psp.script.append("pending")
    refund = await story.refund(paid.id, 4_000)
    await story.work()
    assert await settle_due(rt) == 1
    await story.work()
    (charge,) = psp.charges.values()
    await refund_event(story, psp.change_refund("failed"), charge.id)
    assert (await story.get_refund(refund.id)).status == "failed"
    (release,) = await _postings(rt, "refund_release")
    assert all("merchant_pending" not in line[1] for line in release.transfers)
    assert (await story.row(paid.id)).amount_pending == 0
    await story.end()


async def test_a_reserve_that_is_refused_after_the_payment_settled_leaves_nothing_pending(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp, settle_delay_seconds=0, fee_return=False)
    paid = await story.charge()
    # More than is pending: the rest of it (the fee) is taken from an empty wallet.
    refund = await story.refund(paid.id, 10_000)
    assert await settle_due(rt) == 1
    await story.work()
    failed = await story.get_refund(refund.id)
    assert failed.failure is not None
    assert (failed.status, failed.failure.code) == ("failed", "insufficient_balance")
    assert psp.total() == 10_000
    assert not [request for _, key, request in psp.requests if request.kind == "refund" and key]
    from app.ledger.chart import account_id
    from app.ledger.models import Account

    async with rt.sessions.read() as session:
        name = account_id("test:0", "merchant_pending", story.who["merchant_id"], "eur")
        pending = await session.get(Account, name)
    assert pending is not None
    assert pending.balance == 0
    await story.end()


async def test_a_refund_that_was_paid_and_is_taken_back_tells_the_shop_once(
    rt: Runtime, psp: BookPsp
) -> None:
    """F20."""
    story, paid, refund, charge = await _paid_back(rt, psp, 4_000)
    back = psp.change_refund("failed")
    for number in (1, 2):
        await refund_event(story, back, charge.id, number)
    taken = await story.get_refund(refund.id)
    assert taken.failure is not None
    assert (taken.status, taken.failure.code) == ("failed", "taken_back")
    told = await story.told(paid.id)
    assert [kind for kind, _ in told if kind.startswith("refund.")] == [
        "refund.created",
        "refund.succeeded",
        "refund.failed",
    ]
    assert len(await _postings(rt, "refund_reversal")) == 1
    again = await story.refund(paid.id, 10_000)
    await story.work()
    assert (await story.get_refund(again.id)).status == "succeeded"
    assert psp.total() == 0
    await story.end()


async def test_a_refund_by_hand_takes_the_room_of_one_that_was_taken_back(
    rt: Runtime, psp: BookPsp
) -> None:
    """F27: the PSP lists the newest first, and nobody has told us yet that the other one failed."""
    story, paid, refund, charge = await _paid_back(rt, psp, 6_000)
    back = psp.change_refund("failed")
    hand = RefundSeen(psp_reference="re_hand", amount=7_000, currency="eur", status="succeeded")
    charge.refunds = {"re_hand": hand, **charge.refunds}
    await refund_event(story, hand, charge.id)
    assert (await story.get_refund(refund.id)).status == "failed"
    assert (await story.get(paid.id)).amount_refunded == 7_000
    await refund_event(story, back, charge.id, 2)
    assert await story.dead() == []
    assert psp.total() == 3_000
    await story.end()


async def test_a_second_refund_of_one_request_is_not_taken_for_the_first(
    rt: Runtime, psp: BookPsp
) -> None:
    """F20: the PSP's own mistake, which failed there; what the shop asked for was paid."""
    story, _, refund, charge = await _paid_back(rt, psp, 3_000)
    (first,) = charge.refunds.values()
    again = msgspec.structs.replace(first, psp_reference="re_again", status="failed")
    charge.refunds = {"re_again": again, **charge.refunds}
    await refund_event(story, again, charge.id)
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert await _postings(rt, "refund_reversal") == []
    assert psp.total() == 7_000
    await story.end()


async def test_a_second_refund_of_one_request_that_was_paid_is_booked_apart(
    rt: Runtime, psp: BookPsp
) -> None:
    """F20: the PSP paid twice for one request of ours, and the money has gone twice."""
    story, paid, refund, charge = await _paid_back(rt, psp, 3_000)
    (first,) = charge.refunds.values()
    again = msgspec.structs.replace(first, psp_reference="re_again")
    charge.refunds = {"re_again": again, **charge.refunds}
    for number in (1, 2):  # Told twice, booked once.
        await refund_event(story, again, charge.id, number)
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert (await story.get(paid.id)).amount_refunded == 6_000
    assert psp.total() == 4_000
    await story.end()


async def test_of_two_refunds_of_one_request_neither_is_booked_twice_while_ours_is_open(
    rt: Runtime, psp: BookPsp
) -> None:
    """F20: while our own is not known, the other may be it."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.append("pending")
    refund = await story.refund(paid.id, 3_000)
    await story.work()
    (charge,) = psp.charges.values()
    (first,) = charge.refunds.values()
    again = msgspec.structs.replace(first, psp_reference="re_again", status="succeeded")
    charge.refunds = {"re_again": again, **charge.refunds}
    await refund_event(story, again, charge.id)
    assert (await story.get(paid.id)).amount_refunded == 3_000
    charge.refunds[first.psp_reference].status = "succeeded"
    await refund_event(story, first, charge.id, 2)
    await story.hurry()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert (await story.get(paid.id)).amount_refunded == 6_000
    assert psp.total() == 4_000
    await story.end()


async def _arrives_late(
    rt: Runtime, psp: BookPsp
) -> tuple[Story, schemas.PaymentShape, schemas.RefundShape, Callable[[], RefundSeen]]:
    """Return a refund that was refused, and whose first request does arrive when it is called."""
    story, paid, refund = await Story.with_refused_refund(rt, psp)
    (charge,) = psp.charges.values()
    attempts, _ = await story.attempts(paid.id)

    def arrive() -> RefundSeen:
        late = RefundSeen(
            psp_reference="re_late",
            amount=3_000,
            currency="eur",
            status="succeeded",
            attempt_id=attempts[-1].id,
            installation=rt.installation,
        )
        charge.refunds = {"re_late": late, **charge.refunds}
        return late

    return story, paid, refund, arrive


async def test_a_refund_that_was_held_to_be_refused_and_arrives_is_the_one(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: its replay was refused, and the first request was under way for longer."""
    story, paid, refund, arrive = await _arrives_late(rt, psp)
    (charge,) = psp.charges.values()
    await refund_event(story, arrive(), charge.id)
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert (await story.get(paid.id)).amount_refunded == 3_000
    await story.retry_letters()
    assert psp.total() == 7_000
    await story.end()


@pytest.mark.parametrize("failed", [False, True])
async def test_a_refund_that_arrives_after_a_person_had_it_made_again_is_booked_beside_it(
    rt: Runtime, psp: BookPsp, *, failed: bool
) -> None:
    """F23, seed 522: the money has gone twice, and if the bank fails one, it is that one."""
    story, paid, refund, arrive = await _arrives_late(rt, psp)
    (charge,) = psp.charges.values()
    await story.retry_letters()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    late = arrive()
    await refund_event(story, late, charge.id)
    assert (await story.get(paid.id)).amount_refunded == 6_000
    (attempt,) = [one for one in (await story.attempts(paid.id))[0] if one.id == late.attempt_id]
    await resolving.look_back(rt, attempt_id=attempt.id)
    await story.work()
    assert (await story.get_refund(refund.id)).psp_reference != "re_late"
    if failed:
        charge.refunds["re_late"].status = "failed"
        await refund_event(story, late, charge.id, 2)
        assert (await story.get_refund(refund.id)).status == "succeeded"
        assert (await story.get(paid.id)).amount_refunded == 3_000
    assert psp.total() == (7_000 if failed else 4_000)
    await story.end()


async def test_which_of_two_refunds_is_whose_waits_until_the_second_is_known(
    rt: Runtime, psp: BookPsp
) -> None:
    """F23: the first arrived while the second was under way, too."""
    story, paid, refund, arrive = await _arrives_late(rt, psp)
    (charge,) = psp.charges.values()
    psp.script.append("never")
    await story.retry_letters()
    await refund_event(story, arrive(), charge.id)
    assert (await story.get_refund(refund.id)).status == "pending"
    assert (await story.get(paid.id)).amount_refunded == 3_000
    for _ in range(2):
        await story.hurry()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert (await story.get(paid.id)).amount_refunded == 6_000
    assert psp.total() == 4_000
    await story.end()


async def test_a_refund_made_by_hand_before_the_payment_was_known_is_adopted_with_it(
    rt: Runtime, psp: BookPsp
) -> None:
    """F27: the refund's own event came first and was nobody's."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    made = await story.charge()
    (charge,) = psp.charges.values()
    seen = RefundSeen(psp_reference="re_hand", amount=2_500, currency="eur", status="succeeded")
    charge.refunds = {"re_hand": seen}
    await story.hurry()
    paid = await story.get(made.id)
    assert (paid.status, paid.amount_refunded) == ("succeeded", 2_500)
    assert psp.total() == 7_500
    await story.end()


async def test_a_refund_for_another_amount_at_the_psp_is_reviewed(
    rt: Runtime, psp: BookPsp
) -> None:
    """F21."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.append("pending")
    refund = await story.refund(paid.id, 4_000)
    await story.work()
    (charge,) = psp.charges.values()
    (seen,) = charge.refunds.values()
    seen.amount, seen.status = 3_000, "succeeded"
    await refund_event(story, seen, charge.id)
    held = await story.get_refund(refund.id)
    assert (held.status, held.status_reason) == ("pending", "held_for_review")
    (letter,) = await story.dead()
    assert letter.kind == "janitor.resolve"
    await story.end()


async def test_the_amount_that_the_shop_believes_in_is_compared(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    await story.refund(paid.id, 4_000, amount_available=10_000)
    with pytest.raises(RefundAmountStale):
        await story.refund(paid.id, 4_000, amount_available=10_000)
    await story.work()
    assert psp.total() == 6_000
    await story.end()


async def test_parts_return_exactly_the_fee(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge(9_999)
    for part in (1, 3_333, 5_000):
        await story.refund(paid.id, part)
        await story.work()
    await story.refund(paid.id)
    await story.work()
    after = await story.get(paid.id)
    assert (after.fee, after.net, after.amount_refunded) == (0, 0, 9_999)
    async with rt.sessions.read() as session:
        assert list(await session.scalars(select(Job.id).where(Job.state == "dead"))) == []
    await story.end()
