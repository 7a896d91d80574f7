"""The janitor's letters: a refusal is told once, and a letter is no reason to look again."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update

from app import jobs
from app.janitor import processing as janitor
from app.jobs import Job
from app.payments import resolving
from app.payments.models import Attempt
from app.payments.ruling import Ruling
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp


async def test_a_refusal_whose_letter_was_not_written_is_not_forgotten(
    rt: Runtime, psp: BookPsp
) -> None:
    """F03, F08: the worker that heard the no stood still, and lost its job to another one."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.extend(["never", "rejected"])
    refund = await story.refund(paid.id, 4_000)
    await story.work()
    attempts, _ = await story.attempts(paid.id)
    await story.forget_calls()
    assert (await _found_out(rt, attempts[-1])).action == "bury"
    assert await story.dead() == []
    await story.hurry()
    (letter,) = await story.dead()
    assert (letter.kind, letter.args) == ("janitor.resolve", {"attempt_id": attempts[-1].id})
    async with rt.sessions.begin() as session:  # A second look at it makes no second letter.
        now = rt.clock()
        args = {"attempt_id": attempts[-1].id}
        await jobs.enqueue(
            session, id="job_x", kind="janitor.resolve", args=args, queue="janitor", now=now
        )
    await story.hurry()
    assert len(await story.dead()) == 1
    assert (await story.get_refund(refund.id)).status == "pending"
    await story.end()


async def _refused_refund(rt: Runtime, psp: BookPsp) -> tuple[Story, Attempt]:
    """Return a refund that got no answer and whose replay will be refused; no job is about it."""
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    psp.script.extend(["never", "rejected"])
    await story.refund(paid.id, 4_000)
    await story.work()
    attempts, _ = await story.attempts(paid.id)
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Job)
            .where(Job.kind == "janitor.resolve", Job.state == "due")
            .values(state="done", finished_at=rt.clock(), owner=None)
        )
    await story.forget_calls()
    return story, attempts[-1]


async def _found_out(rt: Runtime, attempt: Attempt) -> Ruling:
    """Have it looked at, sent again, refused and looked at; whoever does it writes no letter."""
    assert (await resolving.resolve(rt, attempt_id=attempt.id)).action == "look"
    return await resolving.resolve(rt, attempt_id=attempt.id)


async def _enqueue_looks(story: Story, attempt: Attempt, *names: str) -> None:
    async with story.rt.sessions.begin() as session:
        for name in names:
            await jobs.enqueue(
                session,
                id=f"job_{name}",
                kind="janitor.resolve",
                args={"attempt_id": attempt.id},
                queue="janitor",
                now=story.rt.clock(),
                payment_id=attempt.payment_id,
            )


async def test_of_two_looks_at_a_refusal_without_a_letter_one_writes_it(
    rt: Runtime, psp: BookPsp
) -> None:
    """F03, seed 697: each took the other for the one that would."""
    story, attempt = await _refused_refund(rt, psp)
    assert (await _found_out(rt, attempt)).action == "bury"
    await _enqueue_looks(story, attempt, "one", "two")
    await story.work()
    assert await story.dead() == []  # The older one runs as well, and may tell of it.
    await story.hurry()
    assert [letter.id for letter in await story.dead()] == ["job_two"]
    await story.end()


async def test_a_refusal_that_another_look_found_out_and_did_not_tell_is_told(
    rt: Runtime, psp: BookPsp
) -> None:
    """F03: the one that found it out died, while this one was asking."""
    story, attempt = await _refused_refund(rt, psp)
    assert (await resolving.resolve(rt, attempt_id=attempt.id)).action == "look"
    psp.while_looking = lambda: resolving.resolve(rt, attempt_id=attempt.id)
    await _enqueue_looks(story, attempt, "one")
    await story.work()
    assert await story.dead() == []  # It may be told yet by the one that found it out.
    await story.hurry()
    assert [letter.id for letter in await story.dead()] == ["job_one"]
    await story.end()


async def test_a_look_that_lies_in_the_dead_letters_is_not_swept_up_again_and_again(
    rt: Runtime, psp: BookPsp
) -> None:
    """F58: one poisoned look is one letter, not one every ten seconds."""
    story = await Story.begin(rt, psp)
    payment_id, _ = await story.uncertain("lost")
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Job)
            .where(Job.kind == "janitor.resolve")
            .values(state="dead", reason="ValueError", finished_at=datetime.now(UTC), owner=None)
        )
        late = datetime.now(UTC) - timedelta(minutes=1)
        await session.execute(update(Attempt).values(next_check_at=late))
    assert await janitor.sweep(rt) == 0
    (attempt,), _ = await story.attempts(payment_id)
    assert attempt.next_check_at is not None
    assert attempt.next_check_at - datetime.now(UTC) > timedelta(hours=23)
    await story.resolved(payment_id)  # A person, or the shop, may still have it looked at.
    assert (await story.get(payment_id)).status == "succeeded"


async def test_a_letter_is_revived_beside_a_job_of_the_same_key(rt: Runtime) -> None:
    key = "janitor.sweep:att_1"
    values: dict[str, Any] = {
        "kind": "janitor.resolve",
        "args": {"attempt_id": "att_1"},
        "queue": "janitor",
    }
    async with rt.sessions.begin() as session:
        row = jobs.row(id="job_1", now=rt.clock(), unique_key=key, **values)
        await jobs.bury_at_once(session, values=row, now=rt.clock(), reason="poison")
        row = jobs.row(id="job_2", now=rt.clock(), unique_key=key, **values)
        session.add(Job(**row | {"run_at": rt.clock()}))
    async with rt.sessions.begin() as session:
        found = await jobs.revive(session, job_id="job_1", now=rt.clock(), why="cured")
    assert found.state == "due"


async def test_the_end_of_a_page_is_not_taken_for_the_letter_about_a_refused_cancel(
    rt: Runtime, psp: BookPsp
) -> None:
    """F03: the worker that heard the no was killed before it wrote the letter."""
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    made = await story.create(capture_method="manual")
    await story.work()
    (page,), _ = await story.attempts(made.id)
    psp.pay(page.id)
    await story.resolved(made.id)
    psp.script.append("rejected")
    await story.cancel(made.id)
    await story.work()
    (letter,) = await story.dead()
    await story.unbury(letter)
    await story.work()
    assert [one.id for one in await story.dead()] == [letter.id]
    await story.end()
