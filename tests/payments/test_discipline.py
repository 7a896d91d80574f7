"""How payments wait out a PSP that fails: accepted, unsent, and carried out afterwards."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from app import jobs
from app.jobs import Job
from app.payments import resolving
from app.payments.models import PspCall
from app.payments.processing import backoff
from app.psp.gates import Gates, Permit, Shut
from app.psp.models import PspGate
from app.psp.port import Result
from app.runtime import Runtime
from app.verification import health
from tests.payments.story import Story
from tests.support.psp import BookPsp

AMOUNT = 10_000


async def gate(rt: Runtime, operation: str = "charge") -> PspGate:
    async with rt.sessions.read() as session:
        query = select(PspGate).where(PspGate.operation == operation)
        return (await session.execute(query)).scalar_one()


async def due_jobs(rt: Runtime, kind: str = "payments.charge") -> list[Job]:
    async with rt.sessions.read() as session:
        query = select(Job).where(Job.state == "due", Job.kind == kind)
        return list(await session.scalars(query))


async def probe_is_due(rt: Runtime, story: Story) -> None:
    """Let the time of the next probe come, and that of all jobs."""
    back = datetime.now(UTC) - timedelta(seconds=1)
    async with rt.sessions.begin() as session:
        await session.execute(update(PspGate).values(next_probe_at=back))
        await session.execute(update(Job).where(Job.state == "due").values(run_at=back))
    rt.made_gates = None  # Another worker, which learns from the rows.


async def comes_back(rt: Runtime, story: Story) -> None:
    """Work until nothing is left to charge: the probe, and a ramp that lies a minute back."""
    for _ in range(30):
        await probe_is_due(rt, story)
        async with rt.sessions.begin() as session:
            long_ago = datetime.now(UTC) - timedelta(minutes=1)
            await session.execute(
                update(PspGate).where(PspGate.state == "ramp").values(since=long_ago)
            )
        await story.work()
        if not await due_jobs(rt):
            break


async def test_an_outage_is_waited_out_and_everything_is_final_afterwards(
    rt: Runtime, psp: BookPsp
) -> None:
    """F19, F51: five calls find out; the others are accepted and not sent before it is back."""
    story = await Story.begin(rt, psp, gates=True)
    psp.script.extend(["not_sent"] * 5)
    made = [await story.create(payment_method="pm_card_visa") for _ in range(30)]
    await story.work()
    assert len(psp.requests) == 5
    assert (await gate(rt)).state == "open"
    waiting = await due_jobs(rt)
    assert len(waiting) == 30
    sent = [payment for payment in made if (await story.attempts(payment.id))[1]]
    assert len(sent) == 5  # The others have no attempt and no call: their shop may cancel them.
    untouched = [job for job in waiting if job.tries == 0]
    assert len(untouched) == 25  # Not claimed, or claimed and not counted as tried.
    assert all(job.failures == 0 for job in waiting)
    assert (await story.get(made[-1].id)).status == "processing"
    # One more outage within the probe: it is alone.
    psp.script.append("not_sent")
    await probe_is_due(rt, story)
    await story.work()
    assert len(psp.requests) == 6
    await comes_back(rt, story)
    for payment in made:
        assert (await story.get(payment.id)).status == "succeeded"
    assert psp.total() == AMOUNT * len(made)
    assert await story.dead() == []
    assert (await gate(rt)).state == "closed"
    await story.end()


async def test_what_waits_for_a_psp_is_held_and_not_neglected(rt: Runtime, psp: BookPsp) -> None:
    """F18, F19: claims pass it over, the health page says why, and other work goes on."""
    story = await Story.begin(rt, psp, gates=True)
    psp.script.extend(["not_sent"] * 5)
    for _ in range(8):
        await story.create(payment_method="pm_card_visa")
    await story.work()
    async with rt.sessions.begin() as session:
        long_ago = datetime.now(UTC) - timedelta(minutes=10)
        await session.execute(update(Job).where(Job.state == "due").values(run_at=long_ago))
    assert rt.gates.held() == ["conn_sandbox/charge/"]
    async with rt.sessions.begin() as session:
        held = rt.gates.held()
        claims = await jobs.claim(session, queue="psp", limit=32, owner="me", lease=15, held=held)
        assert claims == []
    psp.pages_end = True
    page = await story.create()  # The customer's page is another operation.
    await story.work()
    assert (await story.attempts(page.id))[0][0].state == "open"
    async with rt.sessions.read() as session:
        seen = await health.health(session, now=rt.clock())
    queue = next(one for one in seen.queues if one.name == "psp")
    assert (queue.stuck, queue.later) == (False, 9)  # Eight, and the end of the page.
    (shut,) = seen.gates
    assert (shut.operation, shut.state) == ("charge", "open")
    assert shut.next_probe_at is not None
    assert "never left us" in (shut.reason or "")
    assert "left alone" in health.sentence(seen, redis=True).title
    await story.end()


async def test_a_look_up_that_may_not_go_out_changes_nothing(rt: Runtime, psp: BookPsp) -> None:
    """F13, F18: no look counts that was not made, and the schedule stays where it was."""
    story = await Story.begin(rt, psp, gates=True)
    psp.script.extend(["ok", "lost"])
    made = await story.charge()
    (before,), _ = await story.attempts(made.id)
    assert before.state == "unknown"
    async with rt.sessions.begin() as session:
        later = datetime.now(UTC) + timedelta(seconds=30)
        await session.execute(
            update(PspGate)
            .where(PspGate.operation == "lookup")
            .values(state="open", next_probe_at=later, reason="It fails.")
        )
    rt.made_gates = None
    await story.hurry()
    (after,), calls = await story.attempts(made.id)
    assert (after.state, after.checks) == ("unknown", before.checks)
    assert [call.outcome for call in calls if call.kind == "lookup"] in ([], ["kept"])
    await probe_is_due(rt, story)
    await story.work()
    assert (await story.get(made.id)).status == "succeeded"
    assert psp.total() == AMOUNT
    await story.end()


async def test_what_our_own_gate_keeps_is_no_retry_later(
    rt: Runtime, psp: BookPsp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F19: the budget of retries is for what a PSP has seen before."""
    story = await Story.begin(rt, psp)
    rt.made_gates = Gates(rt)
    let_in, retries = rt.gates.enter, []

    async def enter(*where: str, retry: bool = False) -> Permit | Shut:
        retries.append(retry)
        if len(retries) in {1, 3}:  # The first step is kept, and so is the second one.
            return Shut(30.0, "The PSP gets as many calls as it may.")
        return await let_in(*where, retry=retry)

    monkeypatch.setattr(rt.gates, "enter", enter)
    made = await story.charge()
    (attempt,), _ = await story.attempts(made.id)
    assert (attempt.state, attempt.step, attempt.first_sent_at) == ("created", None, None)
    await story.hurry()
    (attempt,), _ = await story.attempts(made.id)
    assert (attempt.state, attempt.step) == ("created", "create")
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert retries == [False] * 4
    await story.end()


