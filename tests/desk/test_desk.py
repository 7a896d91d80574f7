"""The review desk: a person's finding counts only when the PSP agrees, and once."""

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from app.audit.models import AuditRow
from app.audit.operations import Actor
from app.desk import operations
from app.desk.operations import DecisionWrong, ReviewChanged, SamePerson
from app.ledger.models import Account
from app.payments import resolving
from app.payments.change import lock
from app.psp.port import RefundSeen
from app.reviews.models import Review
from app.runtime import Runtime
from tests.payments.story import Story, receive
from tests.support.psp import BookPsp, Charge
from tests.support.runtime import Clock

ADA = Actor(kind="user", id="usr_ada", name="ada@example.com")
BEA = Actor(kind="user", id="usr_bea", name="bea@example.com")
WHY = "Seen in the PSP's own dashboard."


async def the_item(rt: Runtime) -> Review:
    async with rt.sessions.read() as session:
        (found,) = await session.scalars(select(Review))
        return found


async def decide(
    rt: Runtime, item: Review, decision: str, evidence: str = "", **changes: Any
) -> None:
    fields: dict[str, Any] = {"version": item.version, "reason": WHY, "confirmed": True}
    fields |= {"actor": ADA} | changes
    async with rt.sessions.begin() as session:
        await operations.decide(
            session, rt=rt, review_id=item.id, decision=decision, evidence=evidence, **fields
        )


async def answer_second(rt: Runtime, actor: Actor, act: Any = operations.agree) -> None:
    current = await the_item(rt)
    async with rt.sessions.begin() as session:
        await act(session, rt=rt, actor=actor, review_id=current.id, version=current.version)


async def audited(rt: Runtime) -> list[str]:
    async with rt.sessions.read() as session:
        query = select(AuditRow).where(AuditRow.action.like("review.%")).order_by(AuditRow.id)
        return [f"{row.action} {row.actor_name}" for row in await session.scalars(query)]


async def suspense(rt: Runtime) -> int:
    async with rt.sessions.read() as session:
        found = await session.scalars(select(Account.balance).where(Account.kind == "suspense"))
        return sum(found)


async def lost_refund(
    rt: Runtime, psp: BookPsp, clock: Clock, *, happened: bool, amount: int = 1_000
) -> tuple[Story, str, Charge]:
    """A refund that two look-ups could not find after its key's time."""
    story = await Story.begin(rt, psp)
    paid = await story.charge(max(10_000, amount))
    psp.script.append("lost" if happened else "never")
    refund = await story.refund(paid.id, amount)
    await story.work()
    (charge,) = psp.charges.values()
    hidden, charge.refunds = charge.refunds, {}
    clock.forward(hours=24)
    await story.hurry()
    clock.forward(minutes=11)
    await story.hurry()
    charge.refunds = hidden
    assert (await the_item(rt)).state == "open"
    return story, refund.id, charge


