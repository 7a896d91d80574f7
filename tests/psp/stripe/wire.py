"""A server that answers with scripted bytes: every way in which an answer can go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from app.psp.port import Request
from app.psp.stripe.adapter import StripeAdapter
from app.settings import Deadlines

Script = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
QUICK = Deadlines(
    connect=1.0, create=1.0, confirm=1.0, capture=1.0, refund=1.0, void=1.0, lookup=1.0
)


def reply(status: int, body: Any, **headers: str) -> bytes:
    """Return a whole answer; a body that is not bytes is written as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def refusal(kind: str = "invalid_request_error", **fields: Any) -> dict[str, Any]:
    """Return an error in the provider's envelope."""
    return {"error": {"type": kind, "message": "No.", **fields}}


class Wire:
    """Answers one request after the other from a script; the last entry answers all others."""

    def __init__(self, *script: Script) -> None:
        self.script = list(script)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""
        self._lines: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        """Let go of every connection."""
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if task := asyncio.current_task():
            self._lines.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client went away, or the test is over.
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        pairs = (line.partition(": ") for line in lines if line)
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((first.rpartition(" ")[0], headers, body))
        script = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(script, bytes):
            writer.write(script)
            await writer.drain()
        else:
            await script(writer)
        return not writer.is_closing()


@asynccontextmanager
async def wired(*script: Script) -> AsyncIterator[Wire]:
    """Run a Wire on a free port."""
    wire = Wire(*script)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        await wire.stop()


@asynccontextmanager
async def adapter_at(
    url: str, deadlines: Deadlines = QUICK, *, clock: Callable[[], datetime] = lambda: NOW
) -> AsyncIterator[StripeAdapter]:
    """Return an adapter that talks to an address and closes in the end."""
    adapter = StripeAdapter(
        name="sandbox",
        livemode=False,
        secret_key="sk_test_wire",
        webhook_secret="whsec_wire",
        base_url=url,
        deadlines=deadlines,
        clock=clock,
    )
    try:
        yield adapter
    finally:
        await adapter.close()


def request(kind: str = "charge", **changes: Any) -> Request:
    """Return the frozen request of an attempt."""
    values: dict[str, Any] = {
        "kind": kind,
        "attempt_id": "att_1",
        "payment_id": "pay_1",
        "installation": "inst_1",
        "amount": 12840,
        "currency": "eur",
        "created_at": NOW,
        "payment_method": "pm_card_visa" if kind == "charge" else None,
    }
    if kind in {"capture", "void", "refund"}:
        values["psp_reference"] = "pi_1"
    return Request(**(values | changes))


OURS = {"installation": "inst_1", "attempt_id": "att_1", "payment_id": "pay_1"}


def intent(**changes: Any) -> dict[str, Any]:
    """Return an intent as Stripe shows it after a charge went well."""
    status = changes.get("status", "succeeded")
    return {
        "object": "payment_intent",
        "id": "pi_1",
        "status": status,
        "amount": 12840,
        "amount_received": 12840 if status == "succeeded" else 0,
        "currency": "eur",
        "livemode": False,
        "created": EPOCH,
        "metadata": OURS,
        "latest_charge": {"object": "charge", "id": "ch_1", "amount_refunded": 0},
        "last_payment_error": None,
    } | changes


def session(**changes: Any) -> dict[str, Any]:
    """Return an open checkout session."""
    return {
        "object": "checkout.session",
        "id": "cs_1",
        "status": "open",
        "payment_status": "unpaid",
        "amount_total": 12840,
        "currency": "eur",
        "livemode": False,
        "created": EPOCH,
        "expires_at": EPOCH + 3600,
        "metadata": OURS,
        "client_reference_id": "pay_1",
        "payment_intent": None,
        "url": "https://pay.test/cs_1",
    } | changes


def refund(**changes: Any) -> dict[str, Any]:
    """Return a refund that went through."""
    return {
        "object": "refund",
        "id": "re_1",
        "status": "succeeded",
        "amount": 12840,
        "currency": "eur",
        "created": EPOCH,
        "metadata": OURS,
        "payment_intent": "pi_1",
    } | changes
