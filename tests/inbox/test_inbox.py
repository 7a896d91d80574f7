"""Received events: stored once, applied in any order, foreign ones never acted on."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from app.inbox.models import ReceivedEvent
from app.jobs import Job
from app.payments.models import Attempt
from app.psp.port import RefundSeen
from app.runtime import Runtime
from tests.payments.story import Story, receive
from tests.support.psp import BookPsp, Charge


async def _states(rt: Runtime) -> list[str]:
    async with rt.sessions.read() as session:
        query = select(ReceivedEvent.state).order_by(ReceivedEvent.psp_event_id)
        return list(await session.scalars(query))


async def _page(story: Story) -> tuple[str, str]:
    made = await story.create()
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    return made.id, attempt.id


async def test_an_event_is_stored_and_applied_once(rt: Runtime, psp: BookPsp) -> None:
    """F26."""
    story = await Story.begin(rt, psp)
    payment_id, attempt_id = await _page(story)
    charge = psp.pay(attempt_id)
    about = {
        "psp_reference": charge.id,
        "attempt_id": attempt_id,
        "installation": rt.installation,
    }
    assert await receive(rt, "evt_1", **about)
    assert not await receive(rt, "evt_1", **about)
    assert await receive(rt, "evt_2", **about)
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert await _states(rt) == ["applied", "applied"]
    await story.end()


async def test_a_settled_payment_is_not_asked_about_again(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    before = len(psp.requests)
    attempt_id = paid.attempts[0].id  # type: ignore[union-attr] # They are expanded.
    await receive(rt, "evt_1", attempt_id=attempt_id, installation=rt.installation)
    await story.work()
    assert len(psp.requests) == before
    assert await _states(rt) == ["applied"]


async def test_an_event_of_another_system_is_foreign(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await receive(rt, "evt_1", attempt_id="att_theirs", installation="another")
    await receive(rt, "evt_2", psp_reference="pi_by_hand")
    await receive(rt, "evt_3", about="other", type="customer.created")
    await story.work()
    assert await _states(rt) == ["foreign", "foreign", "ignored"]
    assert await story.dead() == []


async def test_an_event_before_our_own_commit_is_parked_and_tried_again(
    rt: Runtime, psp: BookPsp
) -> None:
    """F28."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    attempt_id = rt.ids("att")
    await receive(rt, "evt_1", attempt_id=attempt_id, installation=rt.installation)
    await story.work()
    assert await _states(rt) == ["parked"]
    real = paid.attempts[0].id  # type: ignore[union-attr] # They are expanded.
    async with rt.sessions.begin() as session:
        await session.execute(update(ReceivedEvent).values(attempt_id=real))
    await story.hurry()
    assert await _states(rt) == ["applied"]


