"""A light load: closed loops, an open loop, and an HTTP client that does no more than it must."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from time import perf_counter
from typing import cast

import msgspec

from app.cli.bench.house import BenchError

Once = Callable[[], Awaitable[None]]

_HEAD_END = b"\r\n\r\n"
_ANSWER_SECONDS = 30.0


class Spread(msgspec.Struct, frozen=True):
    """Latencies in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


class Run(msgspec.Struct):
    """What a stretch of load did: how long it took, and each latency in seconds."""

    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """How many a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


def spread(latencies: Sequence[float]) -> Spread:
    """Return the percentiles of latencies in seconds, by nearest rank, as milliseconds."""
    ordered = sorted(latencies)
    if not ordered:
        raise BenchError("nothing was measured; give it more time.")

    def rank(share: float) -> float:
        return round(1000 * ordered[max(0, ceil(share * len(ordered)) - 1)], 2)

    return Spread(rank(0.50), rank(0.95), rank(0.99), rank(1.0))


async def closed(once: Once, *, concurrency: int, seconds: float) -> Run:
    """Repeat `once` in `concurrency` loops; each begins the next when its last is answered."""
    latencies: list[float] = []
    began = perf_counter()
    end = began + seconds

    async def loop() -> None:
        while (start := perf_counter()) < end:
            await once()
            latencies.append(perf_counter() - start)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(loop())
    return Run(perf_counter() - began, latencies)


async def opened(once: Once, *, rate: float, seconds: float, seed: int = 1) -> Run:
    """Begin `once` at random moments, `rate` a second, whether or not others are answered.

    A latency counts from the moment at which it should have begun, so that a stall is seen by
    everything that it holds up.
    """
    chance, latencies = random.Random(seed), []
    began = perf_counter()
    due = began

    async def one(start: float) -> None:
        await once()
        latencies.append(perf_counter() - start)

    async with asyncio.TaskGroup() as group:
        while (due := due + chance.expovariate(rate)) < began + seconds:
            wait = due - perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            group.create_task(one(due))
    return Run(perf_counter() - began, latencies)


class _Line(asyncio.Protocol):
    """One connection that carries one request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are transports by their methods, not by their class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(_HEAD_END)
        if not found or self._answer is None:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not length:
            self._fail("an answer does not say how long it is.")
        elif len(body) >= int(length):
            self._received = body[int(length) :]
            self._answer.set_result((int(head[9:12]), body[: int(length)]))
            self._answer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail("the connection was closed in the middle of a request.")

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchError(why))
        self._answer = None

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, data: bytes) -> tuple[int, bytes]:
        if self._transport is None:
            raise BenchError("the connection is gone.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Sends requests over connections that stay open; opens one more when all are busy."""

    def __init__(self, host: str, port: int, name: str, headers: dict[str, str]) -> None:
        self._address = (host, port)
        lines = {"Host": name, **headers}
        self._common = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[_Line] = []
        self._lines: list[_Line] = []

    async def send(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        """Send a request and return status and body. Raises BenchError, TimeoutError, OSError.

        A header's name is written with underscores here.
        """
        more = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
        length = f"Content-Length: {len(body)}\r\n\r\n"
        data = f"{method} {path} HTTP/1.1\r\n{self._common}{more}{length}".encode() + body
        line = await self._line()
        answer = await line.send(data)
        self._idle.append(line)
        return answer

    async def _line(self) -> _Line:
        while self._idle:
            line = self._idle.pop()
            if line.alive:
                return line
        _, made = await asyncio.get_running_loop().create_connection(_Line, *self._address)
        self._lines.append(made)
        return made

    def close(self) -> None:
        """Close every connection."""
        for line in self._lines:
            line.close()
