"""Money that fits no payment: held apart, until the PSP's own list shows that it went back."""

from collections.abc import Sequence

import msgspec
import pytest
from sqlalchemy import select

from app.ledger.models import Account
from app.payments import schemas
from app.payments.models import Attempt, Payment
from app.payments.suspense import Apart
from app.psp.port import RefundSeen
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
    assert await items(rt) == []
    assert await letters(story) == {}  # It is asked about again.
    assert await in_suspense(rt) == 0
    await story.end()


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
    held = Apart(amount=100, account="a", returned=frozenset(), reversed=frozenset())
    waits = [by_hand(1, 100, "pending")]
    assert (held.left(waits), held.gone(waits), held.came_back(waits)) == (100, [], [])
    failed = [by_hand(1, 100, "failed")]
    assert held.came_back(failed) == []  # It was never booked as gone.


async def test_an_event_of_money_that_has_gone_back_is_no_news(rt: Runtime, psp: BookPsp) -> None:
    """F26, F27: it would be held apart a second time, and its event die of that."""
    story, made, charge = await held_apart(rt, psp)
    back = by_hand(1, TOOK)
    shows(charge, back)
    await refund_event(story, back, charge.id)
    (attempt,), _ = await story.attempts(made.id)
    for kind in ("payment_intent.succeeded", "payment_intent.payment_failed"):
        await receive(rt, kind, type=kind, psp_reference=charge.id, attempt_id=attempt.id)
    await story.work()
    assert "inbox.apply" not in await letters(story)
    assert [state for _, state, _ in await items(rt)] == ["closed"]
    assert await in_suspense(rt) == 0
    await story.end()
