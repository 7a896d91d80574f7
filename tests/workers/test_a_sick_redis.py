"""Redis that is full, slow or holds nonsense stops nothing: it only carries wake-ups."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from app.cli import valkey
from app.cli.processes import Supervisor
from app.queue import BELL, ArqDoorbell
from workers import bell
from workers.runner import Runner

_PATIENCE = 20.0


class Rung:
    """Stands in for the runner: remembers which queues were rung."""

    def __init__(self) -> None:
        self.queues: list[str] = []

    def ring(self, queue: str) -> None:
        self.queues.append(queue)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    supervisor = Supervisor(tmp_path, tmp_path, print)
    program, url = valkey.program(tmp_path / "valkey")
    supervisor.start(program)
    try:
        supervisor.wait_ready("valkey", 30)
        yield url
    finally:
        supervisor.stop()


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[tuple[Rung, ArqDoorbell, Any]]:
    rung, doorbell = Rung(), ArqDoorbell(address)
    task = asyncio.create_task(bell.listen(address, cast("Runner", rung)))
    client = Redis.from_url(address)
    try:
        yield rung, doorbell, client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await doorbell.close()
        await client.aclose()


async def heard(rung: Rung, doorbell: ArqDoorbell, queue: str) -> None:
    """Ring until it is heard; a ring that is lost on the way is what sweeps are for."""
    async with asyncio.timeout(_PATIENCE):
        while queue not in rung.queues:
            doorbell.ring([queue])
            await asyncio.sleep(0.1)


async def failed(doorbell: ArqDoorbell) -> None:
    """Ring until a ring could not be delivered; it must neither raise nor wait."""
    async with asyncio.timeout(_PATIENCE):
        before = doorbell.failures
        while doorbell.failures == before:
            doorbell.ring(["psp"])
            await asyncio.sleep(0.1)


async def test_a_full_redis_loses_rings_and_nothing_else(address: str) -> None:
    """F38: `maxmemory` reached; nobody hears, nobody fails, and later rings are heard again."""
    async with listening(address) as (rung, doorbell, redis):
        await heard(rung, doorbell, "ledger")
        await redis.config_set("maxmemory", "1")
        await failed(doorbell)
        await redis.config_set("maxmemory", "0")
        await heard(rung, doorbell, "inbox")


async def test_a_key_of_another_type_is_survived(address: str) -> None:
    """F38: somebody wrote text where the bell's queue is; the listener lives and listens again."""
    async with listening(address) as (rung, doorbell, redis):
        await redis.set(BELL, "nonsense")
        await failed(doorbell)
        await asyncio.sleep(1.5)  # The listener has met it, too, and starts anew each second.
        await redis.delete(BELL)
        await heard(rung, doorbell, "mail")


async def test_a_redis_that_hangs_holds_nobody_up(address: str) -> None:
    """F38: blocked for seconds; ringing returns at once, and what is rung later is heard."""
    async with listening(address) as (rung, doorbell, redis):
        await heard(rung, doorbell, "ledger")
        await redis.execute_command("CLIENT", "PAUSE", "8000", "ALL")
        doorbell.ring(["psp"])  # Not awaited: it has no way to wait.
        assert not await doorbell.alive()
        await heard(rung, doorbell, "janitor")
