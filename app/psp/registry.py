"""The PSP connections that the settings make, each with its adapter."""

from collections.abc import Callable, Iterator
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.psp.models import PspConnection
from app.psp.port import Adapter
from app.settings import Settings

SANDBOX = "conn_sandbox"
STRIPE_TEST = "conn_stripe_test"
STRIPE_LIVE = "conn_stripe_live"


class Connections:
    """Adapters by connection id; built when first asked for, because `stripe` imports slowly."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._made: dict[str, Adapter] = {}

    def __getitem__(self, connection_id: str) -> Adapter:
        """Return the adapter of a connection. Raises KeyError for an unknown one."""
        if connection_id not in self._made:
            self._made[connection_id] = self._make(connection_id)
        return self._made[connection_id]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of the connections that the settings make."""
        settings = self._settings
        if settings.sandbox_url and settings.sandbox_secret_key:
            yield SANDBOX
        if settings.stripe_test_secret_key:
            yield STRIPE_TEST
        if settings.stripe_live_secret_key:
            yield STRIPE_LIVE

    def default(self, *, livemode: bool, psp: str | None = None) -> str | None:
        """Return the connection for a new payment; None when there is none for this mode or PSP."""
        for connection_id in self:
            live, name = connection_id == STRIPE_LIVE, self.psp_of(connection_id)
            if live == livemode and psp in {None, name}:
                return connection_id
        return None

    @staticmethod
    def psp_of(connection_id: str) -> str:
        """Return the name that merchants know the PSP by."""
        return "sandbox" if connection_id == SANDBOX else "stripe"

    def _make(self, connection_id: str) -> Adapter:
        from app.psp.stripe.adapter import StripeAdapter

        settings = self._settings
        if connection_id not in set(self):
            raise KeyError(connection_id)
        secrets = {
            SANDBOX: (settings.sandbox_secret_key, settings.sandbox_webhook_secret),
            STRIPE_TEST: (settings.stripe_test_secret_key, settings.stripe_test_webhook_secret),
            STRIPE_LIVE: (settings.stripe_live_secret_key, settings.stripe_live_webhook_secret),
        }
        secret_key, webhook_secret = secrets[connection_id]
        return StripeAdapter(
            name=self.psp_of(connection_id),
            livemode=connection_id == STRIPE_LIVE,
            secret_key=secret_key or "",
            webhook_secret=webhook_secret or "",
            base_url=settings.sandbox_url if connection_id == SANDBOX else None,
            deadlines=settings.deadlines,
            clock=self._clock,
        )

    async def close(self) -> None:
        """Close every adapter that was made."""
        for adapter in self._made.values():
            await adapter.close()


async def ensure_rows(session: AsyncSession, connections: Connections, *, now: datetime) -> None:
    """Write a row for each connection of the settings, so that attempts can point at it."""
    for connection_id in connections:
        values = {
            "id": connection_id,
            "psp": connections.psp_of(connection_id),
            "livemode": connection_id == STRIPE_LIVE,
            "created_at": now,
        }
        await db.insert_once(session, PspConnection, values)
