"""Dead letters: retried with one effect, given up only when surely nothing happened."""

import asyncio

import pytest
from sqlalchemy import select, update

from app.deadletters import operations, processing
from app.deadletters.operations import (
    DiscardRefused,
    LookRefused,
    ReasonTooShort,
    RetryRefused,
)
from app.jobs import Job, NotRetryable
from app.payments.models import Attempt
from app.runtime import Runtime
from app.webhooks.models import Event
from tests.deadletters.letters import (
    ADA,
    WHY,
    audited,
    discard,
    killed,
    looked,
    refused_charge,
    retry,
    verdict,
)
from tests.payments.story import Story
from tests.support.psp import BookPsp


async def test_a_retried_charge_succeeds_once_after_its_cause_is_gone(
    rt: Runtime, psp: BookPsp
) -> None:
    story, payment_id, job = await refused_charge(rt, psp)
    said = await verdict(rt, job.id)
    assert (said.says, said.retry, said.discard, said.ends) == ("safe", True, True, "fail_payment")
    await retry(rt, job.id, "The cause is cured.")
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 10_000
    attempts, _ = await story.attempts(payment_id)
    assert [row.state for row in attempts] == ["rejected", "succeeded"]
    (row,) = await audited(rt)
    assert (row.action, row.object_id, row.actor_name) == ("dead_letter.retry", job.id, ADA.name)
    assert (row.reason, row.before["state"], row.after) == (
        "The cause is cured.",
        "dead",
        {"state": "due"},
    )
    assert row.merchant_id == story.who["merchant_id"]
    await story.end()


async def test_a_retry_whose_cause_is_still_there_comes_back_as_the_same_letter(
    rt: Runtime, psp: BookPsp
) -> None:
    story, payment_id, job = await refused_charge(rt, psp)
    psp.script.append("rejected")
    await retry(rt, job.id)
    await story.work()
    (again,) = await story.dead()
    assert again.id == job.id
    assert [line["what"] for line in again.history] == ["buried", "retried", "buried"]
    assert (await story.get(payment_id)).status_reason == "held_for_operator"
    assert psp.total() == 0
    await story.end()


async def test_a_retried_page_opens_though_its_psp_is_away_for_a_while(
    rt: Runtime, psp: BookPsp
) -> None:
    """Seed 155 of the simulation: the second try of the retried job took it for done."""
    story, payment_id, job = await Story.with_refused_page(rt, psp)
    psp.script.append("not_sent")
    await retry(rt, job.id)
    await story.work()
    waits = await story.get(payment_id)
    assert (waits.status, waits.status_reason) == ("processing", "psp_unavailable")
    await story.hurry()
    assert (await story.get(payment_id)).status == "requires_action"
    await story.end()


async def test_two_admins_who_retry_at_once_make_one_retry(rt: Runtime, psp: BookPsp) -> None:
    story, _, job = await refused_charge(rt, psp)
    answers = await asyncio.gather(*(retry(rt, job.id) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, Job) for one in answers) == 1
    assert sum(isinstance(one, NotRetryable) for one in answers) == 3
    await story.work()
    with pytest.raises(NotRetryable):
        await retry(rt, job.id)
    assert psp.total() == 10_000
    assert len(await audited(rt)) == 1
    await story.end()


async def test_a_retry_and_a_discard_at_once_leave_one_of_them(rt: Runtime, psp: BookPsp) -> None:
    story, payment_id, job = await refused_charge(rt, psp)
    answers = await asyncio.gather(retry(rt, job.id), discard(rt, job.id), return_exceptions=True)
    assert sum(isinstance(one, Job) for one in answers) == 1
    await story.work()
    paid = psp.total()
    status = (await story.get(payment_id)).status
    assert (status, paid) in {("failed", 0), ("succeeded", 10_000)}
    assert len(await audited(rt)) == 1
    await story.end()


async def test_a_discarded_charge_fails_its_payment_and_tells_the_shop(
    rt: Runtime, psp: BookPsp
) -> None:
    story, payment_id, job = await refused_charge(rt, psp, reference="order-7")
    await discard(rt, job.id)
    failed = await story.get(payment_id)
    assert failed.status == "failed"
    assert failed.failure is not None
    assert failed.failure.code == "discarded"
    async with rt.sessions.read() as session:
        types = list(await session.scalars(select(Event.type).order_by(Event.id)))
    assert types[-1] == "payment.failed"
    (row,) = await audited(rt)
    assert (row.action, row.reason, row.after["payment"]) == (
        "dead_letter.discard",
        WHY,
        "failed",
    )
    with pytest.raises(NotRetryable):
        await retry(rt, job.id)
    assert (await story.charge(reference="order-7")).status == "succeeded"
    await story.end()


