"""What strangers put into the doorbell's queue runs nothing and silences nothing."""

import asyncio
import json
import pickle
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.queue import BELL, ArqDoorbell
from app.runtime import Runtime
from workers.bell import listen
from workers.jobs import JOBS, queues
from workers.runner import Runner


class Heard(Runner):
    """A runner that only notes what rings."""

    def __init__(self, rt: Runtime) -> None:
        super().__init__(rt, kinds=JOBS, queues=queues("test"), owner="test", lease=15)
        self.heard: list[str] = []

    def ring(self, queue: str) -> None:
        self.heard.append(queue)


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1000):
        if await found():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def put(redis: Redis, name: str, payload: bytes) -> None:
    """Enqueue as arq does: the payload under the job's name, the name in the sorted set."""
    await redis.set(f"arq:job:{name}", payload, px=60_000)
    await redis.zadd(BELL, {name: int(time.time() * 1000)})


# arq closes its connection by the name that redis-py has given up.
@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
async def test_a_pickled_message_is_thrown_away_and_not_executed(
    rt: Runtime, redis_url: str, tmp_path: Path
) -> None:
    """S43: what the queue holds is read as JSON and as nothing else."""
    mark = tmp_path / "executed"
    message = {"t": 1, "f": "ring", "a": ("psp",), "k": {}, "et": 1}
    strange = {
        "pickle": pickle.dumps({**message, "a": (Evil(mark),)}),
        "bare": pickle.dumps(Evil(mark)),
        "bytes": b"\x80\x04\xff\x00",
        "list": b"[]",
        "half": json.dumps({"f": "ring"}).encode(),
        "other": json.dumps({**message, "f": "os.system", "a": [f"touch {mark}"]}).encode(),
        "deep": b"[" * 100_000,
    }
    assert pickle.loads(strange["bare"]) is None  # noqa: S301 - made by this test
    assert mark.exists(), "the payload works where pickle is read"
    mark.unlink()
    redis = Redis.from_url(redis_url)
    heard = Heard(rt)
    for name, payload in strange.items():
        await put(redis, name, payload)
    listening = asyncio.create_task(listen(redis_url, heard))
    bell = ArqDoorbell(redis_url)
    try:

        async def empty() -> bool:
            return not await redis.zcard(BELL)

        async def rung() -> bool:
            return bool(heard.heard)

        await until(empty)
        assert heard.heard == []
        bell.ring(["ledger"])
        await until(rung)
        assert heard.heard == ["ledger"]
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await bell.close()
        await redis.aclose()
    assert not mark.exists()
