"""Forged events at the address that the internet reaches: whole requests, altered anywhere."""

import gzip
import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator
from datetime import datetime
from urllib.parse import unquote

import msgspec
import pytest
import structlog
from litestar import Litestar
from sqlalchemy import func, select

from app.inbox.models import ReceivedEvent
from app.jobs import Job
from app.runtime import Runtime
from tests.psp.stripe.test_events import SIGNED_NONSENSE, event
from tests.psp.stripe.wire import EPOCH, NOW
from tests.support.asgi import INSIDE, Answer, Headers, ask
from tests.support.mutations import altered
from web.asgi import create_app

SECRET = "whsec_test"
ADDRESS = b"/psp/conn_sandbox/events"
BODY = json.dumps(event()).encode()
REFUSED = {
    (400, "event_not_verified"),
    (400, "invalid_request"),
    (400, "host_not_allowed"),
    (404, "not_found"),
    (405, "method_not_allowed"),
    (413, "request_too_large"),
}


class Sent(msgspec.Struct, kw_only=True):
    """One request; a mutation changes parts of it."""

    method: str = "POST"
    address: bytes = ADDRESS
    host: bytes = b"localhost"
    signature: list[tuple[bytes, bytes]]
    others: list[tuple[bytes, bytes]] = msgspec.field(
        default_factory=lambda: [(b"Content-Type", b"application/json; charset=utf-8")]
    )
    body: list[bytes] = msgspec.field(default_factory=lambda: [BODY])

    def headers(self) -> Headers:
        """Return all headers as they are sent."""
        return [(b"Host", self.host), *self.others, *self.signature]


def signature(body: bytes = BODY, at: int = EPOCH, secret: str = SECRET) -> bytes:
    made = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}".encode()


def original() -> Sent:
    return Sent(signature=[(b"Stripe-Signature", signature())])


@pytest.fixture
async def app(rt: Runtime) -> AsyncIterator[Litestar]:
    """Return the application with the real adapter of the sandbox, in a minute that stands."""

    def now() -> datetime:
        return NOW

    rt.clock = now
    made = create_app(rt)
    yield made
    await made.state.limiter.close()


async def send(app: Litestar, sent: Sent) -> Answer:
    return await ask(app, sent.method, sent.address, headers=sent.headers(), body=sent.body)


async def stored(rt: Runtime) -> tuple[int, int]:
    async with rt.sessions.read() as session:
        events = await session.scalar(select(func.count()).select_from(ReceivedEvent))
        work = await session.scalar(select(func.count()).select_from(Job))
    return int(events or 0), int(work or 0)


def other_body(chance: random.Random, sent: Sent) -> None:
    """The body is not the one that was signed."""
    changed = event(id=f"evt_{chance.randrange(10**9)}")
    nonsense = chance.choice(SIGNED_NONSENSE)
    body = chance.choice(
        [
            *[altered(chance, BODY)] * 6,
            json.dumps(changed).encode(),
            json.dumps(json.loads(BODY), separators=(",", ":")).encode(),
            BODY + chance.choice([b" ", b"\n", b"\0", b"{}"]),
            b"\xef\xbb\xbf" + BODY,
            BODY.decode().encode("utf-16"),
            gzip.compress(BODY),
            nonsense,
            b"x" * chance.choice([262_144, 262_145, 400_000]),
        ]
    )
    if body is nonsense:
        sent.signature = [(b"Stripe-Signature", signature(body))]
    cut = chance.randrange(len(body) + 1)
    sent.body = chance.choice([[body], [part for part in (body[:cut], body[cut:]) if part]])


def other_signature(chance: random.Random, sent: Sent) -> None:
    """The header is forged, stale, of another secret, of another name, doubled or not there."""
    name, true = b"Stripe-Signature", signature()
    seconds = chance.choice([301, 302, 3600, 86_400, 31_536_000, EPOCH])
    at = EPOCH + chance.choice([-1, 1]) * seconds
    stamp, _, tail = true.partition(b",")
    sent.signature = chance.choice(
        [
            *[[(name, altered(chance, true))]] * 6,
            [(name, signature(at=at))],
            [(name, b"t=%d,%s" % (at, tail))],
            [
                (
                    name,
                    b"t=%d,%s" % (EPOCH + chance.choice([-1, 1]) * chance.randrange(1, 300), tail),
                )
            ],
            [(name, signature(secret=chance.choice(["", "whsec_live", SECRET + " ", "sk_test"])))],
            [(name, stamp + b"," + tail.upper()), (name, true)],
            [(name, true), (name, altered(chance, true))],
            [(name, true), (name, true)],
            [(name, stamp), (name, tail)],
            [],
            [(altered(chance, name), true)],
            [(chance.choice([b"Signature", b"Webhook-Signature", b"Authorization"]), true)],
        ]
    )


