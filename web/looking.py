"""Bringing the next look at a payment's outcome forward, for whoever waits for it."""

from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.janitor import processing as janitor
from web.deps import runtime

log = structlog.get_logger(__name__)

_HURRY_EVERY = timedelta(seconds=10)
_HURRIED_KEPT = 10_000


async def look_soon(connection: Any, payment_id: str) -> None:
    """Bring the next look at a payment's outcome forward, at most once in 10 s a process."""
    rt = runtime(connection)
    hurried: dict[str, datetime] = connection.app.state.hurried
    now = rt.clock()
    last = hurried.pop(payment_id, None)
    if last is not None and now - last < _HURRY_EVERY:
        hurried[payment_id] = last
        return
    hurried[payment_id] = now
    if len(hurried) > _HURRIED_KEPT:
        hurried.pop(next(iter(hurried)))
    try:
        async with rt.sessions.begin() as session:
            await janitor.hurry(session, ids=rt.ids, rt=rt, payment_id=payment_id)
    except (SQLAlchemyError, OSError) as error:
        # The schedule looks, too, and what was asked for has been answered already.
        log.warning("look_not_hurried", payment_id=payment_id, reason=type(error).__name__)
