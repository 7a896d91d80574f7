"""System health: the one sentence is the worst that is so, and every number comes from a row."""

from datetime import timedelta

from sqlalchemy import update

from app.jobs import Job
from app.ledger.models import PostingRow
from app.payments.change import lock
from app.payments.models import PspCall
from app.runtime import Runtime
from app.verification import health
from app.verification.health import Health
from app.webhooks.models import Event
from tests.payments.story import Story
from tests.support.gates import OpenGates
from tests.support.psp import BookPsp


async def found(rt: Runtime) -> Health:
    async with rt.sessions.read() as session:
        return await health.health(session, now=rt.clock())


def title(seen: Health, *, redis: bool = True) -> str:
    return health.sentence(seen, redis=redis).title


async def test_an_empty_system_says_that_money_moves(rt: Runtime) -> None:
    seen = await found(rt)
    assert [queue.due + queue.running + queue.dead for queue in seen.queues] == [0] * 6
    assert all(queue.oldest is None for queue in seen.queues)
    assert (seen.psps, seen.unknown.open, seen.dead) == ([], 0, 0)
    assert title(seen) == "Money moves."
    assert "a little late" in title(seen, redis=False)


async def test_a_played_payment_is_counted_where_it_went(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await story.charge()
    seen = await found(rt)
    queues = {queue.name: queue for queue in seen.queues}
    assert queues["psp"].done >= 1
    (charge,) = [one for one in seen.psps if one.step == "charge"]
    assert (charge.calls, charge.faults, charge.last_outcome) == (2, 0, "succeeded")
    assert charge.slowest is not None
    ledgers = {one.ledger_id: one for one in seen.ledgers}
    assert ledgers["test:0"].position > 0
    assert ledgers["test:0"].waiting == 0
    assert title(seen) == "Money moves."


async def test_due_work_that_nobody_takes_is_the_worst(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await story.create(payment_method="pm_card_visa")
    seen = await found(rt)
    assert next(queue for queue in seen.queues if queue.name == "psp").due == 1
    assert title(seen) == "Money moves."
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).values(run_at=rt.clock() - timedelta(minutes=2)))
    seen = await found(rt)
    waiting = next(queue for queue in seen.queues if queue.name == "psp")
    assert waiting.stuck
    assert waiting.oldest is not None
    assert waiting.oldest >= timedelta(minutes=2)
    assert title(seen, redis=False) == "Work is due, and nobody takes it."
    async with rt.sessions.begin() as session:
        ahead = rt.clock() + timedelta(minutes=1)
        await session.execute(update(Job).values(owner="worker 1", run_at=ahead))
    seen = await found(rt)
    assert next(queue for queue in seen.queues if queue.name == "psp").running == 1
    assert seen.workers == ["worker 1"]


async def test_a_ledger_that_nobody_writes_is_as_bad(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await story.charge()
    async with rt.sessions.begin() as session:
        await session.execute(update(PostingRow).values(status="waiting"))
    seen = await found(rt)
    assert (seen.late_ledgers, title(seen)) == ([], "Money moves.")
    async with rt.sessions.begin() as session:
        early = rt.clock() - timedelta(minutes=2)
        await session.execute(update(PostingRow).values(created_at=early))
    seen = await found(rt)
    assert seen.late_ledgers == ["test:0"]
    assert title(seen) == "Work is due, and nobody takes it."


async def test_a_psp_that_does_not_answer_is_named(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["not_sent"] * 100)  # A slow machine comes to further tries.
    for _ in range(3):
        await story.charge()
    seen = await found(rt)
    (charge,) = seen.psps
    assert charge.calls == charge.faults >= 3
    assert charge.failing
    assert title(seen) == "A PSP does not answer as it should."
    async with rt.sessions.begin() as session:
        await session.execute(update(PspCall).values(started_at=rt.clock() - timedelta(minutes=6)))
    assert (await found(rt)).psps == []


async def test_what_we_kept_back_says_nothing_about_the_psp(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    rt.made_gates = gates = OpenGates(rt)
    gates.keeps = 4
    for _ in range(4):
        await story.charge()
    assert (await found(rt)).psps == []
    psp.script.extend(["not_sent"] * 100)
    for _ in range(3):
        await story.charge()
    (charge,) = (await found(rt)).psps
    assert charge.calls == charge.faults >= 3
    assert charge.failing


async def test_a_declined_card_is_a_good_answer(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "declined"] * 3)
    for _ in range(3):
        await story.charge()
    (charge,) = (await found(rt)).psps
    assert (charge.calls, charge.faults, charge.failing) == (6, 0, False)


async def test_unknown_outcomes_dead_letters_and_reviews_are_counted(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    made = await story.charge()
    seen = await found(rt)
    assert seen.unknown.open == 1
    assert seen.unknown.oldest_at is not None
    assert seen.unknown.next_at is not None
    assert "unknown" in title(seen)
    psp.script.append("rejected")
    await story.charge()
    seen = await found(rt)
    assert seen.dead == 1
    assert title(seen) == "Money moves. Something waits for a person."
    (attempt,), _ = await story.attempts(made.id)
    async with rt.sessions.begin() as session:
        change = await lock(session, rt, payment_id=made.id)
        change.review(attempt, "mismatch", "It is another amount.")
        await change.save()
    assert (await found(rt)).unknown.review == 1


async def test_messages_that_wait_are_counted(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await story.charge()
    assert (await found(rt)).messages.waiting == 0
    async with rt.sessions.begin() as session:
        await session.execute(update(Event).values(fanned_out=False))
    assert (await found(rt)).messages.waiting == 2
