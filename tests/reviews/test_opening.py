"""Review items: opened with the fact, one a question, closed by the PSP's own word."""

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import select, update

from app.janitor import processing as janitor
from app.jobs import Job
from app.ledger.models import PostingRow
from app.payments import resolving
from app.payments.change import lock
from app.payments.models import Attempt, PspCall
from app.psp.port import Result
from app.reviews.models import Review
from app.reviews.operations import SETTLED
from app.runtime import Runtime
from app.verification import health
from app.verification.queries import verify
from tests.payments.story import Story, receive
from tests.support.psp import BookPsp, Charge
from tests.support.runtime import Clock


async def items(rt: Runtime) -> list[Review]:
    async with rt.sessions.read() as session:
        return list(await session.scalars(select(Review).order_by(Review.id)))


async def broken(rt: Runtime) -> set[str]:
    async with rt.sessions.snapshot() as session:
        return {one.invariant for one in (await verify(session)).violations}


async def _unknown(story: Story) -> str:
    story.psp.script.extend(["ok", "lost"])
    made = await story.charge()
    story.psp.looks.extend(["lost"] * 9)
    return made.id


async def test_an_hour_of_not_knowing_rings_and_a_day_asks_a_person_once(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F12, F22: nothing is failed by time alone; the item closes when the PSP speaks."""
    story = await Story.begin(rt, psp)
    payment_id = await _unknown(story)
    clock.forward(minutes=61)
    await story.hurry()
    async with rt.sessions.read() as session:
        seen = await health.health(session, now=rt.clock())
        day = await health.unknown_for(session, now=rt.clock(), longer_than=timedelta(hours=24))
    assert (seen.unknown.open, seen.unknown.late, day) == (1, 1, 0)
    assert health.sentence(seen, redis=True).tone == "bad"
    assert await items(rt) == []
    clock.forward(hours=23)
    await story.hurry()
    await story.hurry()
    (item,) = await items(rt)
    assert (item.kind, item.state, item.amount) == ("unknown_outcome", "open", 10_000)
    assert (await story.get(payment_id)).status_reason == "outcome_unknown"
    await story.end()
    psp.looks.clear()
    await story.resolved(payment_id)
    assert (await story.get(payment_id)).status == "succeeded"
    (item,) = await items(rt)
    assert (item.state, item.closed_how) == ("closed", SETTLED)
    await story.end()


async def test_a_person_is_asked_also_when_nobody_can_look(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F31: the look's job lies dead, so the clock's own sweep opens the item."""
    story = await Story.begin(rt, psp)
    await _unknown(story)
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Job)
            .where(Job.kind == "janitor.resolve")
            .values(state="dead", reason="ValueError", finished_at=rt.clock(), owner=None)
        )
    assert await janitor.ask_people(rt) == 0
    clock.forward(hours=24)
    assert await janitor.ask_people(rt) == 1
    assert await janitor.ask_people(rt) == 0
    assert [item.kind for item in await items(rt)] == ["unknown_outcome"]


