import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, update

from app import jobs
from app.jobs import Claim, Job, LeaseLost, NotRetryable
from app.runtime import Runtime


async def _make(rt: Runtime, **values: Any) -> bool:
    async with rt.sessions.begin() as session:
        return await jobs.enqueue(
            session,
            **{
                "id": rt.ids("job"),
                "kind": "test",
                "args": {},
                "queue": "psp",
                "now": datetime.now(UTC),
            }
            | values,
        )


async def _claim(rt: Runtime, limit: int = 8, lease: float = 15) -> list[Claim]:
    async with rt.sessions.begin() as session:
        return await jobs.claim(session, queue="psp", limit=limit, owner="me", lease=lease)


async def _row(rt: Runtime, job_id: str) -> Job:
    async with rt.sessions.read() as session:
        found = await session.get(Job, job_id)
    assert found is not None
    return found


async def test_a_job_is_claimed_once(rt: Runtime) -> None:
    """F39."""
    for _ in range(20):
        await _make(rt)
    claims = await asyncio.gather(*(_claim(rt, 20) for _ in range(8)))
    ids = [job.id for claim in claims for job in claim]
    while more := await _claim(rt, 20):
        ids += [job.id for job in more]
    assert len(ids) == len(set(ids)) == 20


async def test_a_job_of_the_future_is_left_alone(rt: Runtime) -> None:
    await _make(rt, after=60.0)
    assert await _claim(rt) == []


async def test_one_merchant_gets_a_quarter_of_a_claim_at_most(rt: Runtime) -> None:
    for number in range(30):
        await _make(rt, merchant_id="mer_noisy", livemode=False, after=number - 100.0)
    await _make(rt, merchant_id="mer_quiet", livemode=False)
    claims = await _claim(rt, 8)
    assert [job.merchant_id for job in claims].count("mer_noisy") == 2
    assert [job.merchant_id for job in claims].count("mer_quiet") == 1


async def test_a_merchant_alone_gets_the_whole_claim(rt: Runtime) -> None:
    for _ in range(10):
        await _make(rt, merchant_id="mer_alone", livemode=False)
    assert len(await _claim(rt, 8)) == 8


async def test_a_unique_key_allows_one_due_job(rt: Runtime) -> None:
    assert await _make(rt, unique_key="x")
    assert not await _make(rt, unique_key="x")
    (job,) = await _claim(rt)
    async with rt.sessions.begin() as session:
        await jobs.finish(session, job=job, now=rt.clock())
    assert await _make(rt, unique_key="x")


async def test_a_lost_lease_cannot_commit(rt: Runtime) -> None:
    """F08: the zombie's fence is too low."""
    await _make(rt)
    (zombie,) = await _claim(rt, lease=0)
    await asyncio.sleep(0.01)
    (second,) = await _claim(rt)
    assert second.id == zombie.id
    assert second.crashes == 1
    with pytest.raises(LeaseLost):
        async with rt.sessions.begin() as session:
            await jobs.finish(session, job=zombie, now=rt.clock())
    with pytest.raises(LeaseLost):
        async with rt.sessions.begin() as session:
            await jobs.check(session, job=zombie)
    async with rt.sessions.begin() as session:
        await jobs.finish(session, job=second, now=rt.clock())
    assert (await _row(rt, second.id)).state == "done"


async def test_a_renewed_lease_keeps_others_away(rt: Runtime) -> None:
    await _make(rt)
    (job,) = await _claim(rt, lease=0)
    async with rt.sessions.begin() as session:
        await jobs.renew(session, claims=[job], lease=60)
    assert await _claim(rt) == []


async def test_a_handed_back_job_counts_no_crash(rt: Runtime) -> None:
    await _make(rt)
    (job,) = await _claim(rt)
    async with rt.sessions.begin() as session:
        await jobs.hand_back(session, jobs=[job])
    (again,) = await _claim(rt)
    assert (again.crashes, again.tries) == (0, 1)


async def test_a_postponed_job_tells_why(rt: Runtime) -> None:
    await _make(rt)
    (job,) = await _claim(rt)
    async with rt.sessions.begin() as session:
        await jobs.postpone(
            session, job=job, now=rt.clock(), seconds=60, reason="PSP is down", failed=True
        )
    row = await _row(rt, job.id)
    assert (row.failures, row.reason, row.owner) == (1, "PSP is down", None)
    assert row.history[-1]["why"] == "PSP is down"
    assert await _claim(rt) == []


async def test_a_dead_letter_is_revived_once(rt: Runtime) -> None:
    """F59."""
    await _make(rt)
    (job,) = await _claim(rt)
    async with rt.sessions.begin() as session:
        await jobs.bury(session, job=job, now=rt.clock(), reason="No.")
    assert await _claim(rt) == []
    async with rt.sessions.begin() as session:
        await jobs.revive(session, job_id=job.id, now=rt.clock(), why="fixed")
    with pytest.raises(NotRetryable):
        async with rt.sessions.begin() as session:
            await jobs.discard(session, job_id=job.id, now=rt.clock(), why="late")
    (again,) = await _claim(rt)
    assert [line["what"] for line in again.history] == ["buried", "retried"]


async def test_a_discarded_job_is_never_done(rt: Runtime) -> None:
    await _make(rt)
    (job,) = await _claim(rt)
    async with rt.sessions.begin() as session:
        await jobs.bury(session, job=job, now=rt.clock(), reason="No.")
    async with rt.sessions.begin() as session:
        await jobs.discard(session, job_id=job.id, now=rt.clock(), why="not needed")
    assert await _claim(rt) == []
    assert (await _row(rt, job.id)).state == "discarded"


async def test_jobs_are_finished_in_one_go_and_only_when_still_held(rt: Runtime) -> None:
    for _ in range(3):
        await _make(rt)
    held = await _claim(rt)
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == held[0].id).values(fence=99))
        await jobs.finish_many(session, jobs=held, now=rt.clock())
    async with rt.sessions.read() as session:
        states = (await session.execute(select(Job.id, Job.state))).all()
    assert {job_id for job_id, state in states if state == "due"} == {held[0].id}


def test_a_long_story_forgets_tries_and_not_what_people_did() -> None:
    """F58: a day of tries counts from the last retry by a person."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    texts: Any = dict.fromkeys(("id", "kind", "queue", "fair_key"), "x")
    counts: Any = dict.fromkeys(("version", "fence", "tries", "failures", "crashes"), 1)
    claim = Claim(**texts, **counts, args={}, created_at=now)
    claim.history = [{"at": now.isoformat(), "what": "retried", "why": "it is back"}]
    for number in range(120):
        claim.history = jobs.told(claim, now=now, what="postponed", why=f"no answer {number}")
    assert len(claim.history) == 50
    assert claim.history[0]["what"] == "retried"
    assert claim.history[1]["why"] == "no answer 71"
    assert claim.history[-1]["why"] == "no answer 119"
