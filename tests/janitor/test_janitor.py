"""The janitor: looks on schedule, hurries when somebody reads, and never piles work up."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

from app import jobs
from app.ids import Ids
from app.janitor import processing as janitor
from app.jobs import Bury, Claim, Job
from app.payments import resolving
from app.payments.models import Attempt, PspCall
from app.payments.processing import backoff, give_up
from app.payments.states import next_check
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp
from tests.support.runtime import Clock


async def _unknown(story: Story) -> str:
    story.psp.script.extend(["ok", "lost"])
    made = await story.charge()
    assert made.status_reason == "outcome_unknown"
    return made.id


async def _looks(rt: Runtime) -> list[Job]:
    async with rt.sessions.read() as session:
        query = select(Job).where(Job.kind == "janitor.resolve").order_by(Job.id)
        return list(await session.scalars(query))


async def _hurry(rt: Runtime, payment_id: str) -> None:
    async with rt.sessions.begin() as session:
        await janitor.hurry(session, ids=rt.ids, rt=rt, payment_id=payment_id)


async def _wait(story: Story, payment_id: str) -> float:
    """Return in how many seconds an attempt is looked at again."""
    (attempt,), _ = await story.attempts(payment_id)
    assert attempt.next_check_at is not None
    return (attempt.next_check_at - attempt.updated_at).total_seconds()


def _lookups(psp: BookPsp) -> int:
    return [step for step, _, _ in psp.requests].count("lookup")


async def test_reading_brings_the_next_look_forward_once_in_ten_seconds(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """Whoever reads, and through however many processes."""
    story = await Story.begin(rt, psp)
    payment_id = await _unknown(story)
    psp.looks.extend(["lost"] * 9)
    for _ in range(3):
        await _hurry(rt, payment_id)
        await story.work()
    assert _lookups(psp) == 1
    clock.forward(seconds=11)
    for _ in range(3):
        await _hurry(rt, payment_id)
        await story.work()
    assert _lookups(psp) == 2
    assert len(await _looks(rt)) == 1
    await story.end()


async def test_a_settled_payment_is_not_looked_at(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    await story.resolved(paid.id)
    assert _lookups(psp) == 0
    assert await _looks(rt) == []


async def test_the_schedule_widens_and_never_ends() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    soon = since + timedelta(hours=1)
    steps = [next_check(n, since=since, now=soon) for n in range(8)]
    assert steps == [5, 15, 60, 300, 900, 3600, 3600, 3600]
    assert next_check(99, since=since, now=since + timedelta(days=2)) == 86_400


async def test_each_miss_waits_longer_and_a_psp_may_ask_for_more(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["never"] * 4)
    payment_id = (await story.charge()).id
    waits = []
    for _ in range(3):
        await story.hurry()
        waits.append(round(await _wait(story, payment_id)))
    assert waits == [15, 60, 300]
    await story.hurry()
    assert (await story.get(payment_id)).status == "succeeded"
    await story.end()


async def test_nobody_looks_at_a_call_that_is_under_way(rt: Runtime, psp: BookPsp) -> None:
    """Its answer is still to come; when it does not, the look is made all the same."""
    story = await Story.begin(rt, psp)
    payment_id = await _unknown(story)

    async def due(state: str, kind: str, started: timedelta) -> int:
        async with rt.sessions.begin() as session:
            await session.execute(update(Job).values(state="done"))
            at = rt.clock() - started
            await session.execute(
                update(PspCall).values(kind=kind, started_at=at, finished_at=None)
            )
            # The PSP may have said that it decides later: the schedule comes by in an hour.
            later = rt.clock() + timedelta(hours=1)
            await session.execute(update(Attempt).values(state=state, next_check_at=later))
        await _hurry(rt, payment_id)
        return [one.state for one in await _looks(rt)].count("due")

    for state, kind in (("sent", "request"), ("unknown", "replay")):
        assert await due(state, kind, timedelta(seconds=20)) == 0
        assert await due(state, kind, timedelta(seconds=40)) == 1


async def test_a_look_that_nobody_answers_is_made_again_soon(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F19: it has told nothing, and the PSP may be back in the next minute."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["never"] * 5)  # Each time it is sent again, and answered by nobody.
    payment_id = (await story.charge()).id
    for _ in range(4):
        await story.hurry()
    psp.looks.extend(["lost"] * 8)
    waits = []
    for _ in range(6):
        clock.forward(minutes=20)
        await story.hurry()
        waits.append(await _wait(story, payment_id))
    (attempt,), _ = await story.attempts(payment_id)
    assert attempt.checks == 5
    assert all(10 <= wait <= 20 for wait in waits)
    clock.forward(hours=24)  # By now a person is asked, and what is stuck is asked about rarely.
    await story.hurry()
    assert await _wait(story, payment_id) > 80_000
    psp.looks.clear()
    await story.hurry()  # Nothing of it ever arrived, and its key is too old by now.
    assert (await story.get(payment_id)).status == "failed"
    assert psp.total() == 0
    await story.end()


async def test_a_look_whose_job_was_lost_is_taken_up_by_the_sweep(
    rt: Runtime, psp: BookPsp
) -> None:
    """F31, F35."""
    story = await Story.begin(rt, psp)
    payment_id = await _unknown(story)
    async with rt.sessions.begin() as session:
        gone = update(Job).where(Job.state == "due").values(state="done", finished_at=rt.clock())
        await session.execute(gone)
        late = datetime.now(UTC) - timedelta(minutes=1)
        await session.execute(update(Attempt).values(next_check_at=late))
    assert await janitor.sweep(rt) == 1
    assert await janitor.sweep(rt) == 0
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert await janitor.sweep(rt) == 0
    await story.end()


async def test_looks_at_open_pages_that_failed_together_come_back_apart(
    rt: Runtime, psp: BookPsp
) -> None:
    """F19: after as long as each other they would all come back at once."""
    story, made, attempt = await Story.with_page(rt, psp)
    rt.ids = Ids(rt.clock)
    psp.looks.extend(["lost"] * 5)
    rulings = [await resolving.resolve(rt, attempt_id=attempt.id) for _ in range(5)]
    waits = {ruling.seconds or 0.0 for ruling in rulings}
    assert {ruling.action for ruling in rulings} == {"look"}
    assert all(15 <= wait <= 30 for wait in waits)
    assert len(waits) == 5
    psp.pay(attempt.id)
    await story.resolved(made.id)
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_a_look_whose_job_waits_is_not_lost(rt: Runtime, psp: BookPsp) -> None:
    """F19: an hour without the PSP makes no second job for each, again and again."""
    story = await Story.begin(rt, psp)
    waits, other, later = [await _unknown(story) for _ in range(3)]
    async with rt.sessions.begin() as session:
        late = datetime.now(UTC) - timedelta(minutes=1)
        await session.execute(update(Attempt).values(next_check_at=late))
        job = update(Job).where(Job.state == "due", Job.kind == "janitor.resolve")
        # A job about another attempt of the payment says nothing, nor does one for tomorrow.
        about = job.where(Job.payment_id == other).values(args={"attempt_id": "att_other"})
        await session.execute(about)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await session.execute(job.where(Job.payment_id == later).values(run_at=tomorrow))
    assert await janitor.sweep(rt) == 2
    assert await janitor.sweep(rt) == 0
    due = [job.payment_id or "" for job in await _looks(rt) if job.state == "due"]
    assert sorted(due) == sorted([waits, other, other, later, later])
    await story.work()
    await story.end()


def _claim(clock: Clock, history: list[dict[str, str]] | None = None) -> Claim:
    return Claim(
        id="job_1",
        kind="payments.charge",
        version=1,
        args={},
        queue="psp",
        fence=1,
        tries=40,
        failures=0,
        crashes=0,
        created_at=clock() - timedelta(hours=25),
        history=history or [],
    )


async def test_a_job_is_given_up_after_a_day_counted_from_its_last_retry(
    rt: Runtime, clock: Clock
) -> None:
    gone = False
    try:
        give_up(_claim(clock), rt, "Never left us.")
    except Bury as end:
        gone = "24 hours" in end.reason
    assert gone
    again = [{"at": clock().isoformat(), "what": "retried", "why": "cured"}]
    give_up(_claim(clock, again), rt, "Never left us.")


async def test_an_outage_of_a_day_ends_in_the_dead_letters_with_nothing_failed(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    """F19."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["not_sent"] * 3)
    made = await story.charge()
    clock.forward(hours=23)
    await story.hurry()
    assert await story.dead() == []
    clock.forward(hours=2)
    await story.hurry()
    (letter,) = await story.dead()
    assert (letter.kind, (await story.get(made.id)).status) == ("payments.charge", "processing")
    async with rt.sessions.begin() as session:
        await jobs.revive(session, job_id=letter.id, now=datetime.now(UTC), why="it is back")
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_waiting_times_are_spread_over_all_of_their_range(rt: Runtime) -> None:
    """Full jitter: uniform from nothing to the ceiling, or clients come back in step."""
    state = 12345

    def seeded(size: int) -> bytes:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 8).to_bytes(7)[:size]

    rt.ids = Ids(rt.clock, seeded)
    for tries, cap, ceiling in ((3, 3600.0, 8.0), (30, 3600.0, 3600.0), (30, 30.0, 30.0)):
        waits = [backoff(rt, tries, cap=cap) for _ in range(4_000)]
        assert 0 <= min(waits) < 0.01 * ceiling
        assert 0.99 * ceiling < max(waits) < ceiling
        assert abs(sum(waits) / len(waits) - ceiling / 2) < 0.03 * ceiling
        quarter = sum(1 for wait in waits if wait < ceiling / 4) / len(waits)
        assert abs(quarter - 0.25) < 0.03
    # What a PSP asks for is the least; those whom it turned away together come back apart.
    asked = {backoff(rt, 2, at_least=20.0) for _ in range(50)}
    assert 20.0 <= min(asked) < max(asked) < 24.0
    assert 3600.0 <= backoff(rt, 2, at_least=86_400.0) < 3604.0


async def test_a_psp_that_says_when_to_come_back_is_obeyed(rt: Runtime, psp: BookPsp) -> None:
    """F16."""
    story = await Story.begin(rt, psp)
    psp.script.append("busy")
    psp.retry_after = 600.0
    made = await story.charge()
    async with rt.sessions.read() as session:
        job = await session.scalar(select(Job).where(Job.kind == "payments.charge"))
    assert job is not None
    assert job.run_at - datetime.now(UTC) > timedelta(seconds=590)
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()
