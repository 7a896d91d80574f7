"""The shop's own server: takes webhooks, answers 200, and tells who waits for a payment."""

import asyncio
from typing import cast

import msgspec


class _Object(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    object: _Object


class _Event(msgspec.Struct):
    type: str
    data: _Data


class Receiver:
    """Listens on the loopback address; events of one type end the wait for their payment."""

    def __init__(self, awaited: str) -> None:
        self._awaited = awaited
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._early: set[str] = set()
        self._server: asyncio.Server | None = None
        self.received = 0

    async def start(self) -> str:
        """Listen on a free port; return the address for webhooks."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), "127.0.0.1", 0
        )
        port = self._server.sockets[0].getsockname()[1]
        return f"http://localhost:{port}/hooks"

    def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()

    def take(self, body: bytes) -> None:
        """Take an event."""
        self.received += 1
        event = msgspec.json.decode(body, type=_Event)
        if event.type != self._awaited:
            return
        payment_id = event.data.object.id
        waiting = self._waiting.pop(payment_id, None)
        if waiting is None:
            self._early.add(payment_id)
        elif not waiting.done():
            waiting.set_result(None)

    async def wait_for(self, payment_id: str, seconds: float) -> None:
        """Wait until the event of a payment has come. Raises TimeoutError."""
        if payment_id in self._early:
            self._early.discard(payment_id)
            return
        self._waiting[payment_id] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(seconds):
            await self._waiting[payment_id]


class _Connection(asyncio.Protocol):
    """One connection of a sender; requests come one after the other."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are transports by their methods, not by their class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            size = int(length or 0)
            if not found or len(rest) < size or self._transport is None:
                return
            self._received = rest[size:]
            self._receiver.take(rest[:size])
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
