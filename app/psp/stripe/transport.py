"""The network below the official library: deadlines, caps, and whether a request can have left."""

import logging
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import aiohttp
import stripe

from app.psp.stripe.exchange import BODY_LIMIT, Exchange

# The library would tell Stripe about this machine and log each address; a payment needs neither.
stripe.enable_telemetry = False
logging.getLogger("stripe").setLevel(logging.WARNING)

current: ContextVar[Exchange] = ContextVar("stripe_exchange")

_SENT_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Stripe-Version")
_KEPT_HEADERS = ("Request-Id", "Stripe-Should-Retry", "Retry-After", "Date", "Idempotent-Replayed")
POOL = 100
_KEEP_ALIVE_SECONDS = 15


class MissingKeyError(Exception):
    """A POST without the idempotency key that was meant for it; stopped before it is sent."""


class Transport(stripe.HTTPClient):
    """Sends the library's requests with aiohttp: no retries, redirects, proxies or cookies."""

    name = "aiohttp"

    def __init__(self, *, connect: float, secure: bool) -> None:
        super().__init__()
        self._connect = connect
        self._ssl = _trust() if secure else False
        self._session: aiohttp.ClientSession | None = None

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and note in the current Exchange what became of it, answer included.

        Raises stripe.APIConnectionError for every network failure or oversized answer, and
        MissingKeyError. CancelledError passes through.
        """
        exchange = current.get()
        # The library invents a key for a POST that has none.
        if method == "post" and (not exchange.key or headers["Idempotency-Key"] != exchange.key):
            raise MissingKeyError(url)
        try:
            async with self._opened().request(
                method,
                url,
                data=post_data,
                headers={name: headers[name] for name in _SENT_HEADERS if name in headers},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=exchange.deadline, connect=self._connect),
                trace_request_ctx=exchange,
            ) as response:
                exchange.status = response.status
                exchange.headers = {
                    name.lower(): response.headers[name]
                    for name in _KEPT_HEADERS
                    if name in response.headers
                }
                exchange.body = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            exchange.failure = f"{type(error).__name__}: {error}"[:500]
            raise stripe.APIConnectionError(  # type: ignore[no-untyped-call] # The library's gap.
                exchange.failure
            ) from error
        # Answers are read strictly from the exchange. The library would make objects of them that
        # nobody uses, which is half of the work of a call, and meet whatever is hostile in them.
        return b"{}", exchange.status, {}

    async def close_async(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            # Both fire when a usable connection (after its TLS handshake) is in hand and before
            # the first byte of the request: an earlier failure proves that nothing was sent.
            trace.on_connection_create_end.append(_begin)
            trace.on_connection_reuseconn.append(_begin)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=POOL, ssl=self._ssl, keepalive_timeout=_KEEP_ALIVE_SECONDS
                ),
                headers={"User-Agent": "Counterfoil"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                trace_configs=[trace],
            )
        return self._session


async def _begin(_: aiohttp.ClientSession, context: Any, __: Any) -> None:
    exchange: Exchange = context.trace_request_ctx
    exchange.began = True


def _trust() -> ssl.SSLContext:
    """Trust what the system trusts and the library's own list: small images have none."""
    context = ssl.create_default_context()
    context.load_verify_locations(stripe.ca_bundle_path)
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > BODY_LIMIT:
            raise ValueError(f"the answer is longer than {BODY_LIMIT} bytes")
    return bytes(body)
