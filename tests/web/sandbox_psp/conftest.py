"""A sandbox that these tests share, the official library that drives it, and an endpoint."""

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe

from tests.support.sandbox import SandboxHandle, start_sandbox

# What the library lets through for an answer that breaks off or is no text.
UNREADABLE = (stripe.StripeError, aiohttp.ClientError, UnicodeDecodeError)


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxHandle]:
    with start_sandbox(tmp_path_factory.mktemp("sandbox")) as handle:
        yield handle


@pytest.fixture
def sandbox(shared_sandbox: SandboxHandle) -> Iterator[SandboxHandle]:
    """Return the shared sandbox with settings as at the start and no scripted fault."""
    shared_sandbox.reset()
    shared_sandbox.settings(search_delay=0)
    yield shared_sandbox
    shared_sandbox.reset()


@asynccontextmanager
async def open_client(
    sandbox: SandboxHandle, *, key: str | None = None
) -> AsyncIterator[stripe.StripeClient]:
    """Open the official library on a sandbox."""
    http_client = stripe.AIOHTTPClient()
    yield stripe.StripeClient(
        key or sandbox.secret_key,
        base_addresses={"api": sandbox.url},
        max_network_retries=0,
        http_client=http_client,
    )
    await http_client.close_async()  # type: ignore[no-untyped-call] # the library says no type


@pytest.fixture
async def client(sandbox: SandboxHandle) -> AsyncIterator[stripe.StripeClient]:
    async with open_client(sandbox) as made:
        yield made


@dataclass
class Receiver:
    """An endpoint for events; `statuses` are its next answers, then 200."""

    url: str
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[str, bytes]] = field(default_factory=list)

    def events(self, object_id: str | None = None) -> list[dict[str, Any]]:
        """Return what came, about one object or its intent, in order of arrival."""
        found = [json.loads(body) for _, body in self.got]
        if object_id is None:
            return found
        return [
            event
            for event in found
            if object_id
            in {event["data"]["object"]["id"], event["data"]["object"].get("payment_intent")}
        ]

    def types(self, object_id: str | None = None) -> list[str]:
        """Return the types of what came."""
        return [str(event["type"]) for event in self.events(object_id)]


@pytest.fixture
def receiver(sandbox: SandboxHandle) -> Iterator[Receiver]:
    """Return an endpoint that is registered at the sandbox for the length of one test."""
    box = Receiver(url="")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            box.got.append((self.headers["Stripe-Signature"], body))
            self.send_response(box.statuses.pop(0) if box.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    box.url = f"http://127.0.0.1:{server.server_address[1]}/events"
    endpoint = sandbox.add_endpoint(box.url)
    yield box
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}
    sandbox.send("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}", headers=headers)
    server.shutdown()
    server.server_close()


def wait_until(true: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait until something is true; fail when it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail("it did not happen in time")
        time.sleep(0.02)


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[Callable[..., SandboxHandle]]:
    """Return a starter of sandboxes on this test's folder, all stopped at the end."""
    started: list[SandboxHandle] = []

    def start(*, port: int = 0, **env: str) -> SandboxHandle:
        started.append(start_sandbox(tmp_path, port=port, **env))
        return started[-1]

    yield start
    for handle in started:
        if handle.process.poll() is None:
            handle.stop()
