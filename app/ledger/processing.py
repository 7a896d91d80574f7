"""What needs transactions of its own: waiting for a position, giving a failed posting back."""

import asyncio
from typing import Literal

from sqlalchemy import select, update

from app import db, jobs
from app.ledger import chart, queries
from app.ledger.models import PostingRow
from app.runtime import Runtime

WAIT_SECONDS = 2.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.08


async def wait_for(
    rt: Runtime,
    *,
    merchant_id: str,
    livemode: bool,
    minimum: int | Literal["latest"],
    seconds: float = WAIT_SECONDS,
) -> int:
    """Wait up to `seconds` for a position, or for all that the merchant has recorded until now.

    Returns 0 once it is reached, else what is missing: positions for a number, the merchant's
    postings without an answer for `latest`.
    """
    upto: int | None = None
    if minimum == "latest":
        async with rt.sessions.read() as session:
            upto = await queries.last_waiting(session, merchant_id=merchant_id, livemode=livemode)
        if upto is None:
            return 0
    waited, pause = 0.0, _FIRST_PAUSE
    while True:
        async with rt.sessions.read() as session:
            if isinstance(minimum, int):
                reached = await queries.position(session, chart.ledger_of(livemode))
                missing = max(0, minimum - reached)
            else:
                missing = await queries.waiting_count(
                    session, merchant_id=merchant_id, livemode=livemode, upto=upto
                )
        if not missing or waited >= seconds:
            return missing
        await asyncio.sleep(pause)
        waited += pause
        pause = min(pause * 2, _LONGEST_PAUSE)


async def retry_posting(rt: Runtime, job: jobs.Claim) -> None:
    """Give a posting that failed to the writer again: what a retried dead letter does."""
    async with rt.sessions.begin() as session:
        status = await session.scalar(
            select(PostingRow.status).where(PostingRow.id == job.args["posting_id"])
        )
        if status is None:
            raise jobs.Bury("There is no such posting.")
        if status == "failed":
            await session.execute(
                update(PostingRow)
                .where(PostingRow.id == job.args["posting_id"], PostingRow.status == "failed")
                .values(status="waiting", reason=None, answered_at=None)
            )
            db.wake(session, ["ledger"])
        await jobs.finish(session, job=job, now=rt.clock())
