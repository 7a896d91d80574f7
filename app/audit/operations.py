"""Writes audit rows, each in the transaction of the action that it tells about."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditRow
from app.ids import Ids

Kind = Literal["user", "key", "command", "system"]
_REASON_CHARS = 1000


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts, and from where; made by a shell from the credential, never from the input."""

    kind: Kind
    name: str  # An e-mail address, a key's hint, a command: readable after the row is gone.
    id: str | None = None
    address: str | None = None
    session_id: str | None = None
    request_id: str | None = None


def command(name: str) -> Actor:
    """Return the actor of a command line, such as `create-user`."""
    return Actor(kind="command", name=name)


SYSTEM = Actor(kind="system", name="counterfoil")


def row(
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    action: str,
    object_id: str | None,
    merchant_id: str | None,
    livemode: bool | None,
    before: Any = None,
    after: Any = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Return the values of an audit row, for a caller that inserts several rows at once.

    `before` and `after` hold what changed, as JSON, and never a secret. No merchant: the
    platform's own; no livemode: it concerns the shop in both modes.
    """
    return {
        "id": ids("aud"),
        "merchant_id": merchant_id,
        "livemode": livemode,
        "actor_kind": actor.kind,
        "actor_id": actor.id,
        "actor_name": actor.name[:200],
        "action": action,
        "object_id": object_id,
        "before": before,
        "after": after,
        "reason": reason if reason is None else reason[:_REASON_CHARS],
        "address": actor.address and actor.address[:60],
        "session_id": actor.session_id,
        "request_id": actor.request_id and actor.request_id[:80],
        "created_at": now,
    }


async def record(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    action: str,
    object_id: str | None,
    merchant_id: str | None,
    livemode: bool | None,
    before: Any = None,
    after: Any = None,
    reason: str | None = None,
) -> str:
    """Write one audit row (arguments as for `row`) and return its id."""
    values = row(
        ids=ids,
        now=now,
        actor=actor,
        action=action,
        object_id=object_id,
        merchant_id=merchant_id,
        livemode=livemode,
        before=before,
        after=after,
        reason=reason,
    )
    await session.execute(insert(AuditRow).values(**values))
    return str(values["id"])
