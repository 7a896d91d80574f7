"""The shop's own server: takes webhooks, checks each signature, and keeps what it was told."""

import asyncio
import contextlib
import json
from typing import Any

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError

_LARGEST = 262_144


class Taken(msgspec.Struct):
    """A webhook as it came: how often, and what it said."""

    body: dict[str, Any]
    times: int = 1
    changed: bool = False


class Receiver:
    """Listens on the loopback address until `stop`."""

    def __init__(self) -> None:
        self.taken: dict[str, Taken] = {}
        self.forged = 0
        self.received = 0
        self._secret: str | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen on a free port; return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LARGEST)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def trust(self, secret: str) -> None:
        """Take what is signed with this secret."""
        self._secret = secret

    def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = _headers(head)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status = b"200 OK" if self._take(headers, body) else b"400 Bad Request"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        writer.close()

    def _take(self, headers: dict[str, str], body: bytes) -> bool:
        try:
            Webhook(self._secret or "").verify(body, headers)
        except WebhookVerificationError:
            self.forged += 1
            return False
        self.received += 1
        message: dict[str, Any] = json.loads(body)
        known = self.taken.get(headers["webhook-id"])
        if known is None:
            self.taken[headers["webhook-id"]] = Taken(message)
        else:
            known.times += 1
            known.changed = known.changed or known.body != message
        return True


def _headers(head: str) -> dict[str, str]:
    lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
    return {name.strip().lower(): value.strip() for name, _, value in lines}
