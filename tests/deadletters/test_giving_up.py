"""What may not be given up, and what goes on when something was."""

import pytest

from app import jobs
from app.deadletters.operations import DiscardRefused
from app.desk.operations import ONCE_MORE
from app.runtime import Runtime
from tests.deadletters.letters import discard
from tests.payments.story import Story
from tests.support.psp import BookPsp


async def test_giving_up_a_refused_capture_leaves_the_cancel_to_go_on(
    rt: Runtime, psp: BookPsp
) -> None:
    """I10: the shop has asked for the payment's end since."""
    story, payment_id, letter = await Story.with_refused_capture(rt, psp)
    psp.script.append("not_sent")
    await story.cancel(payment_id)
    await story.work()
    await discard(rt, letter.id)
    await story.hurry()
    assert (await story.get(payment_id)).status == "canceled"
    assert psp.total() == 0
    await story.end()


@pytest.mark.parametrize("kind", ["inbox.apply", "desk.settle", ONCE_MORE])
async def test_what_money_or_a_person_waits_for_is_not_given_up(
    rt: Runtime, psp: BookPsp, kind: str
) -> None:
    story = await Story.begin(rt, psp)
    async with rt.sessions.begin() as session:
        values = jobs.row(id="job_1", kind=kind, args={}, queue="inbox", now=rt.clock())
        await jobs.bury_at_once(session, values=values, now=rt.clock(), reason="poison")
    with pytest.raises(DiscardRefused):
        await discard(rt, "job_1")
    await story.end()
