"""Requests to merchants' addresses reach public hosts only, end in time, in bounds: F33, F34."""

import asyncio
import gzip
import ipaddress
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.egress import Blocked, Egress, EgressFailed, UrlNotAllowed, is_public
from tests.support.receiver import Reply, receiving

_connects: list[str] = []
_listening = False


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _listening and event == "socket.connect":
        _connects.append(str(args[1]))


sys.addaudithook(_hook)


@pytest.fixture
def connects() -> Iterator[list[str]]:
    """Record each connect() of this process, below every library."""
    global _listening  # noqa: PLW0603 - an audit hook cannot be taken away again.
    _connects.clear()
    _listening = True
    yield _connects
    _listening = False


@pytest.fixture
async def loop_egress() -> AsyncIterator[Egress]:
    egress = Egress(allow_loopback=True)
    yield egress
    await egress.close()


FORBIDDEN = """
https://127.0.0.1/ https://127.0.0.2/ https://127.1/ https://127.0.1/ https://2130706433/
https://0x7f000001/ https://0x7f.0.0.1/ https://0177.0.0.1/ https://017700000001/ https://0/
https://0.0.0.0/ https://10.0.0.1/ https://10.255.255.255/ https://172.16.0.1/
https://172.31.255.254/ https://192.168.1.1/ https://169.254.169.254/latest/meta-data/
https://100.64.0.1/ https://100.100.100.200/ https://192.0.0.1/ https://192.0.0.192/
https://192.0.2.1/ https://192.88.99.1/ https://198.18.0.1/ https://198.51.100.1/
https://203.0.113.1/ https://224.0.0.1/ https://239.255.255.250/ https://240.0.0.1/
https://255.255.255.255/ https://168.63.129.16/ https://[::]/ https://[::1]/
https://[0:0:0:0:0:0:0:1]/ https://[::ffff:127.0.0.1]/ https://[::ffff:7f00:1]/
https://[::ffff:169.254.169.254]/ https://[::ffff:8.8.8.8]/ https://[::127.0.0.1]/
https://[64:ff9b::7f00:1]/ https://[64:ff9b::a9fe:a9fe]/ https://[64:ff9b:1::1]/
https://[2002:7f00:1::]/ https://[2001:0:7f00:1::1]/ https://[2001:db8::1]/ https://[3fff::1]/
https://[100::1]/ https://[5f00::1]/ https://[fc00::1]/ https://[fd00::1]/ https://[fe80::1]/
https://[fe80::1%25eth0]/ https://[fec0::1]/ https://[ff02::1]/ https://localhost/
https://localhost./ https://LOCALHOST/ https://127.0.0.1./ https://①②⑦.⓪.⓪.①/
https://127。0。0。1/ https://redis/ https://redis:443/ https://shop.example:6379/
https://shop.example:22/ https://shop.example:0/ https://shop.example:/ https://shop.example:99999/
http://shop.example/ http://8.8.8.8/ ftp://shop.example/ file:///etc/passwd gopher://shop.example/
//shop.example/ shop.example javascript:alert(1) https:///hooks https://user@shop.example/
https://user:secret@shop.example/ https://shop.example@127.0.0.1/ https://shop.example#@127.0.0.1/
https://127.0.0.1#@shop.example/ https://shop.example\\@127.0.0.1/ https://127.0.0.1\\.shop.example/
https://shop..example/ https://-shop.example/ https://shop-.example/ https://shop.example%00/
https://shop%2eexample/ https://shop.0x7f/ https://shop.1/ https://[127.0.0.1]/ https://[::1/
""".split()


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_a_forbidden_address_is_refused_at_save_and_never_connected_to(
    url: str, connects: list[str]
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["8.8.8.8"]  # Even a resolver that the attacker owns does not help.

    egress = Egress(resolve=resolve)
    with pytest.raises(UrlNotAllowed) as refused:
        await egress.check_url(url)
    assert refused.value.param == "url"
    with pytest.raises(Blocked):
        await egress.post(url, body=b"{}", headers={}, seconds=2)
    await egress.close()
    assert connects == []


@pytest.mark.parametrize("character", [" ", "\t", "\r\n", "\0", "\x7f", "é", "\u202e"])
async def test_blanks_and_control_characters_are_refused(character: str) -> None:
    with pytest.raises(UrlNotAllowed):
        await Egress().check_url(f"https://shop.example/a{character}b")


async def test_a_very_long_address_is_refused() -> None:
    with pytest.raises(UrlNotAllowed):
        await Egress().check_url("https://shop.example/" + "a" * 2048)


INNER = """127.0.0.1 10.0.0.1 169.254.169.254 192.168.0.1 100.64.0.1 0.0.0.0 ::1 fd00::1 fe80::1
::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: 2001:0:7f00:1::1 ff02::1 not-an-address""".split()


@pytest.mark.parametrize("inner", INNER)
async def test_a_name_with_one_inner_address_is_refused_whatever_else_it_has(
    inner: str, connects: list[str]
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.215.14", inner, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]

    egress = Egress(allow_loopback=True, resolve=resolve)
    with pytest.raises(UrlNotAllowed):
        await egress.check_url("https://shop.example/hooks")
    with pytest.raises(Blocked):
        await egress.post("https://shop.example/hooks", body=b"", headers={}, seconds=2)
    await egress.close()
    assert connects == []


async def test_a_name_that_changes_after_it_was_saved_leads_nowhere(connects: list[str]) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    egress = Egress(allow_loopback=True, resolve=rebinding)
    url = await egress.check_url("https://rebind.example/hooks")
    with pytest.raises(Blocked):
        await egress.post(url, body=b"", headers={}, seconds=2)
    await egress.close()
    assert connects == []


async def test_a_socket_to_an_inner_address_is_not_made_even_if_every_check_before_it_failed(
    connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    egress = Egress()

    async def fooled(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(egress, "addresses", fooled)
    with pytest.raises(Blocked):
        await egress.post("https://shop.example/", body=b"", headers={}, seconds=2)
    await egress.close()
    assert connects == []


async def test_a_public_name_is_connected_at_exactly_the_address_that_was_checked(
    connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.215.14"]

    async def nowhere(*args: object) -> None:
        sys.audit("socket.connect", None, args[1])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", nowhere)
    egress = Egress(resolve=resolve)
    assert await egress.check_url("https://shop.example:8443/x") == "https://shop.example:8443/x"
    with pytest.raises(EgressFailed) as failed:
        await egress.post("https://shop.example:8443/x", body=b"", headers={}, seconds=2)
    await egress.close()
    assert failed.value.code == "connect"
    assert connects == ["('93.184.215.14', 8443)"]


@pytest.mark.parametrize("url", ["https://93.184.215.14/", "https://[2606:4700:4700::1111]/a?b=c"])
async def test_a_public_address_needs_no_name(url: str) -> None:
    assert await Egress().check_url(url) == url


async def test_loopback_is_for_test_settings_alone_and_by_its_own_names() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    for url in ("http://localhost:5000/", "http://127.0.0.1:5000/", "http://[::1]:5000/"):
        assert await Egress(allow_loopback=True, resolve=resolve).check_url(url) == url
        with pytest.raises(UrlNotAllowed):
            await Egress(resolve=resolve).check_url(url)
    with pytest.raises(UrlNotAllowed):
        await Egress(allow_loopback=True, resolve=resolve).check_url("https://local.example/")


async def test_localhost_that_resolves_elsewhere_is_refused() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.1"]

    with pytest.raises(UrlNotAllowed):
        await Egress(allow_loopback=True, resolve=resolve).check_url("http://localhost:5000/")


@pytest.mark.parametrize("found", [OSError("no such name"), []])
async def test_a_name_that_does_not_resolve_is_told_apart(found: OSError | list[str]) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        if isinstance(found, OSError):
            raise found
        return found

    egress = Egress(resolve=resolve)
    with pytest.raises(UrlNotAllowed) as refused:
        await egress.check_url("https://typo.example/")
    assert refused.value.code == "url_not_resolved"
    with pytest.raises(EgressFailed) as failed:
        await egress.post("https://typo.example/", body=b"", headers={}, seconds=2)
    assert failed.value.code == "dns"
    await egress.close()


async def test_the_answer_comes_back_with_host_and_body_as_sent(
    loop_egress: Egress, connects: list[str]
) -> None:
    async with receiving(Reply(status=202, body=b"thanks")) as shop:
        answer = await loop_egress.post(
            shop.url, body=b'{"a":1}', headers={"webhook-id": "evt_1"}, seconds=2
        )
    assert (answer.status, answer.body, answer.truncated) == (202, b"thanks", False)
    assert connects == [f"('127.0.0.1', {shop.port})"]
    (request,) = shop.requests
    assert (request.method, request.path, request.body) == ("POST", "/hooks", b'{"a":1}')
    assert request.headers["host"] == f"localhost:{shop.port}"
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(
    loop_egress: Egress, status: int
) -> None:
    async with receiving() as inner:
        reply = Reply(status=status, headers={"location": inner.url})
        async with receiving(reply) as shop:
            answer = await loop_egress.post(shop.url, body=b"", headers={}, seconds=2)
    assert answer.status == status
    assert inner.requests == []


async def test_cookies_are_not_kept_and_proxies_of_the_environment_not_used(
    loop_egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy, receiving(Reply(headers={"set-cookie": "a=b"})) as shop:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for _ in range(2):
            await loop_egress.post(shop.url, body=b"", headers={}, seconds=2)
    assert proxy.connections == 0
    assert all("cookie" not in request.headers for request in shop.requests)


async def test_a_huge_answer_is_cut_at_64_kb(loop_egress: Egress) -> None:
    async with receiving(Reply(body=b"x" * 5_000_000)) as shop:
        answer = await loop_egress.post(shop.url, body=b"", headers={}, seconds=5)
    assert (len(answer.body), answer.truncated) == (65536, True)


async def test_an_endless_answer_is_cut_at_64_kb(loop_egress: Egress) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = (b"400\r\n" + b"x" * 1024 + b"\r\n") * 100
    async with receiving(Reply(raw=head + chunks, stall=30)) as shop:
        answer = await loop_egress.post(shop.url, body=b"", headers={}, seconds=5)
    assert (len(answer.body), answer.truncated) == (65536, True)


async def test_a_compressed_bomb_is_not_unpacked(loop_egress: Egress) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, 9)
    reply = Reply(headers={"content-encoding": "gzip"}, body=bomb)
    async with receiving(reply) as shop:
        answer = await loop_egress.post(shop.url, body=b"", headers={}, seconds=5)
    assert answer.encoding == "gzip"
    assert answer.body == bomb[:65536]


async def test_a_slow_answer_is_given_up_in_time(loop_egress: Egress) -> None:
    async with receiving(Reply(wait=30)) as shop:
        began = time.monotonic()
        with pytest.raises(EgressFailed) as failed:
            await loop_egress.post(shop.url, body=b"", headers={}, seconds=0.3)
        assert time.monotonic() - began < 1.5
    assert failed.value.code == "timeout"


@pytest.mark.parametrize(("stall", "code"), [(0, "protocol"), (30, "timeout")])
async def test_an_answer_cut_in_the_middle_is_no_answer(
    loop_egress: Egress, stall: float, code: str
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"
    async with receiving(Reply(raw=head, stall=stall)) as shop:
        with pytest.raises(EgressFailed) as failed:
            await loop_egress.post(shop.url, body=b"", headers={}, seconds=0.3)
    assert failed.value.code == code


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\xff" * 4096,
    ],
)
async def test_garbage_is_an_ordinary_failure(loop_egress: Egress, raw: bytes) -> None:
    async with receiving(Reply(raw=raw)) as shop:
        with pytest.raises(EgressFailed) as failed:
            await loop_egress.post(shop.url, body=b"", headers={}, seconds=2)
    assert failed.value.code in {"protocol", "connect"}


async def test_a_closed_port_is_an_ordinary_failure(loop_egress: Egress) -> None:
    async with receiving() as shop:
        url = shop.url
    with pytest.raises(EgressFailed) as failed:
        await loop_egress.post(url, body=b"", headers={}, seconds=2)
    assert failed.value.code == "connect"


def _certificate(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _server_tls(path: Path, names: list[str | None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    return context


async def test_a_pinned_connection_keeps_name_in_tls_and_host(tmp_path: Path) -> None:
    path, names = _certificate(tmp_path, "localhost"), list[str | None]()
    egress = Egress(allow_loopback=True, tls=ssl.create_default_context(cafile=path))
    async with receiving(tls=_server_tls(path, names)) as shop:
        answer = await egress.post(shop.url, body=b"", headers={}, seconds=2)
    await egress.close()
    assert answer.status == 200
    assert names == ["localhost"]
    assert shop.requests[0].headers["host"] == f"localhost:{shop.port}"


async def test_a_certificate_of_nobody_or_of_another_name_is_refused(tmp_path: Path) -> None:
    mine, other = _certificate(tmp_path, "localhost"), _certificate(tmp_path, "other.example")
    trusting = Egress(allow_loopback=True, tls=ssl.create_default_context(cafile=other))
    for egress, path in ((Egress(allow_loopback=True), mine), (trusting, other)):
        async with receiving(tls=_server_tls(path, [])) as shop:
            with pytest.raises(EgressFailed) as failed:
                await egress.post(shop.url, body=b"", headers={}, seconds=2)
        await egress.close()
        assert failed.value.code == "tls"
        assert shop.requests == []


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("2001:4860:4860::8888", True),
        ("192.0.0.8", False),
        ("192.88.99.1", False),
        ("::ffff:8.8.8.8", False),
        ("64:ff9b::808:808", False),
        ("224.0.0.251", False),
    ],
)
def test_public_addresses_are_told_from_others(text: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(text)) is public
