"""Surely not sent, or perhaps sent: the split that money needs, on real sockets."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.cli.ports import free_port
from app.psp.stripe import transport
from app.psp.stripe.exchange import Exchange
from app.psp.stripe.transport import MissingKeyError, Transport, current
from app.settings import Deadlines
from tests.psp.stripe.wire import NOW, QUICK, adapter_at, intent, reply, request, wired


async def confirm(url: str, **deadlines: float) -> Any:
    async with adapter_at(url, msgspec.structs.replace(QUICK, **deadlines)) as adapter:
        return await adapter.send("confirm", request(), key="k", reference="pi_1")


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """Return the address of a listener whose queue is full: a SYN gets no answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for filler in fillers:
            filler.close()


async def test_a_name_that_does_not_resolve_was_not_sent() -> None:
    """F51."""
    assert (await confirm("http://psp.invalid", connect=5, confirm=8)).cls == "not_sent"


async def test_a_refused_connection_was_not_sent() -> None:
    assert (await confirm(f"http://127.0.0.1:{free_port()}")).cls == "not_sent"


async def test_a_connection_that_times_out_was_not_sent(full_backlog: str) -> None:
    assert (await confirm(full_backlog)).cls == "not_sent"


async def test_a_deadline_that_passes_while_connecting_was_not_sent(full_backlog: str) -> None:
    assert (await confirm(full_backlog, connect=5, confirm=0.2)).cls == "not_sent"


async def test_a_broken_tls_handshake_was_not_sent() -> None:
    """F51."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 this is no TLS\r\n")
        await writer.drain()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await confirm(f"https://127.0.0.1:{port}", connect=5, confirm=5)
    server.close()
    assert result.cls == "not_sent"
    assert "SSL" in (result.message or "")


async def test_an_untrusted_certificate_was_not_sent(tmp_path: Path) -> None:
    """F51: there is no downgrade."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=3650))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    file = tmp_path / "server.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    heard = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(listen, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    result = await confirm(f"https://localhost:{port}", connect=5, confirm=5)
    server.close()
    assert (result.cls, heard) == ("not_sent", [])
    assert "certificate" in (result.message or "")


async def test_waiting_for_a_connection_of_the_pool_was_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "POOL", 2)
    # Whoever waits gives up long before the two that hold the pool do, also on a busy machine.
    patient = Deadlines(connect=0.4, confirm=4.0)
    async with wired(silence) as wire, adapter_at(wire.url, patient) as adapter:
        calls = [
            adapter.send("confirm", request(), key=f"k{n}", reference="pi_1") for n in range(5)
        ]
        classes = [result.cls for result in await asyncio.gather(*calls)]
    assert (classes.count("unknown"), classes.count("not_sent")) == (2, 3)
    assert len(wire.requests) == 2


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    for byte in reply(200, intent()):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def reset_in_body(writer: asyncio.StreamWriter) -> None:
    writer.write(reply(200, intent())[:-20])
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()


async def reset_in_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 O")
    await writer.drain()
    writer.close()


async def no_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()
    writer.close()


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(200):
        writer.write(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        await writer.drain()


async def bomb(writer: asyncio.StreamWriter) -> None:
    content = gzip.compress(b" " * 50_000_000)
    writer.write(reply(200, content, Content_Encoding="gzip"))
    await writer.drain()


AFTER_SENDING = [
    *(silence, reset, hang_up, drip, reset_in_body, reset_in_head, no_http, endless, bomb)
]


@pytest.mark.parametrize("script", AFTER_SENDING, ids=[f.__name__ for f in AFTER_SENDING])
async def test_whatever_happens_after_sending_is_unknown_and_not_sent_again(script: Any) -> None:
    async with wired(script) as wire:
        result = await confirm(wire.url)
    assert (result.cls, result.resend) == ("unknown", True)
    assert len(wire.requests) == 1


async def test_a_connection_that_ends_before_it_is_read_is_unknown() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    result = await confirm(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    assert result.cls == "unknown"


async def test_a_kept_connection_that_dies_is_unknown_and_not_sent_again() -> None:
    well = reply(200, intent())
    async with wired(well, reset, well) as wire, adapter_at(wire.url) as adapter:
        results = [
            await adapter.send("confirm", request(), key="k", reference="pi_1") for _ in range(3)
        ]
    assert [result.cls for result in results] == ["succeeded", "unknown", "succeeded"]
    assert len(wire.requests) == 3


async def test_cancellation_passes_through() -> None:
    reached = asyncio.Event()

    async def hold(writer: asyncio.StreamWriter) -> None:
        reached.set()
        await asyncio.sleep(5)

    async with wired(hold) as wire, adapter_at(wire.url) as adapter:
        call = asyncio.ensure_future(adapter.send("confirm", request(), key="k", reference="pi_1"))
        await reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_proxies_and_telemetry_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with wired(reply(200, intent())) as wire:
        assert (await confirm(wire.url)).cls == "succeeded"
    headers = wire.requests[0][1]
    assert headers["user-agent"] == "Counterfoil"
    assert not [name for name in headers if name.startswith("x-stripe")]


async def test_a_post_without_our_own_key_is_stopped() -> None:
    async with wired(reply(200, intent())) as wire:
        async with adapter_at(wire.url) as adapter:
            with pytest.raises(ValueError, match="idempotency key"):
                await adapter.send("confirm", request(), key="", reference="pi_1")
        below = Transport(connect=1, secure=False)
        token = current.set(Exchange(deadline=1, key="ours"))
        headers = {"Idempotency-Key": "invented"}
        with pytest.raises(MissingKeyError):
            await below.request_async("post", wire.url, headers, "")
        current.reset(token)
        await below.close_async()
    assert wire.requests == []
