"""Start a worker: `python -m workers`; settings come from the environment."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from pathlib import Path

import structlog
import uvloop

from app import logging, memory, runtime
from app.db import make_engine
from app.psp import registry
from app.settings import Settings, SettingsError, from_environment
from workers import bell, cron
from workers.jobs import JOBS, queues
from workers.runner import Runner

log = structlog.get_logger(__name__)

_POOL_SECONDS = 60.0


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then finish or hand back what is running."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    made: list[Runner] = []

    def kick(queue: str) -> None:
        made[0].ring(queue)

    # Nobody waits for a worker's answer: a busy one is slow, which is better than to fail jobs.
    engine = make_engine(
        settings.database_url, pool_size=settings.pool_size, pool_timeout=_POOL_SECONDS
    )
    rt = runtime.build(settings, kick=kick, engine=engine)
    lines = queues(owner, connections=max(1, len(list(rt.connections))))
    runner = Runner(rt, kinds=JOBS, queues=lines, owner=owner, lease=settings.lease_seconds)
    made.append(runner)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with rt.sessions.begin() as session:
        await registry.ensure_rows(session, rt.connections, now=rt.clock())
    tasks = [
        asyncio.create_task(runner.run(), name="runner"),
        asyncio.create_task(bell.listen(settings.redis_url, runner), name="bell"),
        asyncio.create_task(cron.run(rt), name="cron"),
    ]
    stopping = asyncio.create_task(stop.wait())
    memory.settle()
    _say_ready(Path(settings.data_dir) / "run")
    log.info("worker_ready", owner=owner)
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    died = [task for task in tasks if task.done()]
    await runner.stop(settings.grace_seconds)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await rt.close()
    for task in died:
        task.result()  # Raises what ended it, so that the supervisor sees a failure.


def _say_ready(folder: Path) -> None:
    # `up` waits for this file; a production host has no such folder and watches the process.
    if folder.is_dir():
        (folder / "worker.ready").touch()


def main() -> int:
    """Run a worker; 2 when settings are wrong."""
    try:
        settings = from_environment(os.environ)
    except SettingsError as error:
        print("\n".join(error.problems), file=sys.stderr)  # noqa: T201 - the one sentence a person needs.
        return 2
    logging.configure(settings.log_level)
    uvloop.run(work(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
