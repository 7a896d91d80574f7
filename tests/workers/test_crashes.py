"""How often a worker may die while doing a job is a setting (F58)."""

import msgspec
import pytest
from sqlalchemy import select, update

from app import jobs
from app.jobs import Claim, Job
from app.runtime import Runtime
from workers.runner import Known, Queue, Runner


@pytest.mark.parametrize(("allowed", "state"), [(3, "dead"), (4, "done")])
async def test_the_crash_that_the_setting_names_is_the_last(
    rt: Runtime, allowed: int, state: str
) -> None:
    async def work(_rt: Runtime, _job: Claim) -> None:
        """Do nothing: only whether it is run counts."""

    rt.settings = msgspec.structs.replace(rt.settings, max_crashes=allowed)
    async with rt.sessions.begin() as session:
        values = {"kind": "test.work", "args": {}, "queue": "psp", "now": rt.clock()}
        await jobs.enqueue(session, id=rt.ids("job"), **values)
        await session.execute(update(Job).values(crashes=2, owner="dead worker"))
    kinds, queues = {"test.work": Known(work)}, [Queue("psp", 1)]
    await Runner(rt, kinds=kinds, queues=queues, owner="me", lease=15.0).drain()
    async with rt.sessions.read() as session:
        assert await session.scalar(select(Job.state)) == state
