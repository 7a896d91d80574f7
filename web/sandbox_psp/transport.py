"""The wire below HTTP: an application that can cut its own connection."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRANSPORT = "sandbox.transport"


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which hands the connection to the application through the scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wrap the application so that each request of this connection knows its transport."""
        super().connection_made(transport)
        inner = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), _TRANSPORT: transport}
            await inner(scope, receive, send)

        self.app = with_transport


async def cut(scope: Scope, receive: Receive) -> None:
    """Close the connection without a word, and return once it is closed."""
    scope["extensions"][_TRANSPORT].abort()
    await _closed(receive)


async def cut_at(scope: Scope, receive: Receive, response: bytes, count: int) -> None:
    """Send the first bytes of a response, then reset the connection."""
    transport: asyncio.Transport = scope["extensions"][_TRANSPORT]
    if count > 0:
        transport.write(response[:count])
    raw = transport.get_extra_info("socket")
    if raw is not None:
        # With a linger time of zero the close is a reset, not an orderly end.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The peer reads what was sent before the reset throws it away.
    await asyncio.sleep(0.05)
    transport.abort()
    await _closed(receive)


async def _closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    """Send a complete response."""
    fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def drip(
    send: Send, status: int, headers: dict[str, str], body: bytes, *, seconds: float, steps: int
) -> None:
    """Send a response whose head comes at once and whose body takes its time."""
    fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    size = max(1, -(-len(body) // steps))
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    clock = asyncio.get_running_loop().time
    began = clock()
    for number, part in enumerate(parts, 1):
        # Each part has its moment, the last one the end: many sleeps may each end early, and who
        # has read as much as the head says waits for nothing more.
        await asyncio.sleep(began + seconds * number / len(parts) - clock())
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def raw_response(status: int, headers: dict[str, str], body: bytes) -> bytes:
    """Return a response as it would go over the wire."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def read_body(receive: Receive, *, limit: int) -> bytes | None:
    """Return the request's body, or None when it is longer than the limit or the client left."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
