"""The list of dead letters: filters, counts and pages, and what is no letter at all."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.deadletters import queries
from app.deadletters.queries import LetterUnknown, Wanted
from app.jobs import Job
from app.payments.models import Payment
from app.runtime import Runtime
from tests.deadletters.letters import killed, retry
from tests.payments.story import Story
from tests.support.psp import BookPsp

ALL = Wanted()


async def test_the_list_is_narrowed_counted_and_paged(
    rt: Runtime, psp: BookPsp, clock: Any
) -> None:
    story = await Story.begin(rt, psp)
    other = await Story.begin(rt, psp)
    psp.script.extend(["rejected"] * 3)
    for shop in (story, story, other):
        await shop.charge()
    psp.script.extend(["ok", "lost"])
    unknown = await story.charge()
    await killed(rt, unknown.id, "payments.charge")

    async def listed(wanted: Wanted = ALL, **page: Any) -> queries.Letters:
        async with rt.sessions.read() as session:
            return await queries.dead_letters(
                session, wanted=wanted, now=rt.clock(), **{"limit": 2, **page}
            )

    first = await listed()
    assert (first.counts, first.has_more, first.capped) == ({"safe": 3, "unknown": 1}, True, False)
    ids = [one.job.id for one in first.letters]
    rest = await listed(starting_after=ids[-1])
    assert (len(rest.letters), rest.has_more) == (2, False)
    back = await listed(ending_before=rest.letters[0].job.id)
    assert [one.job.id for one in back.letters] == ids
    assert len((await listed(Wanted(says="unknown"))).letters) == 1
    theirs = await listed(Wanted(merchant_id=other.who["merchant_id"]))
    assert [one.job.merchant_id for one in theirs.letters] == [other.who["merchant_id"]]
    assert len((await listed(Wanted(group="payments"), limit=9)).letters) == 4
    assert (await listed(Wanted(group="refunds"))).letters == []
    assert (await listed(Wanted(group="other"))).letters == []
    assert (await listed(Wanted(psp="stripe"))).letters == []
    assert len((await listed(Wanted(psp="sandbox"), limit=9)).letters) == 4
    cause = first.letters[-1].job.reason
    assert len((await listed(Wanted(cause=cause), limit=9)).letters) == 3
    assert (await listed(Wanted(older_than=timedelta(hours=1)))).letters == []
    clock.forward(hours=2)
    assert len((await listed(Wanted(older_than=timedelta(hours=1)), limit=9)).letters) == 4
    async with rt.sessions.read() as session:
        shops = await queries.merchants_with_letters(session)
        assert {one for one, _ in shops} == {story.who["merchant_id"], other.who["merchant_id"]}
        assert (await queries.alike(session, job=first.letters[-1].job)).still == 2


async def test_work_that_never_stopped_is_no_letter(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    await story.charge()
    async with rt.sessions.read() as session:
        done = await session.scalar(select(Job.id).limit(1))
        assert done is not None
        for job_id in (done, rt.ids("job")):
            with pytest.raises(LetterUnknown):
                await queries.letter(session, job_id=job_id)
    with pytest.raises(LetterUnknown):
        await retry(rt, done)
    async with rt.sessions.read() as session:
        assert await session.scalar(select(Payment.status)) == "succeeded"
