"""Rows of the audit log that a test puts there."""

from typing import Any

from app.audit import operations as audit
from app.audit.operations import Actor
from app.runtime import Runtime


async def record(rt: Runtime, action: str, actor: Actor, **changes: Any) -> str:
    """Write a row of no shop and about nothing, unless `changes` say otherwise; return its id."""
    values: dict[str, Any] = {"object_id": None, "merchant_id": None, "livemode": None, **changes}
    async with rt.sessions.begin() as session:
        return await audit.record(
            session, ids=rt.ids, now=rt.clock(), actor=actor, action=action, **values
        )