async def test_what_the_psp_confirms_is_recorded_as_any_answer_is(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F24: the PSP's list was late for a day; a person names the refund."""
    story, refund_id, charge = await lost_refund(rt, psp, clock, happened=True)
    await decide(rt, await the_item(rt), "happened", next(iter(charge.refunds)))
    await story.hurry()
    assert (await story.get_refund(refund_id)).status == "succeeded"
    item = await the_item(rt)
    assert (item.state, item.closed_how) == (
        "closed",
        "Recorded as happened, as the PSP confirmed.",
    )
    assert await audited(rt) == ["review.decide ada@example.com", "review.close counterfoil"]
    assert psp.total() == 9_000
    await story.end()


async def test_an_id_that_the_psp_does_not_confirm_changes_nothing(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story, refund_id, _ = await lost_refund(rt, psp, clock, happened=True)
    await decide(rt, await the_item(rt), "happened", "re_of_somebody_else")
    await story.hurry()
    item = await the_item(rt)
    assert (item.state, item.stage) == ("open", None)
    assert "not re_of_somebody_else" in (item.finding or "")
    assert (await story.get_refund(refund_id)).status == "pending"
    await story.end()


async def test_what_did_not_happen_fails_and_its_money_comes_back(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F22, F23: not found by two look-ups, nor by a person, nor by the last look."""
    story, refund_id, _ = await lost_refund(rt, psp, clock, happened=False)
    await decide(rt, await the_item(rt), "did_not_happen")
    await story.hurry()
    assert (await story.get_refund(refund_id)).status == "failed"
    assert (await the_item(rt)).state == "closed"
    assert psp.total() == 10_000
    await story.end()


async def test_who_says_that_it_did_not_happen_is_corrected_by_the_psp(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story, refund_id, _ = await lost_refund(rt, psp, clock, happened=True)
    await decide(rt, await the_item(rt), "did_not_happen")
    await story.hurry()
    assert (await story.get_refund(refund_id)).status == "succeeded"
    assert (await the_item(rt)).closed_how == "Settled by the PSP's word."
    await story.end()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"decision": "refunded", "evidence": "re_1"}, "decision"),
        ({"decision": ""}, "decision"),
        ({"decision": "happened"}, "evidence"),
        ({"decision": "happened", "evidence": "x" * 256}, "evidence"),
        ({"decision": "did_not_happen", "confirmed": False}, "confirmed-on"),
        ({"decision": "did_not_happen", "reason": "short"}, "reason"),
    ],
)
async def test_a_finding_without_its_evidence_is_refused(
    rt: Runtime, psp: BookPsp, clock: Clock, changes: dict[str, Any], field: str
) -> None:
    await lost_refund(rt, psp, clock, happened=False)
    item = await the_item(rt)
    with pytest.raises(DecisionWrong) as refused:
        await decide(rt, item, changes.pop("decision"), **changes)
    assert refused.value.param == field
    assert (await the_item(rt)).version == item.version
    assert await audited(rt) == []


async def test_two_admins_and_a_stale_page_have_one_effect(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F59, F69."""
    story, refund_id, _ = await lost_refund(rt, psp, clock, happened=False)
    item = await the_item(rt)
    answers = await asyncio.gather(
        *(decide(rt, item, "did_not_happen", actor=who) for who in (ADA, BEA, ADA)),
        return_exceptions=True,
    )
    assert sum(one is None for one in answers) == 1
    assert sum(isinstance(one, ReviewChanged) for one in answers) == 2
    await story.hurry()
    with pytest.raises(ReviewChanged):
        await decide(rt, item, "did_not_happen")
    assert (await story.get_refund(refund_id)).status == "failed"
    await story.end()


async def test_above_the_limit_a_second_person_must_agree(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story, refund_id, _ = await lost_refund(rt, psp, clock, happened=False, amount=100_001)
    await decide(rt, await the_item(rt), "did_not_happen")
    await story.hurry()
    item = await the_item(rt)
    assert (item.state, item.stage) == ("open", "second")
    assert (await story.get_refund(refund_id)).status == "pending"

    with pytest.raises(SamePerson):
        await answer_second(rt, ADA)
    await answer_second(rt, BEA, operations.take_back)
    assert (await the_item(rt)).stage is None
    await decide(rt, await the_item(rt), "did_not_happen")
    await story.hurry()
    await answer_second(rt, BEA)
    await story.hurry()
    item = await the_item(rt)
    assert (item.state, item.second_name) == ("closed", "bea@example.com")
    assert await audited(rt) == [
        "review.decide ada@example.com",
        "review.refuse bea@example.com",
        "review.decide ada@example.com",
        "review.agree bea@example.com",
        "review.close counterfoil",
    ]
    assert (await story.get_refund(refund_id)).status == "failed"
    await story.end()


async def test_a_decision_waits_while_the_psp_does_not_answer(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F13, F14: the job is put off; nothing is decided without the PSP."""
    story, refund_id, _ = await lost_refund(rt, psp, clock, happened=False)
    await decide(rt, await the_item(rt), "did_not_happen")
    psp.looks.append("lost")
    await story.hurry()
    assert (await the_item(rt)).stage == "looking"
    await story.hurry()
    assert (await story.get_refund(refund_id)).status == "failed"
    await story.end()


async def test_a_fresh_key_is_waited_for(rt: Runtime, psp: BookPsp, clock: Clock) -> None:
    """F23: "not there" is no proof while the request may still be under way."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.append("never")
    refund = await story.refund(paid.id, 1_000)
    await story.work()
    attempt = (await story.attempts(paid.id))[0][-1]
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=paid.id)
        change.review(attempt, "unknown_outcome", "Asked early.")
        await change.save()
    psp.script.append("never")  # What the janitor sends again meanwhile.
    await decide(rt, await the_item(rt), "did_not_happen")
    await story.work()
    item = await the_item(rt)
    assert item.state == "open"
    assert "still counts" in (item.finding or "")
    assert (await story.get_refund(refund.id)).status == "pending"
    await story.end()


async def test_unexpected_money_is_closed_with_the_refund_that_was_made_at_the_psp(
    rt: Runtime, psp: BookPsp
) -> None:
    """F29: the books follow: what lay in suspense has gone back."""
    story, made, attempt = await Story.with_page(rt, psp)
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=made.id)
        change.move("expired")
        await change.save()
    charge = psp.pay(attempt.id)
    await resolving.resolve(rt, attempt_id=attempt.id)
    await story.work()
    assert await suspense(rt) == 10_000
    item = await the_item(rt)
    await decide(rt, item, "refunded", "re_none")
    await story.work()
    assert "no such refund" in ((await the_item(rt)).finding or "")
    seen = _refund_by_hand(charge, 10_000)
    await decide(rt, await the_item(rt), "refunded", seen)
    await story.work()
    assert (await the_item(rt)).state == "closed"
    assert await suspense(rt) == 0
    assert psp.total() == 0
    assert (await story.get(made.id)).status == "expired"
    await story.end()


def _refund_by_hand(charge: Charge, amount: int, name: str = "re_by_hand") -> str:
    seen = RefundSeen(
        psp_reference=name, amount=amount, currency=charge.currency, status="succeeded"
    )
    charge.refunds = charge.refunds | {seen.psp_reference: seen}
    return seen.psp_reference


async def test_a_charge_of_another_amount_goes_back_and_its_payment_fails(
    rt: Runtime, psp: BookPsp
) -> None:
    """F21: the wallet is never touched."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    psp.amounts["charge"] = 10_100
    await story.work()
    assert (await story.get(made.id)).status_reason == "held_for_review"
    (charge,) = psp.charges.values()
    await decide(rt, await the_item(rt), "refunded", _refund_by_hand(charge, 10_100))
    await story.work()
    failed = await story.get(made.id)
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.code == "refunded_at_psp"
    assert (await suspense(rt), psp.total()) == (0, 0)
    assert (await the_item(rt)).state == "closed"
    await story.end()


async def test_what_goes_back_in_parts_is_booked_as_it_goes(rt: Runtime, psp: BookPsp) -> None:
    """The events were lost; a person names the refunds, and needs nobody to agree to a fact."""
    rt.settings = msgspec.structs.replace(rt.settings, second_person_above=1_000)
    story = await Story.begin(rt, psp)
    await story.create(payment_method="pm_card_visa")
    psp.amounts["charge"] = 10_100
    await story.work()
    (charge,) = psp.charges.values()
    first = _refund_by_hand(charge, 4_000)
    await decide(rt, await the_item(rt), "refunded", first)
    await story.work()
    item = await the_item(rt)
    assert (item.state, item.stage, item.amount) == ("open", None, 6_100)
    assert item.finding == "The PSP says: 40.00 EUR of 101.00 EUR went back."
    assert await suspense(rt) == 6_100
    await decide(rt, item, "refunded", _refund_by_hand(charge, 6_100, "re_rest"))
    await story.work()
    assert ((await the_item(rt)).state, await suspense(rt), psp.total()) == ("closed", 0, 0)
    await story.end()


async def test_a_decision_about_an_amount_that_has_changed_meanwhile_is_asked_again(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    await story.create(payment_method="pm_card_visa")
    psp.amounts["charge"] = 10_100
    await story.work()
    (charge,) = psp.charges.values()
    await decide(rt, await the_item(rt), "refunded", "re_by_hand")
    part = _refund_by_hand(charge, 4_000)
    await receive(
        rt,
        "evt_1",
        type="refund.created",
        about="refund",
        psp_reference=part,
        charge_reference=charge.id,
    )
    await story.work()
    item = await the_item(rt)
    assert (item.state, item.stage, item.amount) == ("open", None, 6_100)
    await decide(rt, item, "refunded", _refund_by_hand(charge, 6_100, "re_rest"))
    await story.work()
    assert (await the_item(rt)).state == "closed"
    await story.end()


async def test_a_charge_that_stays_unknown_is_recorded_by_its_id(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F12: look-ups by our id find nothing, a person has found the intent."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    made = await story.charge()
    psp.looks.extend(["lost"] * 3)
    clock.forward(hours=25)
    await story.hurry()
    psp.looks.clear()
    (charge,) = psp.charges.values()
    await decide(rt, await the_item(rt), "happened", charge.id)
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert (await the_item(rt)).state == "closed"
    assert psp.total() == 10_000
    await story.end()