async def test_what_never_appears_is_given_up_after_a_day(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await story.charge()
    await receive(rt, "evt_1", attempt_id=rt.ids("att"), installation=rt.installation)
    async with rt.sessions.begin() as session:
        old = datetime.now(UTC) - timedelta(days=2)
        await session.execute(update(ReceivedEvent).values(received_at=old))
    await story.work()
    assert await _states(rt) == ["ignored"]


async def test_a_refund_made_at_the_psp_by_hand_is_adopted_and_posted(
    rt: Runtime, psp: BookPsp
) -> None:
    """I7."""
    story = await Story.begin(rt, psp)
    paid = await story.charge(10_000)
    (charge,) = psp.charges.values()
    seen = RefundSeen(psp_reference="re_hand", amount=3_000, currency="eur", status="succeeded")
    charge.refunds = {"re_hand": seen}
    for event_id in ("evt_1", "evt_2"):
        await receive(
            rt,
            event_id,
            type="charge.refunded",
            about="refund",
            psp_reference="re_hand",
            charge_reference=charge.id,
        )
    await story.work()
    after = await story.get(paid.id)
    assert (after.amount_refunded, after.amount_refundable) == (3_000, 7_000)
    assert psp.total() == 7_000
    await story.end()


async def test_a_refund_by_hand_waits_for_its_checkout_whose_own_events_were_lost(
    rt: Runtime, psp: BookPsp
) -> None:
    """I7: until the customer's payment is found, only the page's reference is known."""
    story = await Story.begin(rt, psp)
    payment_id, attempt_id = await _page(story)
    charge = psp.pay(attempt_id)
    seen = RefundSeen(psp_reference="re_hand", amount=3_000, currency="eur", status="succeeded")
    charge.refunds = {"re_hand": seen}
    about = {"type": "refund.created", "about": "refund", "psp_reference": "re_hand"}
    await receive(rt, "evt_1", charge_reference=charge.id, **about)
    await story.work()
    assert await _states(rt) == ["parked"]
    await story.resolved(payment_id)
    await story.hurry()
    assert await _states(rt) == ["applied"]
    assert (await story.get(payment_id)).amount_refunded == 3_000
    await story.end()


async def test_a_refund_by_hand_waits_for_its_checkout_over_an_outage_of_more_than_a_day(
    rt: Runtime, psp: BookPsp
) -> None:
    """I7: seed 587. When all works again the event is tried before the page is looked at."""
    story = await Story.begin(rt, psp)
    payment_id, attempt_id = await _page(story)
    charge = psp.pay(attempt_id)
    charge.refunds = {
        "re_hand": RefundSeen(
            psp_reference="re_hand", amount=3_000, currency="eur", status="succeeded"
        )
    }
    about = {"type": "refund.created", "about": "refund", "psp_reference": "re_hand"}
    await receive(rt, "evt_1", charge_reference=charge.id, **about)
    async with rt.sessions.begin() as session:
        old = datetime.now(UTC) + timedelta(seconds=1)
        await session.execute(update(Attempt).values(created_at=old - timedelta(hours=27)))
        await session.execute(update(ReceivedEvent).values(received_at=old - timedelta(hours=26)))
        await session.execute(update(Job).values(created_at=old - timedelta(hours=26)))
    await story.work()
    assert await _states(rt) == ["parked"]
    shown, charge.refunds = charge.refunds, {}
    await story.resolved(payment_id)
    await story.hurry()  # The list shows it a little later, which is no reason to give it up.
    assert await _states(rt) == ["parked"]
    charge.refunds = shown
    for _ in range(2):  # Once it is booked, the PSP is asked once more.
        await story.hurry()
    assert await _states(rt) == ["applied"]
    assert (await story.get(payment_id)).amount_refunded == 3_000
    await story.end()


async def test_a_refund_that_the_psp_takes_back_is_compensated(rt: Runtime, psp: BookPsp) -> None:
    """F20."""
    story = await Story.begin(rt, psp)
    paid = await story.charge(10_000)
    refund = await story.refund(paid.id, 4_000)
    await story.work()
    (charge,) = psp.charges.values()
    (made,) = charge.refunds.values()
    charge.refunds = {
        made.psp_reference: RefundSeen(
            psp_reference=made.psp_reference,
            amount=made.amount,
            currency="eur",
            status="failed",
            attempt_id=made.attempt_id,
            installation=made.installation,
        )
    }
    await receive(
        rt,
        "evt_1",
        type="refund.failed",
        about="refund",
        psp_reference=made.psp_reference,
        charge_reference=charge.id,
        attempt_id=made.attempt_id,
        installation=rt.installation,
    )
    await story.work()
    assert (await story.get_refund(refund.id)).status == "failed"
    assert (await story.get(paid.id)).amount_refundable == 10_000
    assert psp.total() == 10_000
    await story.end()


async def test_no_event_is_left_behind(rt: Runtime, psp: BookPsp) -> None:
    """I10."""
    story = await Story.begin(rt, psp)
    payment_id, attempt_id = await _page(story)
    psp.pay(attempt_id)
    for number in range(5):
        await receive(rt, f"evt_{number}", attempt_id=attempt_id, installation=rt.installation)
    await story.work()
    assert set(await _states(rt)) == {"applied"}
    assert (await story.get(payment_id)).status == "succeeded"
    async with rt.sessions.read() as session:
        open_jobs = await session.scalars(
            select(Job.id).where(Job.kind == "inbox.apply", Job.state == "due")
        )
        assert list(open_jobs) == []
    await story.end()


async def test_an_event_whose_look_up_fails_is_applied_later(rt: Runtime, psp: BookPsp) -> None:
    """F15: the page is open as far as we know, and only this event knows better."""
    story = await Story.begin(rt, psp)
    payment_id, attempt_id = await _page(story)
    psp.pay(attempt_id)
    psp.looks.append("lost")
    await receive(rt, "evt_1", attempt_id=attempt_id, installation=rt.installation)
    await story.work()
    assert await _states(rt) == ["received"]
    await story.hurry()
    assert await _states(rt) == ["applied"]
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_a_decline_on_the_page_is_noted_and_the_customer_may_go_on(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    payment_id, attempt_id = await _page(story)
    (charge,) = psp.charges.values()
    charge.declined = "card_declined"
    about = {"attempt_id": attempt_id, "installation": rt.installation, "psp_reference": charge.id}
    await receive(rt, "evt_1", type="payment_intent.payment_failed", **about)
    await story.work()
    declined = await story.get(payment_id)
    assert declined.status == "requires_action"
    assert declined.failure is not None
    assert declined.failure.code == "card_declined"
    psp.pay(attempt_id)
    await receive(rt, "evt_2", **about)
    await story.work()
    paid = await story.get(payment_id)
    assert (paid.status, paid.failure) == ("succeeded", None)
    assert await story.told(payment_id) == [
        ("payment.created", None),
        ("payment.succeeded", "requires_action"),
    ]
    await story.end()


async def test_a_hold_that_the_psp_lets_lapse_ends_the_payment(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    (charge,) = psp.charges.values()
    about = {"attempt_id": charge.attempt_id, "installation": rt.installation}
    await receive(rt, "evt_1", type="payment_intent.amount_capturable_updated", **about)
    await story.work()
    assert (await story.get(held.id)).status == "requires_capture"
    charge.status = "canceled"
    psp.looks.append("lost")
    await receive(rt, "evt_2", type="payment_intent.canceled", **about)
    await story.work()
    await story.hurry()
    lapsed = await story.get(held.id)
    assert (lapsed.status, lapsed.status_reason) == ("canceled", "authorization_expired")
    assert await _states(rt) == ["applied", "applied"]
    await story.end()


async def test_a_hold_that_is_captured_at_the_psp_by_hand_is_paid(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    (charge,) = psp.charges.values()
    charge.status, charge.captured = "succeeded", 6_000
    await receive(rt, "evt_1", attempt_id=charge.attempt_id, installation=rt.installation)
    await story.work()
    paid = await story.get(held.id)
    assert (paid.status, paid.amount_captured) == ("succeeded", 6_000)
    assert (await story.told(held.id))[-2:] == [
        ("payment.processing", "requires_capture"),
        ("payment.succeeded", "processing"),
    ]
    await story.end()


async def test_what_an_event_cannot_settle_is_in_the_dead_letters(
    rt: Runtime, psp: BookPsp
) -> None:
    """F21: the event is applied, and a person hears of what it brought."""
    story = await Story.begin(rt, psp)
    payment_id, attempt_id = await _page(story)
    charge = psp.pay(attempt_id)
    charge.amount = charge.captured = 1
    await receive(rt, "evt_1", attempt_id=attempt_id, installation=rt.installation)
    await story.work()
    held = await story.get(payment_id)
    assert (held.status, held.status_reason) == ("processing", "held_for_review")
    assert await _states(rt) == ["applied"]
    (letter,) = await story.dead()
    assert (letter.kind, letter.args) == ("janitor.resolve", {"attempt_id": attempt_id})
    await story.end()


async def _late_page(rt: Runtime, psp: BookPsp) -> tuple[Story, str, Charge, dict[str, Any]]:
    """Have a page refused, and its request carried out all the same, after that, and paid."""
    story = await Story.begin(rt, psp)
    psp.script.append("rejected")
    made = await story.create()
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    assert attempt.state == "rejected"
    ((step, key, request),) = psp.requests
    await psp.send(step, request, key=key or "", reference=None)
    charge = psp.pay(attempt.id)
    about = {
        "psp_reference": charge.id,
        "attempt_id": attempt.id,
        "installation": rt.installation,
    }
    return story, made.id, charge, about


async def test_money_from_a_page_that_was_held_to_be_refused_is_recorded(
    rt: Runtime, psp: BookPsp
) -> None:
    """Seed 161 of the simulation: the first request came late, after its replay was refused."""
    story, payment_id, _, about = await _late_page(rt, psp)
    psp.looks.append("lost")
    assert await receive(rt, "evt_1", **about)
    await story.work()
    assert await _states(rt) == ["received"]
    await story.hurry()
    assert await _states(rt) == ["applied"]
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_a_wrong_amount_from_such_a_page_waits_for_a_person(
    rt: Runtime, psp: BookPsp
) -> None:
    story, payment_id, charge, about = await _late_page(rt, psp)
    charge.amount += 7
    charge.captured = charge.amount
    assert await receive(rt, "evt_1", **about)
    await story.work()
    held = await story.get(payment_id)
    assert (held.status, held.status_reason) == ("processing", "held_for_review")
    letters = {(job.kind, job.args.get("attempt_id")) for job in await story.dead()}
    assert ("janitor.resolve", about["attempt_id"]) in letters
    await story.end()
