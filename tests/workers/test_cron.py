from datetime import timedelta

from sqlalchemy import select, update

from app.jobs import Job
from app.payments.models import Attempt, PspCall
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp
from tests.support.runtime import Clock
from workers import cron


async def test_what_was_sent_is_forgotten_after_its_time_and_nothing_else(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    paid = await story.charge()
    open_one = await story.create()
    await story.work()
    async with rt.sessions.begin() as session:
        await session.execute(update(PspCall).values(answer_sealed="sealed"))
    clock.forward(days=rt.settings.retention_days - 1)
    await cron.forget(rt)
    tried, calls = await story.attempts(paid.id)
    assert all(row.params_sealed for row in tried)
    assert all(call.answer_sealed for call in calls)
    clock.offset += timedelta(days=2)
    await cron.forget(rt)
    tried, calls = await story.attempts(paid.id)
    assert [row.params_sealed for row in tried] == [""]
    assert {call.answer_sealed for call in calls} == {None}
    async with rt.sessions.read() as session:
        still = await session.scalar(select(Attempt).where(Attempt.payment_id == open_one.id))
        assert still is not None
        assert still.params_sealed  # Its page is open: whoever looks at it needs them.
        done = await session.scalars(select(Job.id).where(Job.state == "done"))
        assert list(done) == []
    await story.end()


async def test_settling_takes_every_payment_whose_day_has_come_once(
    rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    story = await Story.begin(rt, psp, settle_delay_seconds=3600)
    paid = [await story.charge() for _ in range(3)]
    await cron.settle(rt)
    assert {row.settled_at for row in [await story.row(one.id) for one in paid]} == {None}
    clock.forward(hours=1, minutes=1)
    await cron.settle(rt)
    await cron.settle(rt)
    await story.work()
    rows = [await story.row(one.id) for one in paid]
    assert all(row.settled_at is not None and row.amount_pending == 0 for row in rows)
    await story.end()
