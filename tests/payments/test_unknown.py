"""Unknown outcomes to their end: never failed by time alone, never sent again blindly."""

import pytest
from sqlalchemy import update

from app.payments.models import PspCall
from app.payments.resolving import resolve
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp
from tests.support.runtime import Clock


def _sent(psp: BookPsp, step: str) -> list[str | None]:
    return [key for name, key, _ in psp.requests if name == step]


_ENDS = {"capture": "succeeded", "cancel": "canceled"}


async def _asked(rt: Runtime, psp: BookPsp, ask: str, *words: str) -> tuple[Story, str]:
    """Begin with a hold, and a capture or cancel of it that the PSP's script answers so."""
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    await getattr(story, ask)(held.id)
    psp.script.extend(words)
    await story.work()
    return story, held.id


async def test_a_confirm_whose_key_is_too_old_is_never_sent_again(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F22: the intent is canceled, and the PSP's word for it proves that nobody was charged."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never"])
    made = await story.charge()
    clock.forward(hours=23, minutes=1)
    await story.hurry()
    failed = await story.get(made.id)
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.code == "not_charged"
    assert len(_sent(psp, "confirm")) == 1
    assert [charge.status for charge in psp.charges.values()] == ["canceled"]
    (attempt,), calls = await story.attempts(made.id)
    assert attempt.state == "not_sent"
    assert [call.kind for call in calls][-1] == "close"
    await story.end()


async def test_a_confirm_that_did_succeed_is_found_when_it_is_to_be_closed(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F23: the look-up is late, the close looks once more."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    made = await story.charge()
    (charge,) = psp.charges.values()
    taken, charge.status, charge.captured = charge.captured, "requires_confirmation", 0
    clock.forward(hours=24)

    async def late() -> None:
        charge.status, charge.captured = "succeeded", taken

    async with rt.sessions.begin() as session:
        from app.janitor.processing import hurry

        await hurry(session, ids=rt.ids, rt=rt, payment_id=made.id)
    asked = psp.close_out

    async def close_out(*args: object, **fields: object) -> object:
        await late()
        return await asked(*args, **fields)  # type: ignore[arg-type] # As it came.

    psp.close_out = close_out  # type: ignore[method-assign, assignment] # In front of the book.
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


@pytest.mark.parametrize("fault", ["lost", "never"])
async def test_a_look_is_the_first_work_of_a_process(rt: Runtime, psp: BookPsp, fault: str) -> None:
    """A kill's finding: what was charged was held to be another system's, and waited for a person.

    A worker that has just begun does not know its installation yet.
    """
    story = await Story.begin(rt, psp)
    payment_id, attempt = await story.uncertain(fault)
    rt.installation = None
    await resolve(rt, attempt_id=attempt.id)
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_a_replay_that_is_under_way_is_not_sent_a_second_time(
    rt: Runtime, psp: BookPsp
) -> None:
    """Seed 57 of the simulation: two looks at one attempt found nothing, one after the other."""
    story = await Story.begin(rt, psp)
    payment_id, attempt = await story.uncertain("never")
    rulings = []

    async def second() -> None:
        rulings.append(await resolve(rt, attempt_id=attempt.id))

    psp.meanwhile = second
    await resolve(rt, attempt_id=attempt.id)
    assert [ruling.reason for ruling in rulings] == ["The call itself is still under way."]
    assert len(_sent(psp, "confirm")) == 2
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_an_intent_that_could_not_be_closed_stays_unknown(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never"])
    made = await story.charge()
    clock.forward(hours=24)
    psp.script.append("not_sent")
    await story.hurry()
    still = await story.get(made.id)
    assert (still.status, still.status_reason) == ("processing", "outcome_unknown")
    await story.hurry()
    assert (await story.get(made.id)).status == "failed"
    await story.end()


async def test_a_charge_of_which_only_the_first_step_was_sent_has_charged_nobody(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.append("never")
    made = await story.charge()
    clock.forward(hours=24)
    await story.hurry()
    assert (await story.get(made.id)).status == "failed"
    assert len(_sent(psp, "create")) == 1
    assert _sent(psp, "confirm") == []
    await story.end()


async def test_a_refund_that_nobody_can_find_waits_for_a_person_and_is_not_sent_again(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F22: two misses, ten minutes apart, after the key's time."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.append("never")
    refund = await story.refund(paid.id, 1_000)
    await story.work()
    clock.forward(hours=24)
    for _ in range(2):
        await story.hurry()
    assert (await story.get_refund(refund.id)).status_reason is None
    assert await story.dead() == []
    clock.forward(minutes=11)
    await story.hurry()
    held = await story.get_refund(refund.id)
    assert (held.status, held.status_reason) == ("pending", "held_for_review")
    assert len(await story.dead()) == 1
    refunds = [key for step, key, request in psp.requests if key and request.kind == "refund"]
    assert len(refunds) == 1
    await story.end()


@pytest.mark.parametrize("ask", ["capture", "cancel"])
async def test_a_capture_or_cancel_that_had_no_effect_for_a_day_is_asked_for_anew(
    rt: Runtime, psp: BookPsp, clock: Clock, ask: str
) -> None:
    story, payment_id = await _asked(rt, psp, ask, "never")
    clock.forward(hours=24)
    for _ in range(2):
        await story.hurry()
    assert (await story.get(payment_id)).status == _ENDS[ask]
    keys = _sent(psp, ask)
    assert (len(keys), len(set(keys))) == (2, 2)
    await story.end()


@pytest.mark.parametrize("ask", ["capture", "cancel"])
async def test_nothing_is_asked_for_anew_while_the_last_try_may_still_arrive(
    rt: Runtime, psp: BookPsp, clock: Clock, ask: str
) -> None:
    """Its key grew too old a moment after it was sent for the last time."""
    story, payment_id = await _asked(rt, psp, ask, "never", "never")
    clock.forward(hours=22, minutes=58)
    await story.hurry()
    clock.forward(minutes=3)
    await story.hurry()
    assert len(_sent(psp, ask)) == 2
    assert len(set(_sent(psp, ask))) == 1
    clock.forward(minutes=3)
    for _ in range(2):
        await story.hurry()
    assert (await story.get(payment_id)).status == _ENDS[ask]
    assert len(set(_sent(psp, ask))) == 2
    await story.end()


async def test_a_refused_capture_waits_for_a_person_after_one_look(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    await story.capture(held.id)
    psp.script.append("rejected")
    await story.work()
    waits = await story.get(held.id)
    assert (waits.status, waits.status_reason) == ("processing", "held_for_operator")
    assert len(_sent(psp, "capture")) == 1
    (letter,) = await story.dead()
    assert "refused" in (letter.reason or "")
    await story.end()


async def test_a_refused_capture_that_had_happened_is_recorded(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", charge.amount
    await story.capture(held.id)
    psp.script.append("rejected")
    await story.work()
    paid = await story.get(held.id)
    assert (paid.status, paid.amount_captured) == ("succeeded", 10_000)
    attempt = (await story.attempts(held.id))[0][-1]
    assert (attempt.state, attempt.code) == ("succeeded", None)
    assert await story.dead() == []
    await story.end()


async def test_a_look_while_the_call_is_under_way_sends_nothing(rt: Runtime, psp: BookPsp) -> None:
    """F28: an event is faster than the answer that it speaks of."""
    from app.payments import resolving

    story = await Story.begin(rt, psp)
    made = await story.create(payment_method="pm_card_visa")
    seen: list[str] = []

    async def look() -> None:
        (attempt,), _ = await story.attempts(made.id)
        seen.append((await resolving.resolve(rt, attempt_id=attempt.id)).action)

    async def confirm_next() -> None:
        psp.meanwhile = look

    psp.meanwhile = confirm_next
    await story.work()
    assert seen == ["look"]
    assert (await story.get(made.id)).status == "succeeded"
    assert len(_sent(psp, "confirm")) == 1
    await story.end()


async def test_a_call_that_was_cut_long_ago_does_not_hold_up_the_janitor(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    from app.payments import resolving

    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "never"])
    made = await story.charge()
    (attempt,), _ = await story.attempts(made.id)
    async with rt.sessions.begin() as session:
        await session.execute(update(PspCall).values(finished_at=None))
        await session.execute(update(type(attempt)).values(state="sent"))
    clock.forward(minutes=1)
    await resolving.resolve(rt, attempt_id=attempt.id)
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    assert len(set(_sent(psp, "confirm"))) == 1
    await story.end()
