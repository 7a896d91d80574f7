"""Evidence first: nothing is retried before the PSP has been asked, nor sent by the job."""

import asyncio

import pytest

from app.audit.operations import Actor
from app.deadletters import bulk, operations, processing, queries
from app.deadletters.bulk import Action
from app.deadletters.operations import (
    ApprovalOver,
    DiscardRefused,
    RetryRefused,
    SamePerson,
    SecondNeeded,
)
from app.deadletters.verdict import Verdict, weigh
from app.errors import Problem
from app.jobs import Job
from app.payments import attempts
from app.payments.change import lock
from app.runtime import Runtime
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
from tests.support.runtime import Clock

BEA = Actor(kind="user", id="usr_bea", name="bea@example.com", address="192.0.2.11")


async def now_says(rt: Runtime, job_id: str) -> Verdict:
    async with rt.sessions.read() as session:
        return weigh(await queries.letter(session, job_id=job_id), now=rt.clock())


async def blind(rt: Runtime, job_id: str) -> Job:
    async with rt.sessions.begin() as session:
        return await operations.retry(session, rt=rt, actor=ADA, job_id=job_id)


async def test_nothing_is_decided_before_the_psp_was_asked_nor_long_after(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F68: a verdict is good for five minutes."""
    story, _, job = await refused_charge(rt, psp)
    assert (await now_says(rt, job.id)).says == "looking_up"
    with pytest.raises(RetryRefused):
        await blind(rt, job.id)
    with pytest.raises(DiscardRefused):
        async with rt.sessions.begin() as session:
            await operations.discard(session, rt=rt, actor=ADA, job_id=job.id, why=WHY)
    assert await looked(rt, job.id) == "not_found"
    assert (await now_says(rt, job.id)).retry
    clock.forward(minutes=5, seconds=1)
    with pytest.raises(RetryRefused):
        await blind(rt, job.id)
    await looked(rt, job.id)
    await blind(rt, job.id)
    await story.hurry()
    assert psp.total() == 10_000
    await story.end()


async def test_a_page_that_is_opened_twice_asks_once(rt: Runtime, psp: BookPsp) -> None:
    story, _, job = await refused_charge(rt, psp)
    before = len(psp.requests)
    for _ in range(3):
        async with rt.sessions.begin() as session:
            letter = await queries.letter(session, job_id=job.id)
            assert await operations.ask_psp(session, rt=rt, letter=letter)
    assert (await now_says(rt, job.id)).title.startswith("Asking the PSP")
    await story.work()
    assert len(psp.requests) == before + 1
    assert (await now_says(rt, job.id)).says == "safe"


async def test_a_psp_that_does_not_answer_the_look_up_allows_nothing(
    rt: Runtime, psp: BookPsp
) -> None:
    story, _, job = await refused_charge(rt, psp)
    psp.looks.append("lost")
    assert await looked(rt, job.id) == "unknown"
    said = await now_says(rt, job.id)
    assert (said.says, said.retry, said.discard, said.look) == ("unknown", False, False, True)
    with pytest.raises(RetryRefused):
        await blind(rt, job.id)
    assert psp.total() == 0
    await story.end()


async def test_what_was_held_to_be_refused_and_had_happened_is_only_recorded(
    rt: Runtime, psp: BookPsp
) -> None:
    """F12, F15: the PSP refused in words and charged all the same."""
    story, payment_id, job = await refused_charge(rt, psp)
    attempt = (await story.attempts(payment_id))[0][-1]
    psp.script.clear()
    charge = await _charged_behind_our_back(story, attempt.id)
    await looked(rt, job.id)
    assert (await now_says(rt, job.id)).says == "paid"
    assert (await story.get(payment_id)).status == "succeeded"
    sent = len(psp.requests)
    await blind(rt, job.id)
    await story.work()
    assert (psp.total(), len(psp.requests), charge) == (10_000, sent, 10_000)
    await story.end()


async def _charged_behind_our_back(story: Story, attempt_id: str) -> int:
    async with story.rt.sessions.begin() as session:
        attempt = await attempts.find(session, attempt_id)
        assert attempt is not None
        change = await lock(session, story.rt, payment_id=attempt.payment_id)
        request = attempts.request_of(change, attempt)
    made = await story.psp.send("create", request, key="behind-1", reference=None)
    await story.psp.send("confirm", request, key="behind-2", reference=made.psp_reference)
    story.psp.requests = story.psp.requests[:-2]
    return story.psp.total()


async def test_the_job_itself_asks_once_more_before_it_sends(rt: Runtime, psp: BookPsp) -> None:
    """F59, F68: charged between the verdict and the job; the job finds it and sends nothing."""
    story, payment_id, job = await refused_charge(rt, psp)
    await retry(rt, job.id)
    attempt = (await story.attempts(payment_id))[0][-1]
    await _charged_behind_our_back(story, attempt.id)
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 10_000
    assert len(psp.charges) == 1
    await story.end()


async def test_a_retried_job_waits_while_the_psp_does_not_answer(rt: Runtime, psp: BookPsp) -> None:
    story, payment_id, job = await refused_charge(rt, psp)
    await retry(rt, job.id)
    sent = [step for step, key, _ in psp.requests if key]
    psp.looks.append("lost")
    await story.work()
    assert [step for step, key, _ in psp.requests if key] == sent
    assert (await story.get(payment_id)).status_reason == "held_for_operator"
    await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 10_000
    await story.end()


async def test_what_became_of_similar_letters_is_counted(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["rejected"] * 5)
    for _ in range(5):
        await story.charge(1_000)
    letters = await story.dead()
    await retry(rt, letters[0].id)
    await story.work()
    psp.script.append("rejected")
    await retry(rt, letters[1].id)
    await story.work()
    await discard(rt, letters[2].id)
    async with rt.sessions.read() as session:
        found = await queries.alike(session, job=letters[4])
    assert (found.still, found.retried, found.succeeded) == (1, 2, 1)
    assert (found.again, found.discarded, found.known) == (1, 1, 4)
    await story.end()


async def test_above_the_limit_one_person_alone_decides_nothing(rt: Runtime, psp: BookPsp) -> None:
    """F59, F69: the first decision waits as a row, a second person's answer has one effect."""
    story, payment_id, job = await refused_charge(rt, psp, amount=100_001)
    with pytest.raises(SecondNeeded):
        await retry(rt, job.id)
    with pytest.raises(SecondNeeded):
        await discard(rt, job.id)
    async with rt.sessions.begin() as session:
        letters = await queries.letters_of(session, job_ids=[job.id])
        plan = bulk.plan(letters, "retry", now=rt.clock())
        assert bulk.needs_second(plan.sums, len(plan.runs), rt.settings)
        asked = await operations.ask_second(
            session, rt=rt, actor=ADA, action="retry", plan=plan, why=WHY
        )
    await story.work()
    assert psp.total() == 0

    async def answer(actor: Actor, *, agrees: bool = True) -> str:
        async with rt.sessions.begin() as session:
            await operations.answer_second(
                session, rt=rt, actor=actor, approval_id=asked.id, agrees=agrees
            )
        return await processing.carry_out(rt, actor=actor, approval_id=asked.id)

    with pytest.raises(SamePerson):
        await answer(ADA)
    said = await asyncio.gather(*(answer(BEA) for _ in range(3)), return_exceptions=True)
    assert sum(one == "1 retried." for one in said) == 1
    assert sum(isinstance(one, ApprovalOver) for one in said) == 2
    assert await processing.carry_out(rt, actor=BEA, approval_id=asked.id) == "1 retried."
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 100_001
    actions = [row.action for row in await audited(rt)]
    assert actions == ["dead_letter.ask", "dead_letter.approve", "dead_letter.retry"]
    await story.end()


async def _answered(rt: Runtime, job_id: str, action: Action, *, agrees: bool) -> str:
    """Have one admin ask for a letter's retry or discard, and a second one answer."""
    await looked(rt, job_id)
    async with rt.sessions.begin() as session:
        letters = await queries.letters_of(session, job_ids=[job_id])
        plan = bulk.plan(letters, action, now=rt.clock())
        asked = await operations.ask_second(
            session, rt=rt, actor=ADA, action=action, plan=plan, why=WHY
        )
        await operations.answer_second(
            session, rt=rt, actor=BEA, approval_id=asked.id, agrees=agrees
        )
        return asked.id


async def test_a_decision_that_is_cut_off_after_both_agreed_is_carried_out_by_a_worker(
    rt: Runtime, psp: BookPsp
) -> None:
    """F01: the web server dies between the second one's answer and what was agreed on."""
    story, payment_id, job = await refused_charge(rt, psp, amount=200_000)
    approval_id = await _answered(rt, job.id, "retry", agrees=True)
    await story.work()
    assert psp.total() == 0
    for _ in range(2):
        await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 200_000
    async with rt.sessions.read() as session:
        assert (await queries.approval(session, approval_id=approval_id)).outcome == "1 retried."
    retried = [row for row in await audited(rt) if row.action == "dead_letter.retry"]
    assert [(row.actor_id, row.object_id) for row in retried] == [(BEA.id, job.id)]
    await story.end()


async def test_what_was_retried_before_a_decision_was_cut_off_is_not_retried_again(
    rt: Runtime, psp: BookPsp
) -> None:
    """F01: it came back as a letter meanwhile, which is a question of its own."""
    story, _, job = await refused_charge(rt, psp, amount=200_000)
    await _answered(rt, job.id, "retry", agrees=True)
    async with rt.sessions.begin() as session:
        await operations.retry(session, rt=rt, actor=BEA, job_id=job.id, why=WHY, approved=True)
    psp.script.append("rejected")
    await story.work()
    (back,) = await story.dead()
    await story.hurry()
    assert [one.id for one in await story.dead()] == [back.id]
    assert psp.total() == 0
    await story.end()


async def test_a_refused_request_does_nothing_for_ever(rt: Runtime, psp: BookPsp) -> None:
    story, _, job = await refused_charge(rt, psp, amount=200_000)
    approval_id = await _answered(rt, job.id, "discard", agrees=False)
    assert await processing.carry_out(rt, actor=BEA, approval_id=approval_id) == "Nothing was done."
    with pytest.raises(Problem):
        async with rt.sessions.begin() as session:
            await operations.answer_second(
                session, rt=rt, actor=BEA, approval_id=approval_id, agrees=True
            )
    actions = [row.action for row in await audited(rt)]
    assert actions == ["dead_letter.ask", "dead_letter.refuse"]
    assert [one.id for one in await story.dead()] == [job.id]
    await story.end()


@pytest.mark.parametrize("fault", ["busy", "unauthorized", "not_sent"])
async def test_what_the_psp_turned_away_is_not_said_to_have_never_reached_it(
    rt: Runtime, psp: BookPsp, fault: str
) -> None:
    """429, 409 and 401: the PSP has heard of it, and nothing came of that."""
    story = await Story.begin(rt, psp)
    psp.script.append(fault)
    made = await story.charge()
    job = await killed(rt, made.id, "payments.charge")
    said = await verdict(rt, job.id)
    assert (said.says, said.title) == ("safe", "The PSP has not done this. Safe to send again.")
    assert "turned away by the PSP" in said.because
    assert "with the same key" in said.because


async def test_what_no_try_has_sent_never_reached_the_psp(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    psp.script.append("not_sent")
    made = await story.charge()
    job = await killed(rt, made.id, "payments.charge", first_sent_at=None)
    assert (await verdict(rt, job.id)).title.startswith("Nothing reached the PSP.")