@pytest.mark.parametrize("why", ["", "no", " a  b  c  d ", "x" * 1001])
async def test_a_discard_without_a_reason_changes_nothing(
    rt: Runtime, psp: BookPsp, why: str
) -> None:
    story, payment_id, job = await refused_charge(rt, psp)
    with pytest.raises(ReasonTooShort):
        await discard(rt, job.id, why)
    assert (await story.get(payment_id)).status == "processing"
    assert [one.id for one in await story.dead()] == [job.id]
    assert await audited(rt) == []


async def test_nothing_unknown_is_retried_or_given_up(rt: Runtime, psp: BookPsp) -> None:
    """The reply was lost and then the worker died: the customer may have been charged."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    unknown = await story.charge()
    job = await killed(rt, unknown.id, "payments.charge")
    said = await verdict(rt, job.id)
    assert (said.says, said.retry, said.discard, said.look) == ("unknown", False, False, True)
    with pytest.raises(RetryRefused):
        await retry(rt, job.id)
    with pytest.raises(DiscardRefused):
        await discard(rt, job.id)
    assert (await story.get(unknown.id)).status_reason == "outcome_unknown"
    assert await audited(rt) == []

    async with rt.sessions.begin() as session:
        await operations.look_again(session, rt=rt, job_id=job.id)
    await story.work()
    assert (await story.get(unknown.id)).status == "succeeded"
    said = await verdict(rt, job.id)
    assert (said.says, said.retry, said.discard, said.look) == ("paid", True, False, False)
    sent = len(psp.requests)
    await retry(rt, job.id)
    await story.work()
    assert await story.dead() == []
    assert (psp.total(), len(psp.requests)) == (10_000, sent)
    with pytest.raises(LookRefused):
        async with rt.sessions.begin() as session:
            await operations.look_again(session, rt=rt, job_id=job.id)
    await story.end()


async def test_a_look_up_that_ended_in_a_refusal_is_retried_as_the_charge_itself(
    rt: Runtime, psp: BookPsp
) -> None:
    """The first try was lost, its replay refused: the janitor's job is the letter."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["never", "rejected"])
    unknown = await story.charge()
    await story.hurry()
    assert await story.dead() == []  # The first may arrive yet.
    await story.forget_calls()
    await story.hurry()
    (job,) = await story.dead()
    assert job.kind == "janitor.resolve"
    assert (await story.get(unknown.id)).status_reason == "held_for_operator"
    made = await retry(rt, job.id)
    assert (made.kind, made.queue) == ("payments.charge", "psp")
    await story.work()
    assert (await story.get(unknown.id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_a_refused_refund_is_retried_or_given_up_with_its_money_back(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp, settle_delay_seconds=0)
    paid = await story.charge()
    psp.script.extend(["rejected", "rejected"])
    first = await story.refund(paid.id, 4_000)
    second = await story.refund(paid.id, 1_000)
    await story.work()
    letters = {job.args["refund_id"]: job for job in await story.dead()}
    said = await verdict(rt, letters[first.id].id)
    assert (said.says, said.ends) == ("safe", "fail_refund")

    await discard(rt, letters[first.id].id)
    assert (await story.get_refund(first.id)).status == "failed"
    assert (await story.row(paid.id)).amount_refunded == 1_000
    await retry(rt, letters[second.id].id)
    await story.work()
    assert (await story.get_refund(second.id)).status == "succeeded"
    assert psp.total() == 9_000
    assert [row.after.get("refund") for row in await audited(rt)] == ["failed", None]
    await story.end()


async def test_a_discarded_capture_leaves_the_money_held(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    assert held.status == "requires_capture"
    await story.capture(held.id, 6_000)
    job = await killed(rt, held.id, "payments.capture")
    said = await verdict(rt, job.id)
    assert (said.says, said.ends, said.discard) == ("safe", "keep_hold", True)
    await discard(rt, job.id)
    assert (await story.get(held.id)).status == "requires_capture"
    await story.capture(held.id, 5_000)
    await story.work()
    assert psp.total() == 5_000
    await story.end()


async def test_a_cancel_of_money_that_is_held_is_not_given_up(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(capture_method="manual")
    await story.cancel(held.id)
    job = await killed(rt, held.id, "payments.void")
    with pytest.raises(DiscardRefused):
        await discard(rt, job.id)
    await retry(rt, job.id)
    await story.work()
    assert (await story.get(held.id)).status == "canceled"
    await story.end()


async def test_a_hosted_payment_whose_page_was_never_made_can_be_given_up(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create()
    job = await killed(rt, made.id, "payments.open_checkout")
    await discard(rt, job.id)
    assert (await story.get(made.id)).status == "failed"
    await story.work()
    assert psp.charges == {}
    await story.end()


async def test_what_never_left_us_is_sent_again_with_the_same_key(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.append("not_sent")
    made = await story.charge()
    job = await killed(rt, made.id, "payments.charge")
    assert (await verdict(rt, job.id)).title.startswith("The PSP has not done this.")
    await retry(rt, job.id)
    await story.work()
    attempts, calls = await story.attempts(made.id)
    assert [row.state for row in attempts] == ["succeeded"]
    keys = [call.key for call in calls if call.key and call.step == "create"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    await story.end()


async def test_a_letter_of_a_payment_that_has_ended_is_only_closed(
    rt: Runtime, psp: BookPsp
) -> None:
    story, payment_id, job = await refused_charge(rt, psp)
    assert (await story.cancel(payment_id)).status == "canceled"
    said = await verdict(rt, job.id)
    assert (said.says, said.retry, said.discard, said.ends) == ("declined", False, True, "close")
    with pytest.raises(RetryRefused):
        await retry(rt, job.id)
    await discard(rt, job.id)
    assert (await story.get(payment_id)).status == "canceled"
    await story.end()


async def test_what_does_not_fit_what_we_asked_for_is_left_to_a_person(
    rt: Runtime, psp: BookPsp
) -> None:
    story, _, job = await refused_charge(rt, psp)
    async with rt.sessions.begin() as session:
        await session.execute(update(Attempt).values(state="needs_review"))
    assert (await verdict(rt, job.id)).says == "review"
    with pytest.raises(RetryRefused):
        await retry(rt, job.id)
    with pytest.raises(DiscardRefused):
        await discard(rt, job.id)
    assert [one.id for one in await story.dead()] == [job.id]


async def test_many_are_retried_and_what_changed_meanwhile_is_left_out(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["rejected"] * 3)
    for number in range(3):
        await story.charge(1_000 + number)
    chosen = [job.id for job in await story.dead()]
    await discard(rt, chosen[1])
    foreign = rt.ids("job")
    for job_id in chosen:
        await looked(rt, job_id)
    done = await processing.decide_many(
        rt,
        actor=ADA,
        action="retry",
        job_ids=[*chosen, chosen[0], foreign],
        why="The outage is over.",
    )
    assert done.done == [chosen[0], chosen[2]]
    assert [one.job_id for one in done.left_out] == [chosen[1], foreign]
    assert all(one.why for one in done.left_out)
    await story.work()
    assert psp.total() == 1_000 + 1_002
    retried = [row for row in await audited(rt) if row.action == "dead_letter.retry"]
    assert [row.reason for row in retried] == ["The outage is over."] * 2
    await story.end()


async def test_work_inside_the_house_is_run_again_or_given_up(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    job = await killed(rt, paid.id, "payments.charge")
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == job.id).values(kind="payments.fetch_fee"))
    said = await verdict(rt, job.id)
    assert (said.says, said.retry, said.discard, said.ends) == ("safe", True, True, "close")
    await retry(rt, job.id)
    await story.work()
    assert await story.dead() == []
    await story.end()


async def test_a_posting_that_failed_is_retried_and_never_given_up(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    job = await killed(rt, paid.id, "payments.charge")
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Job)
            .where(Job.id == job.id)
            .values(kind="ledger.posting", queue="ledger", args={"posting_id": 1})
        )
    with pytest.raises(DiscardRefused):
        await discard(rt, job.id)
    await retry(rt, job.id)
    await story.work()
    assert await story.dead() == []
    await story.end()
