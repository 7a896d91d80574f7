"""Dead letters for tests: how they come about, and what an admin does with them."""

from typing import Any

from sqlalchemy import select, update

from app.audit.models import AuditRow
from app.audit.operations import Actor
from app.deadletters import operations, processing, queries
from app.deadletters.verdict import Verdict, judge, weigh
from app.jobs import Job
from app.payments.models import Attempt
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp

ADA = Actor(kind="user", id="usr_ada", name="ada@example.com", address="192.0.2.10")
WHY = "The shop asked us to stop this one."


async def looked(rt: Runtime, job_id: str) -> str | None:
    """Have the PSP asked about a letter, as opening its page does; unknown ones are left."""
    async with rt.sessions.read() as session:
        letter = await queries.letter(session, job_id=job_id)
    if judge(letter).says != "safe":
        return None
    return await processing.look_at(rt, job_id=job_id)


async def retry(rt: Runtime, job_id: str, why: str | None = None) -> Job:
    await looked(rt, job_id)
    async with rt.sessions.begin() as session:
        return await operations.retry(session, rt=rt, actor=ADA, job_id=job_id, why=why)


async def discard(rt: Runtime, job_id: str, why: str = WHY) -> Job:
    await looked(rt, job_id)
    async with rt.sessions.begin() as session:
        return await operations.discard(session, rt=rt, actor=ADA, job_id=job_id, why=why)


async def verdict(rt: Runtime, job_id: str) -> Verdict:
    await looked(rt, job_id)
    async with rt.sessions.read() as session:
        return weigh(await queries.letter(session, job_id=job_id), now=rt.clock())


async def audited(rt: Runtime) -> list[AuditRow]:
    async with rt.sessions.read() as session:
        query = select(AuditRow).where(AuditRow.action.like("dead_letter.%"))
        return list(await session.scalars(query.order_by(AuditRow.id)))


async def refused_charge(rt: Runtime, psp: BookPsp, **fields: Any) -> tuple[Story, str, Job]:
    """A charge that the PSP refused: held for an operator, its job dead."""
    story = await Story.begin(rt, psp)
    psp.script.append("rejected")
    held = await story.charge(**fields)
    assert (held.status, held.status_reason) == ("processing", "held_for_operator")
    (job,) = await story.dead()
    return story, held.id, job


async def killed(rt: Runtime, payment_id: str, kind: str, **attempt: Any) -> Job:
    """Kill the job of this kind as if its worker had died three times."""
    async with rt.sessions.begin() as session:
        job = await session.scalar(
            select(Job).where(Job.payment_id == payment_id, Job.kind == kind)
        )
        assert job is not None
        job.state, job.reason, job.finished_at = "dead", "The worker died 3 times.", rt.clock()
        job.owner = None
        job.history = [{"at": rt.clock().isoformat(), "what": "buried", "why": job.reason}]
        if attempt:
            await session.execute(
                update(Attempt).where(Attempt.payment_id == payment_id).values(**attempt)
            )
        return job
