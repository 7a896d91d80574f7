"""Storing a verified event of a PSP before anything is done about it, and asking people."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.ids import Ids
from app.inbox.models import ReceivedEvent
from app.payments.models import Attempt
from app.psp.gates import LOOKUP, fair_key
from app.psp.port import PspEvent
from app.runtime import Runtime
from app.secrets import Sealer


def body_place(event_id: str) -> str:
    """Return the place that a received body is sealed for."""
    return f"psp_events:{event_id}:body"


async def store(
    session: AsyncSession,
    *,
    ids: Ids,
    sealer: Sealer,
    connection_id: str,
    event: PspEvent,
    body: bytes,
    now: datetime,
) -> bool:
    """Store an event once with the job that will apply it; False: we have it already."""
    event_id = ids("pev")
    made = await db.insert_once(
        session,
        ReceivedEvent,
        {
            "id": event_id,
            "connection_id": connection_id,
            "psp_event_id": event.id,
            "livemode": event.livemode,
            "type": event.type,
            "about": event.about,
            "psp_reference": event.charge_reference or event.psp_reference,
            "attempt_id": event.attempt_id,
            "installation": event.installation,
            "object_reference": event.psp_reference,
            "state": "received",
            "body_sealed": sealer.seal(body, body_place(event_id)),
            "psp_created_at": event.created_at,
            "received_at": now,
        },
    )
    if made:
        await jobs.enqueue(
            session,
            id=ids("job"),
            kind="inbox.apply",
            args={"event_id": event_id},
            queue="inbox",
            now=now,
            livemode=event.livemode,
            fair_key=fair_key(connection_id, LOOKUP),
        )
    return made


async def bury(session: AsyncSession, rt: Runtime, attempt: Attempt, reason: str) -> None:
    """Put the question about an attempt into the dead letters, unless it lies there already."""
    letters = await session.scalars(
        select(jobs.Job.args).where(
            jobs.Job.payment_id == attempt.payment_id,
            jobs.Job.kind == "janitor.resolve",
            jobs.Job.state == "dead",
        )
    )
    if any(args.get("attempt_id") == attempt.id for args in letters):
        return
    now = rt.clock()
    values = jobs.row(
        id=rt.ids("job"),
        kind="janitor.resolve",
        args={"attempt_id": attempt.id},
        queue="janitor",
        now=now,
        merchant_id=attempt.merchant_id,
        livemode=attempt.livemode,
        payment_id=attempt.payment_id,
    )
    await jobs.bury_at_once(session, values=values, now=now, reason=reason)
