"""Storing a verified event of a PSP, before anything is done about it."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.ids import Ids
from app.inbox.models import ReceivedEvent
from app.psp.gates import LOOKUP, fair_key
from app.psp.port import PspEvent
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
