"""Money that fits no payment: held apart, until the PSP's own list shows that it went back."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import select, update

from app import jobs
from app.inbox.models import ReceivedEvent
from app.jobs import Job
from app.ledger.models import Account, PostingRow
from app.payments import outcomes, resolving, schemas
from app.payments.change import attempts_of, lock
from app.payments.models import Attempt, Payment
from app.payments.suspense import Apart
from app.psp.port import RefundSeen, Result
from app.reviews.models import Review
from app.runtime import Runtime
from tests.payments.story import Story, receive, refund_event
from tests.support.psp import BookPsp, Charge

TOOK = 10_100


def by_hand(number: int, amount: int, status: str = "succeeded") -> RefundSeen:
    seen = {"psp_reference": f"re_hand_{number}", "amount": amount, "currency": "eur"}
    return msgspec.convert(seen | {"status": status}, RefundSeen)


def shows(charge: Charge, *refunds: RefundSeen) -> None:
    """Have the PSP list these refunds of a charge."""
    charge.refunds = {one.psp_reference: one for one in refunds}


async def held_apart(rt: Runtime, psp: BookPsp) -> tuple[Story, schemas.PaymentShape, Charge]:
    """Return a shop with a payment of 10,000 of which the PSP took 10,100."""
    story = await Story.begin(rt, psp)
    psp.amounts["charge"] = TOOK
    made = await story.charge()
    assert (made.status, made.status_reason) == ("processing", "held_for_review")
    (charge,) = psp.charges.values()
    assert await in_suspense(rt) == TOOK
    return story, made, charge


async def in_suspense(rt: Runtime) -> int:
    async with rt.sessions.read() as session:
        found = await session.scalars(select(Account.balance).where(Account.kind == "suspense"))
        return sum(found)


async def items(rt: Runtime) -> list[tuple[str, str, int]]:
    async with rt.sessions.read() as session:
        found = await session.scalars(select(Review).order_by(Review.id))
        return [(one.kind, one.state, one.amount) for one in found]


async def letters(story: Story) -> dict[str, str]:
    return {letter.kind: letter.reason or "" for letter in await story.dead()}


async def test_what_went_back_closes_its_item_and_ends_its_payment(
    rt: Runtime, psp: BookPsp
) -> None:
    """F21, F27: nobody needs to write down what the PSP shows."""
    story, made, charge = await held_apart(rt, psp)
    back = by_hand(1, TOOK)
    shows(charge, back)
    for number in (1, 2):  # The second event finds it done.
        await refund_event(story, back, charge.id, number)
    ended = await story.get(made.id)
    assert ended.status == "failed"
    assert ended.failure is not None
    assert ended.failure.code == "refunded_at_psp"
    assert await items(rt) == [("mismatch", "closed", TOOK)]
    assert (await in_suspense(rt), psp.total()) == (0, 0)
    assert "inbox.apply" not in await letters(story)
    await story.end()


async def test_the_item_says_how_much_has_not_gone_back(rt: Runtime, psp: BookPsp) -> None:
    story, made, charge = await held_apart(rt, psp)
    first, second = by_hand(1, 4_000), by_hand(2, TOOK - 4_000)
    shows(charge, first)
    await refund_event(story, first, charge.id, 1)
    assert await items(rt) == [("mismatch", "open", TOOK - 4_000)]
    assert await in_suspense(rt) == TOOK - 4_000
    assert (await story.get(made.id)).status == "processing"
    shows(charge, first, second)
    await refund_event(story, second, charge.id, 2)
    assert (await items(rt))[0][1] == "closed"
    assert await in_suspense(rt) == 0
    await story.end()


async def test_what_the_bank_sends_back_is_held_apart_and_asked_about_again(
    rt: Runtime, psp: BookPsp
) -> None:
    """F20: the refund of money that fits nothing fails after all."""
    story, made, charge = await held_apart(rt, psp)
    gone = by_hand(1, TOOK)
    shows(charge, gone)
    await refund_event(story, gone, charge.id, 1)
    failed = by_hand(1, TOOK, "failed")
    shows(charge, failed)
    for number in (2, 3):
        await refund_event(story, failed, charge.id, number)
    assert await items(rt) == [
        ("mismatch", "closed", TOOK),
        ("unexpected_receipt", "open", TOOK),
    ]
    assert (await in_suspense(rt), psp.total()) == (TOOK, TOOK)
    again = by_hand(2, TOOK)
    shows(charge, failed, again)
    await refund_event(story, again, charge.id, 4)
    assert [state for _, state, _ in await items(rt)] == ["closed", "closed"]
    assert (await in_suspense(rt), psp.total()) == (0, 0)
    assert (await story.get(made.id)).status == "failed"
    await story.end()


async def test_a_part_that_comes_back_is_asked_about_in_the_item_that_is_open(
    rt: Runtime, psp: BookPsp
) -> None:
    story, _, charge = await held_apart(rt, psp)
    part = by_hand(1, 4_000)
    shows(charge, part)
    await refund_event(story, part, charge.id, 1)
    failed = by_hand(1, 4_000, "failed")
    shows(charge, failed)
    await refund_event(story, failed, charge.id, 2)
    assert await items(rt) == [("mismatch", "open", TOOK)]
    async with rt.sessions.read() as session:
        assert "took it back" in ((await session.scalars(select(Review.why))).one())
    await story.end()


async def test_a_refund_of_a_second_charge_is_never_taken_from_the_first(
    rt: Runtime, psp: BookPsp
) -> None:
    """I5, F29: it is heard of before its charge is, and the payment has been paid by another."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    made = await story.charge()
    (first,) = psp.charges.values()
    (letter,) = await story.dead()
    async with rt.sessions.begin() as session:
        await jobs.revive(session, job_id=letter.id, now=rt.clock(), why="cured")
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    first.status, first.captured = "succeeded", first.amount  # The request had lain somewhere.
    back = by_hand(1, 10_000)
    shows(first, back)
    await refund_event(story, back, first.id)
    await story.hurry()
    after = await story.get(made.id)
    assert (after.status, after.amount_refunded) == ("succeeded", 0)
    assert await items(rt) == [("unexpected_receipt", "closed", 10_000)]
    assert (await in_suspense(rt), psp.total()) == (0, 10_000)
    await story.end()