async def test_the_checker_finds_an_old_unknown_that_nobody_was_asked_about(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story = await Story.begin(rt, psp)
    await _unknown(story)
    psp.looks.clear()
    async with rt.sessions.begin() as session:
        back = rt.clock() - timedelta(days=2)
        await session.execute(update(Attempt).values(first_sent_at=back))
        await session.execute(update(PspCall).values(started_at=rt.clock()))
    assert await broken(rt) == {"I16"}
    await janitor.ask_people(rt)
    assert await broken(rt) == set()
    async with rt.sessions.begin() as session:
        await session.execute(update(Review).values(state="closed"))
        await session.execute(update(Attempt).values(state="needs_review"))
    assert "I16" in await broken(rt)


async def test_a_refund_that_could_not_be_found_is_settled_when_it_turns_up(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F23, F24: a person is asked after two misses; the PSP's later word closes the question."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.append("lost")
    refund = await story.refund(paid.id, 1_000)
    await story.work()
    (charge,) = psp.charges.values()
    hidden, charge.refunds = charge.refunds, {}
    clock.forward(hours=24)
    await story.hurry()
    clock.forward(minutes=11)
    await story.hurry()
    assert (await story.get_refund(refund.id)).status_reason == "held_for_review"
    assert {(item.kind, item.state) for item in await items(rt)} == {("unknown_outcome", "open")}
    await story.end()
    charge.refunds = hidden
    attempts, _ = await story.attempts(paid.id)
    await resolving.resolve(rt, attempt_id=attempts[-1].id)
    await story.work()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    assert {item.closed_how for item in await items(rt)} == {SETTLED}
    sent = [key for _, key, request in psp.requests if key and request.kind == "refund"]
    assert len(sent) == 1
    await story.end()


async def test_an_answer_that_lies_asks_nobody(
    rt: Runtime, psp: BookPsp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: what the PSP keeps is as it was asked for, and a look-up shows it."""
    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    other = psp.send

    async def lying(step: str, *args: Any, **fields: Any) -> Result:
        answer = await other(step, *args, **fields)
        if step == "confirm":
            answer.amount, answer.psp_reference = 1, "pi_other"
        return answer

    monkeypatch.setattr(psp, "send", lying)
    psp.looks.append("lost")
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    assert attempt.psp_reference in psp.charges  # What a look-up asks for is the true one.
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert await items(rt) == []
    await story.end()


async def _of_another_amount(story: Story, capture_method: str) -> tuple[str, Charge]:
    """Have the PSP charge, or hold, 10,007 instead of 10,000; return the payment and the charge."""
    psp, charges = story.psp, story.psp.charges
    made = await story.create(payment_method="pm_card_visa", capture_method=capture_method)
    other = psp.send

    async def more(step: str, *args: Any, **fields: Any) -> Result:
        answer = await other(step, *args, **fields)
        if step == "confirm":
            (charge,) = charges.values()
            charge.amount += 7
            charge.captured += 7 if charge.captured else 0
            answer.amount = charge.amount
        return answer

    with mock.patch.object(psp, "send", more):
        await story.work()
        await story.hurry()
    assert (await story.get(made.id)).status_reason == "held_for_review"
    (charge,) = charges.values()
    return made.id, charge


async def _posted(rt: Runtime) -> list[str]:
    async with rt.sessions.read() as session:
        return list(await session.scalars(select(PostingRow.key).order_by(PostingRow.key)))


async def _told(rt: Runtime, story: Story, payment_id: str, charge: Charge, kind: str) -> None:
    (attempt,), _ = await story.attempts(payment_id)
    about: dict[str, Any] = {"attempt_id": attempt.id, "installation": rt.installation}
    await receive(rt, f"evt_{kind}", psp_reference=charge.id, type=kind, **about)
    await story.work()


@pytest.mark.parametrize("method", ["automatic", "manual"])
async def test_a_wrong_amount_asks_a_person_and_only_what_was_taken_is_held_apart(
    rt: Runtime, psp: BookPsp, method: str
) -> None:
    """F21: frozen, never a new key, and one open item."""
    story = await Story.begin(rt, psp)
    _, charge = await _of_another_amount(story, method)
    (item,) = await items(rt)
    assert (item.kind, item.state, item.amount) == ("mismatch", "open", 10_007)
    taken = [f"unexpected_receipt:{charge.id}"] if method == "automatic" else []
    assert await _posted(rt) == taken
    await story.end()


async def test_what_is_taken_of_a_frozen_hold_is_held_apart_once(rt: Runtime, psp: BookPsp) -> None:
    """F21: somebody captured a part of it at the PSP while a person was asked."""
    story = await Story.begin(rt, psp)
    payment_id, charge = await _of_another_amount(story, "manual")
    charge.status, charge.captured = "succeeded", 6_000
    for kind in ("payment_intent.succeeded", "payment_intent.amount_capturable_updated"):
        await _told(rt, story, payment_id, charge, kind)
    assert await _posted(rt) == [f"unexpected_receipt:{charge.id}"]
    (item,) = await items(rt)
    assert (item.state, item.amount, item.reference) == ("open", 6_000, charge.id)
    assert (await story.get(payment_id)).status_reason == "held_for_review"
    await story.end()


async def test_a_frozen_hold_that_is_let_go_of_at_the_psp_ends_the_payment(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id, charge = await _of_another_amount(story, "manual")
    charge.status = "canceled"
    psp.looks.append("lost")
    await _told(rt, story, payment_id, charge, "payment_intent.canceled")
    assert (await story.get(payment_id)).status == "processing"
    await story.hurry()
    assert (await story.get(payment_id)).status == "canceled"
    assert [item.closed_how for item in await items(rt)] == [SETTLED]
    assert await _posted(rt) == []
    await story.end()


async def test_money_after_the_end_asks_for_a_refund_at_the_psp(rt: Runtime, psp: BookPsp) -> None:
    """F29."""
    story = await Story.begin(rt, psp)
    made = await story.create()
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=made.id)
        change.move("expired")
        await change.save()
    psp.pay(attempt.id)
    await resolving.resolve(rt, attempt_id=attempt.id)
    await story.work()
    assert (await story.get(made.id)).status == "expired"
    (item,) = await items(rt)
    assert (item.kind, item.suggestion) == ("unexpected_receipt", "refund_at_psp")
    assert item.amount == 10_000
    await story.end()


async def test_a_cancel_of_an_unknown_payment_brings_the_look_forward(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    made = await story.charge()
    await story.cancel(made.id)
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    assert [step for step, _, _ in psp.requests].count("lookup") == 1
    await story.end()
