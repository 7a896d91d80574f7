"""F21: what was captured or refunded of another amount is booked so, by a person's word."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from app.desk import operations
from app.desk.operations import ReviewChanged
from app.payments import resolving
from app.payments.change import lock
from app.payments.models import Attempt, Refund
from app.psp.gates import LOOKUP, T
from app.psp.port import Result
from app.reviews.models import Review
from app.runtime import Runtime
from tests.desk.test_desk import BEA, answer_second, decide, lost_refund, suspense, the_item
from tests.payments.story import Story, refund_event
from tests.support.gates import OpenGates
from tests.support.psp import BookPsp, Charge
from tests.support.runtime import Clock


async def _booked(story: Story, name: str) -> None:
    """Have a person say that it happened with another amount, and the workers compare."""
    await decide(story.rt, await the_item(story.rt), "otherwise", name)
    await story.hurry()


async def _captured(
    rt: Runtime, psp: BookPsp, taken: int, asked: int = 10_000
) -> tuple[Story, str, Charge]:
    """A hold of 10,000 of which the PSP took another amount than it was asked for."""
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    psp.amounts["capture"] = taken
    await story.capture(held.id, asked)
    await story.hurry()
    assert (await story.get(held.id)).status_reason == "held_for_review"
    (charge,) = psp.charges.values()
    return story, held.id, charge


async def _refunded(rt: Runtime, psp: BookPsp, paid_back: int) -> tuple[Story, str, str]:
    """A refund of 1,000 of which the PSP paid another amount."""
    story = await Story.begin(rt, psp, fee_basis_points=290, fee_fixed=25)
    paid = await story.charge()
    psp.amounts["refund"] = paid_back
    refund = await story.refund(paid.id, 1_000)
    await story.hurry()
    assert (await story.get_refund(refund.id)).status_reason == "held_for_review"
    (charge,) = psp.charges.values()
    return story, refund.id, next(iter(charge.refunds))


@pytest.mark.parametrize(("asked", "taken"), [(10_000, 9_000), (4_000, 10_000)])
async def test_a_capture_of_another_amount_is_booked_as_it_was_taken(
    rt: Runtime, psp: BookPsp, asked: int, taken: int
) -> None:
    story, payment_id, charge = await _captured(rt, psp, taken, asked)
    await _booked(story, charge.id)
    paid = await story.get(payment_id)
    assert (paid.status, paid.amount_captured) == ("succeeded", taken)
    item = await the_item(rt)
    assert (item.state, item.closed_how) == (
        "closed",
        "Recorded with the amount that the PSP shows.",
    )
    assert (await suspense(rt), psp.total()) == (0, taken)
    await story.end()


@pytest.mark.parametrize("paid_back", [400, 2_500])
async def test_a_refund_of_another_amount_is_booked_as_it_was_paid(
    rt: Runtime, psp: BookPsp, paid_back: int
) -> None:
    story, refund_id, name = await _refunded(rt, psp, paid_back)
    await _booked(story, name)
    ours = await story.get_refund(refund_id)
    assert ours.status == "failed"
    assert ours.failure is not None
    assert "another amount" in (ours.failure.message or "")
    async with rt.sessions.read() as session:
        (made,) = await session.scalars(select(Refund).where(Refund.psp_reference == name))
    assert (made.amount, made.status, made.source) == (paid_back, "succeeded", "psp")
    assert (await story.get(ours.payment)).amount_refunded == paid_back
    assert (await the_item(rt)).state == "closed"
    assert psp.total() == 10_000 - paid_back
    await story.hurry()  # Whatever still speaks of it, it is booked once.
    assert (await story.get(ours.payment)).amount_refunded == paid_back
    await story.end()


async def test_above_the_limit_another_amount_needs_a_second_person_as_well(
    rt: Runtime, psp: BookPsp
) -> None:
    """Also where little was taken of much."""
    story = await Story.begin(rt, psp)
    held = await story.charge(200_000, capture_method="manual")
    psp.amounts["capture"] = 90_000
    await story.capture(held.id)
    await story.hurry()
    (charge,) = psp.charges.values()
    await _booked(story, charge.id)
    assert (await the_item(rt)).stage == "second"
    assert (await story.get(held.id)).amount_captured == 0
    await answer_second(rt, BEA)
    await story.hurry()
    assert (await story.get(held.id)).amount_captured == 90_000
    await story.end()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "does not show"),
        ({"captured": 10_000}, "what we asked for"),
        ({"captured": 10_001}, "can be booked"),
        ({"captured": 0}, "no money has moved"),
        ({"installation": "ins_other"}, "something else"),
        ({"currency": "usd"}, "another currency"),
    ],
)
async def test_another_amount_is_booked_only_of_what_is_surely_ours(
    rt: Runtime, psp: BookPsp, change: dict[str, Any], words: str
) -> None:
    story, payment_id, charge = await _captured(rt, psp, 9_000)
    for name, value in change.items():
        setattr(charge, name, value)
    named = charge.id if change else "pi_of_somebody_else"
    await _booked(story, named)
    item = await the_item(rt)
    assert (item.state, item.stage) == ("open", None)
    assert words in (item.finding or "")
    assert (await story.get(payment_id)).amount_captured == 0
    await story.end()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"psp_reference": "re_other"}, "does not show"),
        ({"status": "pending"}, "no money has moved"),
        ({"attempt_id": "att_other"}, "something else"),
        ({"amount": 10_001}, "can be booked"),
    ],
)
async def test_another_refund_is_booked_only_when_it_is_surely_ours(
    rt: Runtime, psp: BookPsp, change: dict[str, Any], words: str
) -> None:
    story, refund_id, name = await _refunded(rt, psp, 400)
    await decide(rt, await the_item(rt), "otherwise", name)
    (charge,) = psp.charges.values()
    seen = charge.refunds[name]
    for field, value in change.items():
        setattr(seen, field, value)
    await story.hurry()
    item = await the_item(rt)
    assert (item.state, item.stage) == ("open", None)
    assert words in (item.finding or "")
    assert (await story.get_refund(refund_id)).status == "pending"
    await story.end()


async def test_the_second_person_agrees_to_what_is_booked(rt: Runtime, psp: BookPsp) -> None:
    """Which may be more than was in question, and must not change after that."""
    rt.settings = msgspec.structs.replace(rt.settings, second_person_above=2_000)
    story, refund_id, name = await _refunded(rt, psp, 400)
    (charge,) = psp.charges.values()
    seen = charge.refunds[name]
    seen.amount = 2_100
    await _booked(story, name)
    item = await the_item(rt)
    assert (item.stage, item.amount) == ("second", 2_100)
    seen.amount = 2_200
    await answer_second(rt, BEA)
    await story.hurry()
    item = await the_item(rt)
    assert (item.state, item.stage) == ("open", None)
    assert "not what was agreed to" in (item.finding or "")
    await decide(rt, item, "otherwise", name)
    await story.hurry()
    await answer_second(rt, BEA)
    await story.hurry()
    ours = await story.get_refund(refund_id)
    assert (await story.get(ours.payment)).amount_refunded == 2_200
    await story.end()


async def test_a_refund_of_another_amount_that_is_taken_back_later_is_compensated(
    rt: Runtime, psp: BookPsp
) -> None:
    story, refund_id, name = await _refunded(rt, psp, 400)
    await _booked(story, name)
    (charge,) = psp.charges.values()
    await refund_event(story, psp.change_refund("failed"), charge.id)
    ours = await story.get_refund(refund_id)
    assert (await story.get(ours.payment)).amount_refundable == psp.total() == 10_000
    await story.end()


async def test_another_refund_that_names_the_attempt_is_not_taken_for_its_own(
    rt: Runtime, psp: BookPsp
) -> None:
    """It is booked as well, as one that the PSP made by itself."""
    story, refund_id, name = await _refunded(rt, psp, 400)
    (charge,) = psp.charges.values()
    again = msgspec.structs.replace(charge.refunds[name], psp_reference="re_again", amount=600)
    charge.refunds = charge.refunds | {"re_again": again}
    await _booked(story, "re_again")
    assert "does not show re_again" in ((await the_item(rt)).finding or "")
    await _booked(story, name)
    await refund_event(story, again, charge.id)
    ours = await story.get_refund(refund_id)
    assert (await story.get(ours.payment)).amount_refundable == psp.total() == 9_000
    await story.end()


async def test_a_look_that_ends_later_opens_nothing_again(rt: Runtime, psp: BookPsp) -> None:
    story, refund_id, name = await _refunded(rt, psp, 400)
    item = await the_item(rt)
    await decide(rt, item, "otherwise", name)
    await story.hurry()
    await resolving.look_back(rt, attempt_id=item.attempt_id)
    assert (await the_item(rt)).state == "closed"
    assert (await story.get_refund(refund_id)).status_reason is None
    async with rt.sessions.begin() as session:
        with pytest.raises(ReviewChanged):
            await operations.look(session, rt=rt, review_id=item.id)
    await story.end()


async def test_a_refund_of_another_amount_that_then_fails_comes_back_by_itself(
    rt: Runtime, psp: BookPsp
) -> None:
    story, refund_id, _ = await _refunded(rt, psp, 400)
    (charge,) = psp.charges.values()
    await refund_event(story, psp.change_refund("failed"), charge.id)
    ours = await story.get_refund(refund_id)
    assert ours.status == "failed"
    assert (await story.get(ours.payment)).amount_refundable == psp.total() == 10_000
    assert (await the_item(rt)).closed_how == "Settled by the PSP's word."
    await story.end()


async def test_what_was_not_found_and_turns_up_with_another_amount_can_be_booked_so(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story, refund_id, charge = await lost_refund(rt, psp, clock, happened=True)
    (name,) = charge.refunds
    charge.refunds[name].amount = 400
    await resolving.look_back(rt, attempt_id=(await the_item(rt)).attempt_id)
    async with rt.sessions.read() as session:
        found = list(await session.scalars(select(Review).order_by(Review.id)))
    assert [(one.kind, one.state) for one in found] == [
        ("unknown_outcome", "open"),
        ("mismatch", "open"),
    ]
    await decide(rt, found[1], "otherwise", name)
    await story.hurry()
    ours = await story.get_refund(refund_id)
    assert (await story.get(ours.payment)).amount_refunded == 400
    async with rt.sessions.read() as session:
        assert {one.state for one in await session.scalars(select(Review))} == {"closed"}
    await story.end()


async def test_a_capture_that_was_made_at_the_psp_instead_opens_no_item(
    rt: Runtime, psp: BookPsp
) -> None:
    """It is recorded through the hold; a look at our own, which had no effect, sees the same."""
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    psp.script.append("never")
    await story.capture(held.id, 4_000)
    await story.work()
    hold, ours = (await story.attempts(held.id))[0]
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=held.id)
        attempt = await session.get_one(Attempt, ours.id)
        await resolving.did_not_happen(change, attempt, code="not_charged")
        await change.save()
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", 6_000
    await resolving.look_at_hold(rt, attempt_id=hold.id)
    await resolving.look_back(rt, attempt_id=ours.id)
    await story.work()
    paid = await story.get(held.id)
    assert (paid.status, paid.amount_captured) == ("succeeded", 6_000)
    async with rt.sessions.read() as session:
        assert (await session.scalars(select(Review))).all() == []
    await story.end()


class _ShutOnce(OpenGates):
    """Turns the second look-up away: the list of refunds comes after the look at the attempt."""

    looks = 0

    async def through(
        self,
        connection_id: str,
        operation: str,
        send: Callable[[], Awaitable[T]],
        *,
        retry: bool = False,
    ) -> T | Result:
        self.looks += operation == LOOKUP
        if self.looks == 2:
            return Result(cls="not_sent", turned_away=True)
        return await super().through(connection_id, operation, send, retry=retry)


async def test_the_list_of_refunds_passes_the_gate_and_is_waited_for(
    rt: Runtime, psp: BookPsp
) -> None:
    story, refund_id, name = await _refunded(rt, psp, 400)
    rt.made_gates = gates = _ShutOnce(rt)
    await _booked(story, name)
    assert gates.looks == 2
    assert (await the_item(rt)).stage == "looking"
    await story.hurry()
    assert gates.looks == 4
    assert (await story.get_refund(refund_id)).status == "failed"
    await story.end()
