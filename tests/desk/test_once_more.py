"""The desk lists refunds again that it has just booked: the first list may have been too old."""

from unittest import mock

import msgspec

from app.psp.port import RefundSeen, Result
from app.runtime import Runtime
from tests.desk.test_desk import _refund_by_hand, decide, suspense, the_item
from tests.payments.story import Story
from tests.support.psp import BookPsp


async def test_a_refund_that_failed_meanwhile_is_held_apart_again(
    rt: Runtime, psp: BookPsp
) -> None:
    """F20: its event came between the desk's list and its lock, and found nothing to undo."""
    story = await Story.begin(rt, psp)
    psp.amounts["charge"] = 10_100
    await story.charge()
    (charge,) = psp.charges.values()
    named = _refund_by_hand(charge, 10_100)
    gone = charge.refunds[named]
    lists: list[list[RefundSeen] | Result] = [
        [gone],
        [msgspec.structs.replace(gone, status="failed")],
    ]
    with mock.patch.object(psp, "look_up_refunds", side_effect=lists):
        await decide(rt, await the_item(rt), "refunded", named)
        await story.work()
    assert await suspense(rt) == 10_100
    await story.end()  # The books' own check: somebody is asked about it again.
