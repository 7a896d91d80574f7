"""Asking the ledger to record something: a posting row, in the caller's transaction."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import null, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.ledger import chart
from app.ledger.models import PostingRow
from app.ledger.postings import AnswerJob, Posting


class PostingDiffers(Exception):
    """A posting of this key asks for other transfers: two callers disagree about one fact."""


def row(posting: Posting, *, now: datetime) -> dict[str, Any]:
    """Return the values of a posting row, for a caller that inserts several rows at once.

    The caller also calls `db.wake(session, ["ledger"])`.
    """
    jobs = {
        answer: _job(job)
        for answer, job in (("accepted", posting.accepted_job), ("refused", posting.refused_job))
        if job is not None
    }
    guard = posting.guard
    return {
        "ledger_id": chart.ledger_of(posting.livemode),
        "key": posting.key,
        "kind": posting.kind,
        "livemode": posting.livemode,
        "merchant_id": posting.merchant_id,
        "payment_id": posting.payment_id,
        "refund_id": posting.refund_id,
        "transfers": msgspec.to_builtins(posting.transfers),
        # In a JSON column None would be the JSON value null, which is not the SQL one.
        "guard": null() if guard is None else msgspec.to_builtins(guard),
        "answer_job": jobs or null(),
        "status": "waiting",
        "created_at": now,
    }


def _job(job: AnswerJob) -> dict[str, Any]:
    return msgspec.to_builtins(job)  # type: ignore[no-any-return] # A struct makes a dict.


async def record(session: AsyncSession, posting: Posting, *, now: datetime) -> bool:
    """Ask the ledger to record a posting; tell whether it was new.

    A key is recorded once: the same posting again changes nothing. Raises PostingDiffers when
    the key is taken by a posting with other transfers.
    """
    values = row(posting, now=now)
    made = await db.insert_once(session, PostingRow, values)
    if made:
        db.wake(session, ["ledger"])
        return True
    found = await session.execute(
        select(PostingRow.ledger_id, PostingRow.transfers).where(PostingRow.key == posting.key)
    )
    ledger_id, transfers = found.one()
    if (ledger_id, [list(line) for line in transfers]) != (
        values["ledger_id"],
        [list(line) for line in values["transfers"]],
    ):
        raise PostingDiffers(posting.key)
    return False
