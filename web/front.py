"""What every request passes first and every answer last: hosts, proxies, ids, security headers."""

import asyncio
import ipaddress
import re
import time
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlsplit

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Method, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Histogram

from app.errors import Invalid, Problem
from app.ids import Ids
from app.merchants.keys import API_VERSION, LIVE_PREFIX, TEST_PREFIX
from app.settings import Settings
from web import errors
from web.deps import has_card_number
from web.errors import Overloaded, TooSlow
from web.limits import Places

log = structlog.get_logger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# From a request's head to the last byte of its body. Who sends more slowly than that keeps a place
# which others need.
_BODY_SECONDS = 10.0
_ANY_HOST = frozenset({"/healthz", "/readyz"})  # Asked for by probes, which know no name.
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_PERMISSIONS = (
    "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
    "hid=(), magnetometer=(), microphone=(), midi=(), payment=(), screen-wake-lock=(), serial=(), "
    "usb=(), xr-spatial-tracking=()"
)
_CLOSED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_PAGES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; object-src 'none'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action {}; report-uri /policy-reports; report-to policy"
)
# Policy and referrer by the start of the path. A checkout address is a secret of its own, so no
# other site may learn it; it hands over by link, so it has no form.
_AREAS: tuple[tuple[str, str, str], ...] = (
    ("/v1/", _CLOSED, "no-referrer"),
    ("/psp/", _CLOSED, "no-referrer"),
    ("/policy-reports", _CLOSED, "no-referrer"),
    ("/checkout/", _PAGES.format("'none'"), "no-referrer"),
    ("", _PAGES.format("'self'"), "same-origin"),
)

Headers = list[tuple[bytes, bytes]]


class HostNotAllowed(Invalid):
    """The Host header names another site."""

    code = "host_not_allowed"


class KeyInUrl(Invalid):
    """An API key stands in the address, where logs and histories keep it; revoke that key."""

    code = "api_key_in_url"


