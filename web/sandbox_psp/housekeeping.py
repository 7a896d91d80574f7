"""What happens by itself: pages expire, holds lapse, slow payments and refunds end."""

import asyncio
import logging

from web.sandbox_psp import intents, kept, refunds, sessions
from web.sandbox_psp.book import Stored
from web.sandbox_psp.delivery import Courier
from web.sandbox_psp.work import Sandbox, Work

_PAUSE = 0.25
_PRUNE_EVERY = 240


async def keep_house(sandbox: Sandbox, courier: Courier) -> None:
    """Do what is due, for ever."""
    rounds = 0
    while True:
        await asyncio.sleep(_PAUSE)
        rounds += 1
        try:
            if tidy(sandbox.work()) or rounds % _PRUNE_EVERY == 0:
                kept.prune(sandbox.work())
                await sandbox.book.durable()
                courier.wake()
        except Exception:
            # One object that cannot be tidied must not stop the others for ever.
            logging.getLogger(__name__).exception("housekeeping failed")


def tidy(work: Work) -> int:
    """Do everything that is due at the work's moment; return how much there was."""
    items = work.book.due(work.now)
    for item in reversed(items):
        with work.book.whole():
            _tidy_one(work, item)
    return len(items)


def _tidy_one(work: Work, item: Stored) -> None:
    status = item.body["status"]
    if item.kind == "checkout.session" and status == "open":
        sessions.close(work, item)
    elif item.kind == "payment_intent" and status == "requires_capture":
        intents.end(work, item, "automatic")
    elif item.kind == "payment_intent" and status == "processing":
        intents.finish_later(work, item)
    elif item.kind == "refund" and "later" in item.private and status != "failed":
        refunds.finish_later(work, item)
    else:
        item.due = None
        work.book.save(item)