async def test_the_charge_of_a_page_that_was_frozen_is_known_once_it_is_paid(
    rt: Runtime, psp: BookPsp
) -> None:
    """F21: so far the page was all that was known; its refund names the charge."""
    story = await Story.begin(rt, psp)
    psp.amounts["checkout"] = TOOK
    made = await story.create()
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=made.id)
        page = await session.get_one(Attempt, attempt.id)
        differs = Result(cls="mismatch", amount=TOOK, session_reference=page.session_reference)
        await outcomes.apply(change, page, differs, found=True)
        await change.save()
    assert (await story.get(made.id)).status_reason == "held_for_review"
    charge = psp.pay(attempt.id)
    await receive(rt, "evt_paid", psp_reference=charge.id, attempt_id=attempt.id)
    await story.work()
    back = by_hand(1, TOOK)
    shows(charge, back)
    await refund_event(story, back, charge.id)
    assert await items(rt) == [("mismatch", "closed", TOOK)]
    assert (await in_suspense(rt), psp.total()) == (0, 0)
    await story.end()


async def test_a_refund_tells_of_money_that_a_frozen_hold_became(rt: Runtime, psp: BookPsp) -> None:
    """F21: staff have captured it at the PSP and given it back; only the refund's event came."""
    story, made, charge = await held(rt, psp)
    charge.status, charge.captured = "succeeded", TOOK
    back = by_hand(1, TOOK)
    shows(charge, back)
    await refund_event(story, back, charge.id)
    assert await items(rt) == [("mismatch", "closed", TOOK)]
    assert (await story.get(made.id)).status == "failed"
    assert (await in_suspense(rt), psp.total()) == (0, 0)
    await story.end()


