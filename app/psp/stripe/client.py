"""The official library behind one door: each call is one exchange with a deadline and a key."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from app.psp.stripe.exchange import Exchange
from app.settings import Deadlines

# Services of the library (client.v1) and the options of one call.
Send = Callable[[Any, dict[str, Any]], Awaitable[Any]]


class Client:
    """Calls Stripe; imports the library with the first call, because that takes its time."""

    def __init__(
        self,
        *,
        secret_key: str,
        base_url: str | None,
        deadlines: Deadlines,
        clock: Callable[[], datetime],
    ) -> None:
        self._clock = clock
        self._secret_key = secret_key
        self._base_url = base_url
        self._connect = deadlines.connect
        self._lookup = deadlines.lookup
        self._opening = asyncio.Lock()
        self._services: Any = None
        self._transport: Any = None

    async def post(self, send: Send, *, key: str, deadline: float) -> Exchange:
        """Make a change under an idempotency key. Raises ValueError without a key."""
        if not key:
            raise ValueError("every POST needs an idempotency key")
        return await self._call(send, Exchange(deadline=deadline, key=key, asked_at=self._clock()))

    async def get(self, send: Send) -> Exchange:
        """Read something within the deadline of look-ups."""
        return await self._call(send, Exchange(deadline=self._lookup, asked_at=self._clock()))

    async def close(self) -> None:
        """Close connections."""
        if self._transport is not None:
            await self._transport.close_async()

    async def _call(self, send: Send, exchange: Exchange) -> Exchange:
        if self._services is None:
            async with self._opening:
                # About a second of work, and the event loop has others to serve.
                await asyncio.to_thread(self._open)
        from app.psp.stripe.transport import current

        options = {"idempotency_key": exchange.key} if exchange.key else {}
        token = current.set(exchange)
        try:
            await send(self._services, options)
        except Exception as error:
            # What happened is decided by what the wire saw: the library raises for network
            # failures and for every answer that is no success. A failure before any connection
            # was tried is a bug of ours, and nothing was sent.
            if not exchange.began and exchange.failure is None:
                raise
            exchange.failure = exchange.failure or f"{type(error).__name__}"
        finally:
            current.reset(token)
        return exchange

    def _open(self) -> None:
        if self._services is not None:
            return
        import stripe

        from app.psp.stripe.transport import Transport

        base = self._base_url
        self._transport = Transport(
            connect=self._connect, secure=base is None or base.startswith("https://")
        )
        self._services = stripe.StripeClient(
            self._secret_key,
            http_client=self._transport,
            base_addresses={"api": base} if base else {},
            max_network_retries=0,
        ).v1
