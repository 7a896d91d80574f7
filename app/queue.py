"""The doorbell: tells workers that a queue has due rows. Losing a ring loses nothing."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import structlog
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

QUEUES = ("psp", "ledger", "inbox", "webhooks", "janitor", "mail")
BELL = "counterfoil:bell"  # arq's own queue, which carries nothing but rings.
_MERGE_SECONDS = 0.02
_CONNECTED_WITHIN = 3.0
_ANSWERED_WITHIN = 1.0  # Seconds; redis-py tries once more, so a caller waits twice this.

# What a client of Redis may raise when the server is away. Of a connection that was reset under
# the client's hands uvloop says RuntimeError.
AWAY = (RedisError, OSError, TimeoutError, RuntimeError)

log = structlog.get_logger(__name__)


def dumps(value: dict[str, Any]) -> bytes:
    """Write an arq message as JSON; arq's default would be pickle (trap 0.8)."""
    return json.dumps(value, default=repr).encode()


def loads(value: bytes) -> dict[str, Any]:
    """Read an arq message. Raises ValueError or TypeError for anything but a JSON object."""
    message = json.loads(value)
    if not isinstance(message, dict):
        raise TypeError("not a message")
    return message


def redis_settings(url: str) -> RedisSettings:
    """Return arq's connection settings: short waits, retries on a broken connection."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 1
    settings.conn_retries = 1
    settings.conn_retry_delay = 0
    settings.retry_on_timeout = True
    settings.retry_on_error = [RedisConnectionError, RedisTimeoutError]
    return settings


async def connect(url: str) -> ArqRedis:
    """Return a pool of connections to Redis, each of whose commands has a deadline.

    arq bounds only the time to connect; a Redis that hangs would hold its caller for as long.
    Raises one of AWAY.
    """
    async with asyncio.timeout(_CONNECTED_WITHIN):
        pool = await create_pool(
            redis_settings(url),
            job_serializer=dumps,
            job_deserializer=loads,
            default_queue_name=BELL,
        )
    pool.connection_pool.connection_kwargs["socket_timeout"] = _ANSWERED_WITHIN
    await pool.connection_pool.disconnect()  # The one it has was made without the deadline.
    return pool


class Doorbell(Protocol):
    """Rings queues after a commit; never blocks and never raises."""

    def ring(self, queues: Iterable[str]) -> None:
        """Tell workers that these queues have due rows."""

    async def close(self) -> None:
        """Let go of connections; rings not yet sent may be lost."""


class SilentDoorbell:
    """Rings nobody; the workers' sweep finds the rows. For commands and tests."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, queues: Iterable[str]) -> None:
        """Remember what was rung."""
        self.rung.extend(queues)

    async def close(self) -> None:
        """Nothing to close."""


class ArqDoorbell:
    """Rings through arq; rings within 20 ms are merged, the last one always goes out.

    `kick` is called at once with each queue: a worker that writes a job wakes its own runner
    without the way through Redis.
    """

    def __init__(self, redis_url: str, kick: Callable[[str], None] | None = None) -> None:
        self._url = redis_url
        self._kick = kick
        self._pool: ArqRedis | None = None
        self._waiting: set[str] = set()
        self._sender: asyncio.Task[None] | None = None
        self.failures = 0

    def ring(self, queues: Iterable[str]) -> None:
        """Ring after a commit; from within the event loop."""
        names = set(queues)
        if self._kick is not None:
            for name in names:
                self._kick(name)
            return
        self._waiting |= names
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            names, self._waiting = self._waiting, set()
            try:
                pool = await self._connected()
                await pool.enqueue_job("ring", *sorted(names), _queue_name=BELL)
            except AWAY as error:
                # The rows are committed; the workers' sweep finds them within a second.
                self.failures += 1
                log.warning("doorbell_failed", error=type(error).__name__)
            await asyncio.sleep(_MERGE_SECONDS)

    async def _connected(self) -> ArqRedis:
        if self._pool is None:
            self._pool = await connect(self._url)
        return self._pool

    async def alive(self) -> bool:
        """Tell whether Redis answers."""
        try:
            async with asyncio.timeout(_CONNECTED_WITHIN):
                return bool(await (await self._connected()).ping())
        except AWAY:
            return False

    async def close(self) -> None:
        """Send what waits, close the connection."""
        if self._sender is not None and not self._sender.done():
            try:
                await asyncio.wait_for(self._sender, 1)
            except TimeoutError:
                log.warning("doorbell_not_sent", queues=sorted(self._waiting))
        if self._pool is not None:
            await self._pool.aclose()