async def test_the_rest_of_a_hold_that_was_let_go_is_no_refund(rt: Runtime, psp: BookPsp) -> None:
    """I5: the PSP lists it beside the refunds; nothing is taken from the shop for it."""
    story = await Story.begin(rt, psp)
    made = await story.charge(capture_method="manual")
    await story.capture(made.id, 6_000)
    await story.work()
    (charge,) = psp.charges.values()
    rest = by_hand(1, 4_000, "released")
    shows(charge, rest)
    await refund_event(story, rest, charge.id)
    after = await story.get(made.id)
    assert (after.amount_captured, after.amount_refunded) == (6_000, 0)
    async with rt.sessions.read() as session:
        assert set(await session.scalars(select(ReceivedEvent.state))) == {"applied"}
    await story.end()


async def test_what_was_booked_before_keys_named_the_charge_is_not_booked_again(
    rt: Runtime, psp: BookPsp
) -> None:
    story, _, charge = await held_apart(rt, psp)
    back = by_hand(1, TOOK)
    shows(charge, back)
    await refund_event(story, back, charge.id, 1)
    async with rt.sessions.begin() as session:
        posting = await session.scalars(
            select(PostingRow).where(PostingRow.kind == "suspense_return")
        )
        posting.one().key = f"suspense_return:{back.psp_reference}"
    await refund_event(story, back, charge.id, 2)
    assert await in_suspense(rt) == 0
    failed = by_hand(1, TOOK, "failed")
    shows(charge, failed)
    await refund_event(story, failed, charge.id, 3)
    assert await in_suspense(rt) == TOOK
    await story.end()


async def test_a_refund_is_the_first_that_is_heard_of_money_after_the_end(
    rt: Runtime, psp: BookPsp
) -> None:
    """F29: all events of the charge were lost; the one of its refund has it looked up."""
    story = await Story.begin(rt, psp)
    made, attempt = await story.uncertain("lost")
    (charge,) = psp.charges.values()
    async with rt.sessions.begin() as session:
        payment = await session.get_one(Payment, made)
        payment.status, payment.status_reason, payment.finished_at = "failed", None, rt.clock()
        held = await session.get_one(Attempt, attempt.id)
        held.state, held.next_check_at, held.finished_at = "not_sent", None, rt.clock()
    back = by_hand(1, 10_000)
    shows(charge, back)
    await refund_event(story, back, charge.id)
    assert await items(rt) == [("unexpected_receipt", "closed", 10_000)]
    assert (await in_suspense(rt), psp.total()) == (0, 0)
    assert (await story.get(made)).status == "failed"
    await story.end()


async def test_a_refund_of_what_the_psp_does_not_show_waits_for_a_day(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "declined"])
    made = await story.charge()
    assert made.status == "failed"
    (charge,) = psp.charges.values()
    back = by_hand(1, 10_000)
    shows(charge, back)
    await refund_event(story, back, charge.id)
    waits = await due(rt, "inbox.apply")
    assert "nothing that it could have taken the money from" in (waits.reason or "")
    async with rt.sessions.begin() as session:
        old = rt.clock() - timedelta(hours=25)
        await session.execute(update(Job).values(created_at=old))
        await session.execute(update(Attempt).values(finished_at=old))
    await story.hurry()
    assert "Tried for 24 hours" in (await letters(story))["inbox.apply"]
    assert (await items(rt), await in_suspense(rt)) == ([], 0)
    await story.end()


async def due(rt: Runtime, kind: str) -> Job:
    async with rt.sessions.read() as session:
        query = select(Job).where(Job.kind == kind, Job.state == "due")
        return (await session.scalars(query)).one()


@pytest.mark.parametrize(
    ("refunds", "why"),
    [
        ([by_hand(1, TOOK), by_hand(2, 1)], "more gone back"),
        ([msgspec.structs.replace(by_hand(1, 100), currency="usd")], "another currency"),
    ],
)
async def test_what_cannot_have_been_taken_from_the_charge_is_a_persons_question(
    rt: Runtime, psp: BookPsp, refunds: Sequence[RefundSeen], why: str
) -> None:
    story, _, charge = await held_apart(rt, psp)
    shows(charge, *refunds)
    await refund_event(story, refunds[-1], charge.id)
    assert why in (await letters(story))["inbox.apply"]
    assert await in_suspense(rt) == TOOK
    assert await items(rt) == [("mismatch", "open", TOOK)]
    await story.end()