async def test_what_somebody_else_has_sent_meanwhile_stays_sent(rt: Runtime, psp: BookPsp) -> None:
    """F04, F08: a look-up that was held up for a minute knows less than the one after it."""
    story = await Story.begin(rt, psp)
    psp.script.append("lost")  # The creation was done, so what follows is the confirmation.
    made = await story.charge()
    (attempt,), _ = await story.attempts(made.id)
    late = await resolving.start_look_up(rt, attempt_id=attempt.id)
    assert late is not None
    seen = await rt.psp(late.connection_id).look_up(late.request, reference=None)
    replay, _ = await resolving._settle(rt, late, seen, 0.1)
    assert replay is not None
    assert (replay.kind, replay.step, replay.before) == ("replay", "confirm", "create")
    async with rt.sessions.begin() as session:  # It stands still; the next one gives it up.
        long_ago = rt.clock() - timedelta(minutes=2)
        await session.execute(update(PspCall).values(started_at=long_ago))
    psp.script.append("lost")
    await story.hurry()
    (attempt,), _ = await story.attempts(made.id)
    assert (attempt.state, attempt.step) == ("unknown", "confirm")
    kept = Result(cls="not_sent", turned_away=True, retry_after=1.0)
    await resolving._settle(rt, replay, kept, 0.1)
    (attempt,), _ = await story.attempts(made.id)
    assert (attempt.state, attempt.step) == ("unknown", "confirm")
    assert attempt.first_sent_at is not None
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_a_refused_credential_fails_no_payment_and_resumes_after_the_fix(
    rt: Runtime, psp: BookPsp
) -> None:
    """F25."""
    story = await Story.begin(rt, psp, gates=True)
    psp.script.append("unauthorized")
    made = [await story.create(payment_method="pm_card_visa") for _ in range(3)]
    await story.work()
    assert len(psp.requests) == 1
    assert "credential" in ((await gate(rt)).reason or "")
    for payment in made:
        assert (await story.get(payment.id)).status == "processing"
    await comes_back(rt, story)
    for payment in made:
        assert (await story.get(payment.id)).status == "succeeded"
    assert psp.total() == AMOUNT * 3
    await story.end()


async def test_those_who_were_turned_away_together_do_not_come_back_together(
    rt: Runtime,
) -> None:
    """F16: what a PSP asks for is the least, and the jitter comes on top of it."""
    waits = {round(backoff(rt, 5, at_least=30.0), 3) for _ in range(50)}
    assert min(waits) >= 30.0
    assert max(waits) <= 62.0
    assert len(waits) > 40
    assert 0 <= backoff(rt, 40, at_least=1e9) - 3600.0 <= 3600.0
