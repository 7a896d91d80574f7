"""arq's side: its one function rings; when arq stops it is started again in the process."""

import asyncio
import logging
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker, func

from app.queue import AWAY, BELL, connect, dumps, loads
from workers.runner import Runner

log = structlog.get_logger(__name__)

_AGAIN = 1.0
_RING_SECONDS = 5


async def ring(ctx: dict[str, Any], *queues: str) -> None:
    """Set the bells of some queues and return; the work itself is never inside arq."""
    runner: Runner = ctx["runner"]
    for queue in queues:
        runner.ring(str(queue))


async def listen(redis_url: str, runner: Runner) -> None:
    """Listen for rings until cancelled. Without Redis the runner goes on by its own clock."""
    # arq tells of each ring twice; a ring is no news, and the lines cost more than the ring.
    logging.getLogger("arq").setLevel(logging.WARNING)
    while True:
        try:
            await _listen(await connect(redis_url), runner)
        except AWAY as error:
            log.warning("bell_silent", error=type(error).__name__)
        await asyncio.sleep(_AGAIN)


async def _listen(pool: ArqRedis, runner: Runner) -> None:
    try:
        await Worker(
            functions=[func(ring, name="ring", keep_result=0, max_tries=1)],
            redis_pool=pool,
            queue_name=BELL,
            ctx={"runner": runner},
            handle_signals=False,
            poll_delay=0.05,
            job_timeout=_RING_SECONDS,
            keep_result=0,
            max_jobs=20,
            job_serializer=dumps,
            job_deserializer=loads,
            health_check_interval=30,
            log_results=False,
        ).async_run()
    finally:
        # arq's own close runs commands first, and would wait for a Redis that hangs.
        await pool.aclose(close_connection_pool=True)
