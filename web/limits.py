"""How much is let in: requests at once in a process, and requests a second of one API key.

The latter is a token bucket that all web processes share through Redis.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import TypeVar

import msgspec
import structlog
from redis.asyncio import Redis

from app.queue import AWAY

T = TypeVar("T")
log = structlog.get_logger(__name__)

_CHUNK = 20  # Tokens taken from Redis at once: one round trip for up to so many requests.
_CHUNK_SECONDS = 1.0  # Tokens that were taken and not spent expire; nobody gets them twice.
_PAUSE_SECONDS = 1.0  # After a failure Redis is left alone for so long.
_FIRST = ("/healthz", "/readyz", "/metrics", "/sign-in", "/static/")
_KEPT = 10_000  # Buckets in memory; the longest unused one goes first.

# Refills by the time of Redis, so that the clocks of web hosts do not matter; takes up to
# `want` tokens. Returns how many were taken and, in thousandths, how many are left.
_TAKE = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local rate, burst, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if kept[1] then
  tokens = math.min(burst, tonumber(kept[1]) + math.max(0, at - tonumber(kept[2])) * rate)
end
local taken = math.min(want, math.floor(tokens))
tokens = tokens - taken
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens))
redis.call('HSET', KEYS[1], 'at', string.format('%.6f', at))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {taken, math.floor(tokens * 1000)}
"""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a request may pass, and what the client is told."""

    allowed: bool
    limit: int
    remaining: int
    reset: int  # Seconds until the bucket is full again; when refused, until one token is there.

    def headers(self) -> dict[str, str]:
        """Return the `RateLimit-*` headers."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


class _Bucket(msgspec.Struct):
    """The whole bucket of a key, in this process alone."""

    tokens: float
    at: float


class _Chunk(msgspec.Struct):
    """Tokens that this process has taken from the shared bucket of a key."""

    tokens: int
    at: float
    shared_left: float = 0.0
    lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)

    def usable(self, now: float) -> bool:
        """Tell whether a token is left that has not expired."""
        return self.tokens > 0 and now - self.at <= _CHUNK_SECONDS


class Places:
    """How many requests one process works on at once; what is beyond is refused at once.

    A client that is told to come back costs little; one that waits in a queue whose end it does
    not see gives up, asks again, and makes the queue longer. Signs of life and the way in have a
    quarter more for themselves.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reserved = max(1, most // 4)
        self._taken = 0
        self._shed = 0

    def take(self, path: str) -> bool:
        """Take a place for a request; False: it is refused, and there is nothing to give back."""
        most = self._most + (self._reserved if path.startswith(_FIRST) else 0)
        if self._taken >= most:
            self._shed += 1
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        """End a request that had a place."""
        self._taken -= 1

    def come_back(self) -> int:
        """Return the seconds to tell a refused client: not the same to all of them."""
        return 1 + self._shed % 3


class Limiter:
    """Limits each key to `rate` requests a second after a burst.

    Without Redis each process counts alone: the limit then holds for each of them, so that an
    outage of Redis neither stops merchants nor lets one of them flood us.
    """

    def __init__(
        self,
        *,
        rate: float,
        burst: int,
        redis: Redis | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._redis = redis
        self._take = redis.register_script(_TAKE) if redis is not None else None
        self._clock = clock
        self._alone: OrderedDict[str, _Bucket] = OrderedDict()
        self._chunks: OrderedDict[str, _Chunk] = OrderedDict()
        self._paused_until = 0.0

    async def check(self, key_id: str) -> Verdict:
        """Take one token of a key."""
        now = self._clock()
        if self._take is not None and now >= self._paused_until:
            try:
                return await self._check_shared(key_id, now)
            except AWAY as error:
                self._paused_until = now + _PAUSE_SECONDS
                log.warning("rate limits count alone", reason=type(error).__name__)
        return self._check_alone(key_id, now)

    async def _check_shared(self, key_id: str, now: float) -> Verdict:
        chunk = self._chunks.get(key_id) or _Chunk(tokens=0, at=now)
        _keep(self._chunks, key_id, chunk)
        if not chunk.usable(now):
            # One request fetches for all that came meanwhile.
            async with chunk.lock:
                if not chunk.usable(now):
                    await self._fetch(key_id, chunk, now)
        if not chunk.usable(now):
            return self._verdict(0.0)
        chunk.tokens -= 1
        return self._verdict(chunk.tokens + chunk.shared_left, allowed=True)

    async def _fetch(self, key_id: str, chunk: "_Chunk", now: float) -> None:
        if self._take is None:  # Only asked for when there is a script.
            return
        want = max(1, min(_CHUNK, self._burst // 10))
        taken, left = await self._take(
            keys=[f"counterfoil:rate:{key_id}"], args=[self._rate, self._burst, want]
        )
        chunk.tokens, chunk.at, chunk.shared_left = int(taken), now, int(left) / 1000

    def _check_alone(self, key_id: str, now: float) -> Verdict:
        bucket = self._alone.get(key_id) or _Bucket(tokens=float(self._burst), at=now)
        _keep(self._alone, key_id, bucket)
        passed = max(0.0, now - bucket.at)
        bucket.tokens = min(float(self._burst), bucket.tokens + passed * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return self._verdict(bucket.tokens)
        bucket.tokens -= 1
        return self._verdict(bucket.tokens, allowed=True)

    def _verdict(self, tokens: float, *, allowed: bool = False) -> Verdict:
        missing = self._burst - tokens if allowed else 1 - tokens
        return Verdict(
            allowed=allowed,
            limit=self._burst,
            remaining=int(max(0.0, tokens)) if allowed else 0,
            reset=max(1, ceil(missing / self._rate)) if missing > 0 else 0,
        )

    async def alive(self) -> bool:
        """Tell whether Redis answers."""
        if self._redis is None:
            return False
        try:
            await self._redis.ping()
        except AWAY:
            return False
        return True

    async def close(self) -> None:
        """Close the connection to Redis."""
        if self._redis is not None:
            await self._redis.aclose()


def _keep(buckets: OrderedDict[str, T], key_id: str, bucket: T) -> None:
    buckets[key_id] = bucket
    buckets.move_to_end(key_id)
    if len(buckets) > _KEPT:
        buckets.popitem(last=False)


def from_url(redis_url: str, *, rate: float, burst: int) -> Limiter:
    """Return a limiter on a Redis server, which need not be there."""
    redis = Redis.from_url(redis_url, socket_timeout=0.25, socket_connect_timeout=0.25)
    return Limiter(rate=rate, burst=burst, redis=redis)