class Metrics:
    """Counts and times of requests by route, for `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "counterfoil_http_requests",
            "Answers by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "counterfoil_http_request_seconds",
            "Time until the answer began.",
            ["route"],
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )


class Front:
    """Plain ASGI around the application: it sees unknown routes and failures as well."""

    def __init__(self, app: ASGIApp, *, settings: Settings, ids: Ids, metrics: Metrics) -> None:
        self._app = app
        self._ids = ids
        self._metrics = metrics
        self._places = Places(settings.requests_at_once)
        self._hosts = _hosts(settings)
        self._loopback = settings.loopback
        self._proxies = [ipaddress.ip_network(n, strict=False) for n in settings.trusted_proxies]
        self._areas = [
            (start, _security_headers(policy, referrer, https=settings.https))
            for start, policy, referrer in _AREAS
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, pass it on, and complete the answer's headers."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        asked = _asked(scope["headers"])
        scope["state"] = state = dict(scope.get("state") or {})
        state["request_id"] = self._request_id(asked.get(b"request-id", ""))
        state["headers"] = {}
        if self._proxies:
            self._apply_forwarded(scope, asked)
        if scope["method"] == "OPTIONS":
            # The framework would answer by itself, without a permission and with some of the
            # methods. Nobody may ask from another site, so nobody needs an answer: 405.
            scope["method"] = cast("Method", "NONE")
        answer = _Answer(self, scope, send)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=state["request_id"])
        try:
            self._check(scope, asked)
            await self._serve(scope, receive, answer)
        except asyncio.CancelledError:
            await answer.cut_off()
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: whoever asks gets an answer
            await answer.fail(error)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        if not self._places.take(scope["path"]):
            seconds = self._places.come_back()
            said = "Too much is asked at once. Nothing was done; try again soon."
            raise Overloaded(said, retry_after=seconds)
        try:
            await self._app(scope, _in_time(receive), answer.send)
        finally:
            self._places.give_back()

    def _check(self, scope: Scope, asked: dict[bytes, str]) -> None:
        address = scope["raw_path"] if scope.get("raw_path") else scope["path"].encode()
        told = (address + b"?" + scope["query_string"]).lower()
        if TEST_PREFIX.encode() in told or LIVE_PREFIX.encode() in told:
            scope["path"] = "/v1/"  # Nothing downstream may log or answer the address itself.
            raise KeyInUrl(
                "Send the API key in the Authorization header only, and revoke this one."
            )
        host = asked.get(b"host", "").lower()
        if scope["path"] in _ANY_HOST or host in self._hosts:
            return
        if not (self._loopback and _without_port(host) in _LOOPBACK_NAMES):
            raise HostNotAllowed("This host is not served here.")

    def _request_id(self, sent: str) -> str:
        if _SANE_ID.fullmatch(sent) and not has_card_number(sent):
            return sent
        return self._ids("req")

    def _apply_forwarded(self, scope: Scope, asked: dict[bytes, str]) -> None:
        """Believe a trusted proxy: the caller is the last address that is no proxy of ours."""
        client = scope.get("client")
        if not client or not self._trusted(client[0]):
            return
        for address in reversed(
            [part.strip() for part in asked.get(b"x-forwarded-for", "").split(",")]
        ):
            if not _is_address(address):
                break
            scope["client"] = (address, 0)
            if not self._trusted(address):
                break
        if asked.get(b"x-forwarded-proto") in {"http", "https"}:
            scope["scheme"] = asked[b"x-forwarded-proto"]

    def _trusted(self, address: str) -> bool:
        if not _is_address(address):
            return False
        found = ipaddress.ip_address(address)
        return any(found in network for network in self._proxies)

    def headers_for(self, path: str) -> Headers:
        """Return the security headers of the area that a path lies in."""
        return next(made for start, made in self._areas if path.startswith(start))

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer under its route; unknown addresses share one."""
        route = str(scope.get("path_template") or "none")
        self._metrics.requests.labels(route, scope.get("method", ""), str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


class _Answer:
    """Completes the headers of one answer."""

    def __init__(self, front: Front, scope: Scope, send: Send) -> None:
        self._front = front
        self._scope = scope
        self._send = send
        self._path = scope["path"]
        self._since = time.perf_counter()
        self._begun = False

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one gets the headers that every answer has."""
        if message["type"] == "http.response.start":
            self._begun = True
            message["headers"] = self._complete(list(message["headers"]))
            self._front.count(self._scope, message["status"], time.perf_counter() - self._since)
        await self._send(message)

    def _complete(self, headers: Headers) -> Headers:
        state: dict[str, Any] = self._scope["state"]
        there = {name.lower() for name, _ in headers}
        added = [(b"request-id", str(state["request_id"]).encode())]
        if self._path.startswith("/v1/"):
            added.append((b"counterfoil-version", API_VERSION.encode()))
        added += [
            (name.lower().encode(), value.encode()) for name, value in state["headers"].items()
        ]
        added += self._front.headers_for(self._path)
        return headers + [(name, value) for name, value in added if name not in there]

    async def fail(self, error: Exception) -> None:
        """Answer what nothing else has answered; an answer that has begun is broken off."""
        problem = errors.as_problem(error)
        if problem.status >= 500 and not isinstance(problem, Overloaded):
            log.error("request failed outside of its handler", exc_info=error)
        if self._begun:
            raise error
        await self._refuse(problem)

    async def cut_off(self) -> None:
        """Answer what is ended before its time: a server that stops waits only so long.

        Without this the caller would get a bare 500 from the server below. Whether the work was
        committed is not known here; a repetition with the same key tells.
        """
        log.warning("request cut off", path=self._path, begun=self._begun)
        if not self._begun:
            await self._refuse(errors.Stopping("The server stops. Ask again.", retry_after=1))

    async def _refuse(self, problem: Problem) -> None:
        content = errors.body(self._scope, problem)
        headers = {
            "content-type": errors.MEDIA_TYPE,
            "content-length": str(len(content)),
            **errors.headers(problem),
        }
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": encoded}
        )
        await self.send({"type": "http.response.body", "body": content, "more_body": False})


def _in_time(receive: Receive) -> Receive:
    """Return what receives a request's body, or raises TooSlow when that takes too long."""
    ends, whole = asyncio.get_running_loop().time() + _BODY_SECONDS, False

    async def received() -> Any:
        nonlocal whole
        if whole:
            return await receive()  # The end of the connection, which may be hours away.
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError:
            raise TooSlow(f"Send the whole body within {_BODY_SECONDS:.0f} seconds.") from None
        whole = not message.get("more_body", False)
        return message

    return received


def _asked(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    wanted = (b"host", b"request-id", b"x-forwarded-for", b"x-forwarded-proto")
    return {name: value.decode("latin-1") for name, value in headers if name in wanted}


def _hosts(settings: Settings) -> frozenset[str]:
    parts = urlsplit(settings.public_url)
    name = (parts.hostname or "").lower()
    bare = f"[{name}]" if ":" in name else name
    port = parts.port or (443 if settings.https else 80)
    usual = port == (443 if settings.https else 80)
    return frozenset({f"{bare}:{port}", bare} if usual else {f"{bare}:{port}"})


def _without_port(host: str) -> str:
    head, colon, tail = host.rpartition(":")
    return head if colon and tail.isdigit() else host


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _security_headers(policy: str, referrer: str, *, https: bool) -> Headers:
    values = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": referrer,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": _PERMISSIONS,
        "x-frame-options": "DENY",
        "cache-control": "no-store",
    }
    if "report-to" in policy:
        values["reporting-endpoints"] = 'policy="/policy-reports"'
    if https:
        values["strict-transport-security"] = "max-age=31536000; includeSubDomains"
    return [(name.encode(), value.encode()) for name, value in values.items()]
