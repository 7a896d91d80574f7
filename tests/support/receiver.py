"""A shop's server for tests: keeps every request, answers from a script, misbehaves on demand."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec


class Received(msgspec.Struct, frozen=True):
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `wait` seconds before it; `raw` replaces everything that would be sent.

    After `raw` the connection is closed, but for `stall` seconds in which nothing happens.
    """

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b"ok"
    wait: float = 0.0
    raw: bytes | None = None
    stall: float = 0.0


class Receiver:
    """Listens on 127.0.0.1; answers `script` in order, then `reply` for ever."""

    def __init__(self, reply: Reply | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.reply = reply or Reply()
        self.script: deque[Reply] = deque()
        self.requests: list[Received] = []
        self.connections = 0
        self.open_now = 0
        self.most_at_once = 0
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._stopping = asyncio.Event()
        self._came = asyncio.Condition()

    @property
    def url(self) -> str:
        """The address to send to."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://localhost:{self.port}/hooks"

    async def start(self, port: int = 0) -> None:
        """Listen on a free port, or on `port`."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", port, ssl=self._tls, limit=1 << 20
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        self._stopping.set()
        for writer in list(self._writers):
            writer.transport.abort()

    async def wait_for(self, count: int, seconds: float = 10.0) -> list[Received]:
        """Wait until `count` requests came; return them. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # The other side went away, which is its right.
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pause(self, seconds: float) -> None:
        if seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _version = head[0].split(" ")
        pairs = (line.split(":", 1) for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        async with self._came:
            self.requests.append(Received(method, path, headers, body))
            self._came.notify_all()
        reply = self.script.popleft() if self.script else self.reply
        self.open_now += 1
        self.most_at_once = max(self.most_at_once, self.open_now)
        await self._pause(reply.wait)
        self.open_now -= 1
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            await self._pause(reply.stall)
            return False
        lines = {"content-length": str(len(reply.body))} | reply.headers
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{text}\r\n".encode() + reply.body)
        await writer.drain()
        return True


@asynccontextmanager
async def receiving(
    reply: Reply | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Run a receiver for the length of a block."""
    receiver = Receiver(reply, tls)
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()