def test_a_refund_that_is_not_decided_moves_nothing() -> None:
    held = Apart(amount=100, account="a", returned={}, reversed=frozenset())
    waits = [by_hand(1, 100, "pending")]
    assert (held.left(waits), held.gone(waits), held.came_back(waits)) == (100, [], [])
    failed = [by_hand(1, 100, "failed")]
    assert held.came_back(failed) == []  # It was never booked as gone.


def test_what_is_left_is_counted_by_the_books_and_not_by_an_old_list() -> None:
    name = by_hand(1, 60).psp_reference
    held = Apart(amount=100, account="a", returned={name: 60}, reversed=frozenset({name}))
    old = [by_hand(1, 60), by_hand(2, 40)]
    assert [one.psp_reference for one in held.gone(old)] == [by_hand(2, 40).psp_reference]
    assert held.left(old) == 60


async def test_an_event_of_money_that_has_gone_back_is_no_news(rt: Runtime, psp: BookPsp) -> None:
    """F26, F27: it would be held apart a second time, and its event die of that."""
    story, made, charge = await held_apart(rt, psp)
    back = by_hand(1, TOOK)
    shows(charge, back)
    await refund_event(story, back, charge.id)
    (attempt,), _ = await story.attempts(made.id)
    for kind in ("payment_intent.succeeded", "payment_intent.payment_failed"):
        await receive(rt, kind, type=kind, psp_reference=charge.id, attempt_id=attempt.id)
    await story.hurry()
    async with rt.sessions.read() as session:
        assert set(await session.scalars(select(ReceivedEvent.state))) == {"applied"}
    assert [state for _, state, _ in await items(rt)] == ["closed"]
    assert await in_suspense(rt) == 0
    await story.end()


async def test_an_event_of_money_that_was_let_go_of_meanwhile_is_no_question(
    rt: Runtime, psp: BookPsp
) -> None:
    """F27: a person had the hold of another amount cancelled at the PSP, and closed its item."""
    story, made, charge = await held(rt, psp)
    charge.status = "canceled"
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=made.id)
        (attempt,) = await attempts_of(session, made.id)
        await resolving.did_not_happen(change, attempt, code="not_charged")
        await change.save()
    kind = "payment_intent.amount_capturable_updated"
    await receive(rt, "evt_late", type=kind, psp_reference=charge.id, attempt_id=attempt.id)
    await story.work()
    async with rt.sessions.read() as session:
        assert set(await session.scalars(select(ReceivedEvent.state))) == {"applied"}
    assert (await story.get(made.id)).status == "failed"
    await story.end()


async def held(rt: Runtime, psp: BookPsp) -> tuple[Story, schemas.PaymentShape, Charge]:
    """Return a shop with a payment of 10,000 of which the PSP holds 10,100."""
    story = await Story.begin(rt, psp)
    psp.amounts["charge"] = TOOK
    made = await story.charge(capture_method="manual")
    assert made.status_reason == "held_for_review"
    (charge,) = psp.charges.values()
    return story, made, charge


async def test_the_end_of_a_page_finds_its_money_held_apart_and_gone_back_already(
    rt: Runtime, psp: BookPsp
) -> None:
    """F27: the void of a page was still under way when the customer's money had gone back."""
    story, made, attempt = await Story.with_page(rt, psp)
    await story.cancel(made.id)
    psp.script.append("lost")
    await story.work()
    charge = next(iter(psp.charges.values()))
    charge.status, charge.amount, charge.captured = "succeeded", TOOK, TOOK
    await receive(rt, "evt_paid", psp_reference=charge.id, attempt_id=attempt.id)
    await story.work()
    assert await in_suspense(rt) == TOOK
    back = by_hand(1, TOOK)
    shows(charge, back)
    await refund_event(story, back, charge.id)
    for _ in range(3):
        await story.hurry()
    (_, void), _ = await story.attempts(made.id)
    assert void.state == "rejected"
    assert "janitor.resolve" not in await letters(story) or await in_suspense(rt) == 0
    assert [state for _, state, _ in await items(rt)] == ["closed"]
    assert (await in_suspense(rt), psp.total()) == (0, 0)
    await story.end()
