"""What is done by the clock: settling, sweeping up lost wake-ups, forgetting what is too old."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from sqlalchemy import delete, update
from sqlalchemy.exc import SQLAlchemyError

from app import idempotency
from app.accounts import operations as accounts
from app.inbox.models import ReceivedEvent
from app.janitor import processing as janitor
from app.jobs import Job
from app.payments import settling
from app.payments.models import Attempt, PspCall
from app.runtime import Runtime
from app.webhooks import processing as webhooks

log = structlog.get_logger(__name__)

_DONE_JOBS_KEPT = timedelta(days=7)


async def settle(rt: Runtime) -> None:
    """Release what is due from pending to available, 500 payments a transaction."""
    while await settling.settle_due(rt):
        pass


async def sweep(rt: Runtime) -> None:
    """Take up unknown outcomes whose job was lost, and ask a person about the oldest."""
    await janitor.sweep(rt)
    await janitor.ask_people(rt)


async def forget(rt: Runtime) -> None:
    """Keep what was promised to be kept, and no longer."""
    await webhooks.forget(rt)
    now = rt.clock()
    old = now - timedelta(days=rt.settings.retention_days)
    async with rt.sessions.begin() as session:
        await idempotency.purge(session, now=now)
        await accounts.purge(session, now=now)
        await session.execute(
            delete(Job).where(
                Job.state.in_(("done", "discarded")), Job.finished_at < now - _DONE_JOBS_KEPT
            )
        )
        await session.execute(
            update(ReceivedEvent)
            .where(ReceivedEvent.received_at < old, ReceivedEvent.body_sealed.is_not(None))
            .values(body_sealed=None)
        )
        await session.execute(
            update(Attempt)
            .where(Attempt.finished_at < old, Attempt.params_sealed != "")
            .values(params_sealed="")
        )
        await session.execute(
            update(PspCall)
            .where(PspCall.started_at < old, PspCall.answer_sealed.is_not(None))
            .values(answer_sealed=None)
        )


async def keep_gates(rt: Runtime) -> None:
    """Tell and learn how the PSPs are doing, while one of them fails or is being called."""
    await rt.gates.keep_up()


SCHEDULE: tuple[tuple[float, Callable[[Runtime], Awaitable[None]]], ...] = (
    (1.0, keep_gates),
    (5.0, settle),
    (10.0, sweep),
    (3600.0, forget),
)


async def run(rt: Runtime) -> None:
    """Do each of them at its interval until cancelled; every worker may, rows decide who does."""
    async with asyncio.TaskGroup() as group:
        for seconds, work in SCHEDULE:
            group.create_task(_repeat(rt, seconds, work), name=f"cron {work.__name__}")


async def _repeat(rt: Runtime, seconds: float, work: Callable[[Runtime], Awaitable[None]]) -> None:
    while True:
        try:
            await work(rt)
        except (SQLAlchemyError, OSError) as error:
            log.warning("cron_failed", work=work.__name__, error=type(error).__name__)
        except Exception:
            log.exception("cron_failed", work=work.__name__)
        await asyncio.sleep(seconds)