def other_address(chance: random.Random, sent: Sent) -> None:
    """The request goes elsewhere, or asks for something else."""
    visible = bytes(range(0x21, 0x7F)).replace(b"?", b"").replace(b"#", b"")
    at = chance.randrange(1, len(ADDRESS))
    drawn = [
        *[ADDRESS[:at] + bytes([chance.choice(visible)]) + ADDRESS[at + 1 :]] * 3,
        *[ADDRESS[:at] + ADDRESS[at + 1 :]] * 2,
        ADDRESS[:at] + b"%%%02x" % chance.randrange(256) + ADDRESS[at:],
        ADDRESS[:at] + b"%%%02x" % chance.randrange(256) + ADDRESS[at + 1 :],
        ADDRESS.upper(),
        ADDRESS.replace(b"sandbox", chance.choice([b"stripe_test", b"stripe_live", b"", b"%00"])),
        ADDRESS[: -len("events")],
        b"/v1" + ADDRESS,
        ADDRESS.replace(b"/events", b"/../conn_x/events"),
    ]
    kind = chance.randrange(6)
    if kind == 0:
        sent.method = chance.choice(
            ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"]
        )
    elif kind == 1:
        sent.host = chance.choice(
            [b"localhost.example", b"", b"localhost\xff", altered(chance, b"a.b")]
        )
    else:
        sent.address = chance.choice(drawn)


def other_headers(chance: random.Random, sent: Sent) -> None:
    """Headers beside the signature lie; alone they forge nothing, so the body is altered, too."""
    sent.others += chance.sample(
        [
            (b"Content-Length", chance.choice([b"-1", b"0", b"x", b"9" * 400, b"\xb2", b"262145"])),
            (b"Content-Encoding", chance.choice([b"gzip", b"br", b"\xff"])),
            (b"Content-Type", chance.choice([b"multipart/form-data", b"\xff", b"text/html", b""])),
            (b"Transfer-Encoding", b"chunked, chunked"),
            (b"X-HTTP-Method-Override", b"GET"),
            (b"X-Forwarded-For", b"127.0.0.1"),
            (b"Cookie", chance.randbytes(40)),
            (altered(chance, b"X-Header"), chance.randbytes(chance.randrange(90))),
        ],
        k=chance.randrange(1, 5),
    )
    chance.choice([other_body, other_signature])(chance, sent)


def is_true(sent: Sent) -> bool:
    """Tell whether what was changed was never signed and never mattered: that is no forgery."""
    if sent.method != "POST" or b"".join(sent.body) != BODY or sent.host != b"localhost":
        return False
    headers = [value for name, value in sent.signature if name.lower() == b"stripe-signature"]
    parts = set(headers[0].split(b",")) if len(headers) == 1 else set()
    address = unquote(sent.address.decode()).rstrip("/")  # `%65` is another way to write `e`.
    return set(signature().split(b",")) <= parts and address == ADDRESS.decode()


def mutated(chance: random.Random) -> Sent:
    kinds = [other_body, other_body, other_signature, other_signature, other_address, other_headers]
    while True:
        sent = original()
        for change in chance.sample(kinds, k=chance.choice([1, 1, 1, 2, 3])):
            change(chance, sent)
        if not is_true(sent):
            return sent


@pytest.mark.timeout(3_600)
async def test_no_mutated_request_is_accepted_and_none_fails_otherwise(
    app: Litestar, rt: Runtime, pytestconfig: pytest.Config
) -> None:
    """F30, F57: as many of them as `--mutations 20000` says, and a thousand without."""
    chance = random.Random(20_261_122)
    with structlog.testing.capture_logs() as lines:
        for number in range(int(pytestconfig.getoption("--mutations") or 1_000)):
            sent = mutated(chance)
            answer = await send(app, sent)
            told = (number, sent, answer)
            assert 400 <= answer.status < 500, told
            if not unquote(sent.address.decode()).startswith("/psp/"):
                assert answer.status in {400, 404, 405}, told  # A page for people.
            elif sent.method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json", told
                assert (answer.status, answer.json()["code"]) in REFUSED, told
                assert not INSIDE.search(answer.body), told
            lines.clear()
    assert await stored(rt) == (0, 0)
    assert (await send(app, original())).json() == {"received": True, "new": True}
    assert await stored(rt) == (1, 1)
