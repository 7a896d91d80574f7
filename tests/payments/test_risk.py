"""The risk check by the shop's own rules, and the people who decide about what it holds."""

import json
from typing import Any

import pytest
from sqlalchemy import func, select

from app.audit.models import AuditRow
from app.payments import resolving, reviewing
from app.payments.reviewing import ReviewOver, ReviewReason, ReviewUnknown
from app.risk import queries
from app.runtime import Runtime
from tests.payments.risks import (
    ALICE,
    BOB,
    HOLD,
    REFUSE,
    authorised,
    block,
    check,
    decide,
    sent,
    set_terms,
    state,
)
from tests.payments.story import Story
from tests.support.psp import BookPsp
from tests.support.runtime import Clock


@pytest.fixture(autouse=True)
def pages_end(psp: BookPsp) -> None:
    """Let pages tell when they end, so that each open one has somebody who will end it."""
    psp.pages_end = True


async def test_what_no_rule_stops_goes_on_and_is_written_down_once(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    assert paid.status == "succeeded"
    row = await check(story, paid.id)
    assert (row.decision, row.provider, row.fallback, row.review) == ("allow", "rules", False, None)
    await story.end()


@pytest.mark.parametrize("hosted", [True, False])
async def test_a_refused_payment_fails_and_its_psp_never_hears_of_it(
    rt: Runtime, psp: BookPsp, hosted: bool
) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **REFUSE)
    made = await story.create(payment_method=None if hosted else "pm_card_visa")
    assert made.status == ("requires_action" if hosted else "processing")
    await story.work()
    failed = await story.get(made.id)
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.code == "risk_refused"
    assert psp.requests == []
    assert failed.attempts == []
    assert await story.told(made.id) == [
        ("payment.created", None),
        ("payment.failed", "processing"),
    ]
    assert "above 50.00 EUR" in (await check(story, made.id)).reasons[0]["text"]
    await story.end()


async def test_a_held_charge_is_sent_only_when_somebody_approves(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    held = await story.charge()
    assert (held.status, held.status_reason) == ("processing", "held_for_review")
    await story.hurry()
    assert psp.requests == []
    await story.end()
    await decide(story, held.id, "approve")
    await story.work()
    assert (await story.get(held.id)).status == "succeeded"
    assert sent(story) == ["create", "confirm"]
    row = await check(story, held.id)
    assert (row.review, row.reviewed_by) == ("approved", "bob@example.com")
    assert row.review_reason == "Known customer."
    async with rt.sessions.read() as session:
        said = await session.scalar(
            select(AuditRow).where(AuditRow.action == "payment.review_approved")
        )
    assert said is not None
    assert (said.object_id, said.actor_name, said.reason) == (
        held.id,
        "bob@example.com",
        "Known customer.",
    )
    await story.end()


async def test_a_held_charge_that_is_refused_has_failed_unsent(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    held = await story.charge()
    await decide(story, held.id, "refuse")
    await story.hurry()
    failed = await story.get(held.id)
    assert failed.failure is not None
    assert (failed.status, failed.failure.code) == ("failed", "risk_refused")
    assert psp.requests == []
    await story.end()


async def test_a_held_page_only_holds_the_money_until_somebody_approves(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    payment_id, charge = await authorised(story)
    assert await state(story, payment_id) == ("processing", "held_for_review")
    assert (charge.status, charge.captured) == ("requires_capture", 0)
    assert (await story.get(payment_id)).capture_method == "automatic"
    await story.hurry()
    assert charge.captured == 0
    await story.end()
    await decide(story, payment_id, "approve")
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert (charge.captured, psp.total()) == (10_000, 10_000)
    await story.end()


async def test_a_held_page_that_is_refused_lets_the_money_go_and_fails(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    payment_id, charge = await authorised(story)
    psp.script.append("lost")
    await decide(story, payment_id, "refuse")
    await story.work()
    assert await state(story, payment_id) == ("processing", "canceling")
    await story.resolved(payment_id)
    failed = await story.get(payment_id)
    assert failed.failure is not None
    assert (failed.status, failed.failure.code) == ("failed", "risk_refused")
    assert (charge.status, psp.total()) == ("canceled", 0)
    await story.end()


async def test_what_the_shop_captures_by_hand_is_the_shops_again_once_it_is_approved(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    payment_id, charge = await authorised(story, capture_method="manual")
    assert await state(story, payment_id) == ("processing", "held_for_review")
    await decide(story, payment_id, "approve")
    assert await state(story, payment_id) == ("requires_capture", None)
    await story.capture(payment_id, 4_000)
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert charge.captured == 4_000
    await story.end()


@pytest.mark.parametrize("hosted", [True, False])
async def test_a_shop_may_cancel_what_is_held(rt: Runtime, psp: BookPsp, hosted: bool) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    payment_id = (await authorised(story))[0] if hosted else (await story.charge()).id
    row = await check(story, payment_id)
    await story.cancel(payment_id)
    await story.work()
    assert (await story.get(payment_id)).status == "canceled"
    assert psp.total() == 0
    with pytest.raises(ReviewOver, match="cancelled, has lapsed or was captured"):
        await decide(story, payment_id, "approve", seen=row.version)
    assert (await check(story, payment_id)).review == "over"
    async with rt.sessions.read() as session:
        assert await reviewing.waiting(session, **story.who) == []
        assert await queries.count_waiting(session, **story.who) == 0
    await story.end()


async def test_a_hold_that_lapses_at_the_psp_ends_the_payment(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    payment_id, charge = await authorised(story)
    charge.status = "canceled"
    (attempt,), _ = await story.attempts(payment_id)
    await resolving.look_at_hold(rt, attempt_id=attempt.id)
    assert await state(story, payment_id) == ("canceled", "authorization_expired")
    assert (await check(story, payment_id)).review == "over"
    await story.end()


async def test_of_two_who_decide_at_once_one_wins_and_the_other_is_told(
    rt: Runtime, psp: BookPsp
) -> None:
    """F69."""
    story = await Story.begin(rt, psp)
    await set_terms(story, **HOLD)
    held = await story.charge()
    await decide(story, held.id, "refuse", by=ALICE)
    with pytest.raises(ReviewOver, match=r"alice@example\.com has refused"):
        await decide(story, held.id, "approve", seen=1)
    with pytest.raises(ReviewOver):
        await decide(story, held.id, "refuse", seen=1)
    await story.work()
    assert psp.requests == []
    async with rt.sessions.read() as session:
        query = select(func.count()).where(AuditRow.action.like("payment.review_%"))
        assert await session.scalar(query) == 1
    await story.end()


async def test_a_decision_needs_a_reason_a_fresh_page_and_a_held_payment(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    await set_terms(story, **HOLD)
    held = await story.charge()
    later = await story.create()
    await story.work()
    for payment_id in (paid.id, later.id):
        with pytest.raises(ReviewUnknown):
            await decide(story, payment_id, "approve")
    with pytest.raises(ReviewOver, match="has changed"):
        await decide(story, held.id, "approve", seen=7)
    async with rt.sessions.begin() as session:
        with pytest.raises(ReviewReason):
            await reviewing.decide(
                session,
                rt=rt,
                actor=BOB,
                payment_id=held.id,
                decision="approve",
                why="  ok ",
                seen=1,
                **story.who,
            )
    assert await state(story, held.id) == ("processing", "held_for_review")
    await story.end()


@pytest.mark.parametrize(
    ("terms", "fields", "code"),
    [
        ({"customer_per_hour": 2}, {"email": "a@shop.example"}, "customer_velocity"),
        ({"merchant_per_hour": 2}, {}, "merchant_velocity"),
    ],
)
async def test_too_many_payments_within_an_hour_are_held(
    rt: Runtime, psp: BookPsp, clock: Clock, terms: Any, fields: Any, code: str
) -> None:
    story = await Story.begin(rt, psp)
    await set_terms(story, **terms)
    for _ in range(2):
        assert (await story.charge(**fields)).status == "succeeded"
    held = await story.charge(**fields)
    assert held.status_reason == "held_for_review"
    assert [one["code"] for one in (await check(story, held.id)).reasons] == [code]
    if fields:
        other = await story.charge(email="b@shop.example")
        assert other.status == "succeeded"
    clock.forward(minutes=61)
    late = await story.create(payment_method="pm_card_visa", **fields)
    await story.hurry()
    assert (await story.get(late.id)).status == "succeeded"
    await story.end()


@pytest.mark.parametrize(
    ("kind", "value", "fields"),
    [
        ("email", " Bad@Shop.example", {"email": "bad@shop.example"}),
        ("method", "pm_card_visa", {}),
        ("country", "kp", {"country": "KP"}),
        ("country", "KP", {"card_country": "KP"}),
    ],
)
async def test_whom_a_shop_blocks_never_reaches_the_psp(
    rt: Runtime, psp: BookPsp, kind: str, value: str, fields: Any
) -> None:
    story = await Story.begin(rt, psp)
    await block(story, kind, value)
    refused = await story.charge(**fields)
    assert refused.status == "failed"
    assert psp.requests == []
    row = await check(story, refused.id)
    assert [one["code"] for one in row.reasons] == [f"blocked_{kind}"]
    assert "shop.example" not in json.dumps(row.reasons)
    other = await Story.begin(rt, psp)
    assert (await other.charge(**fields)).status == "succeeded"
    await story.end()


async def test_a_customer_and_a_card_of_two_countries_are_looked_at(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(country="DE", card_country="NG")
    assert held.status_reason == "held_for_review"
    assert (await story.charge(country="DE", card_country="DE")).status == "succeeded"
    await set_terms(story, country_mismatch=False)
    assert (await story.charge(country="DE", card_country="NG")).status == "succeeded"
    await story.end()
