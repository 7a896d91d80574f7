"""The runtime: everything that comes from outside of the application, built once by each shell."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import Sessions, make_engine
from app.egress import Egress, OperatorEgress
from app.entropy import Entropy
from app.failpoints import Failpoints
from app.fuse import Fuse
from app.idempotency import KeysInProgress
from app.ids import Ids
from app.lanes import Lanes
from app.psp.gates import Gates
from app.psp.port import Adapter
from app.psp.registry import Connections
from app.queue import ArqDoorbell, Doorbell
from app.secrets import Sealer
from app.settings import Settings

_WEB_PATIENCE = 2.0  # Seconds for a database connection; then the client is told to come back.


class Runtime(msgspec.Struct, kw_only=True):
    """What operations and processing functions need; a test builds it with stand-ins."""

    settings: Settings
    sessions: Sessions
    queue: Doorbell
    clock: Callable[[], datetime]
    ids: Ids
    sealer: Sealer
    connections: Connections
    egress: Egress
    # To addresses that the settings name, where `egress` is for those that merchants choose.
    http: Egress = msgspec.field(default_factory=OperatorEgress)
    failpoints: Failpoints = msgspec.field(default_factory=Failpoints)
    # What this process is at just now: requests at merchants' endpoints, and on SQLite keys.
    lanes: Lanes = msgspec.field(default_factory=Lanes)
    keys_in_progress: KeysInProgress = msgspec.field(default_factory=KeysInProgress)
    risk_fuse: Fuse = msgspec.field(default_factory=Fuse)  # Of the provider at RISK_URL.
    timer: Callable[[], float] = perf_counter  # Seconds; only differences mean anything.
    installation: str | None = None  # This database's own id, read once when first needed.
    made_gates: Gates | None = None  # A stand-in, or made when first needed.

    def psp(self, connection_id: str) -> Adapter:
        """Return the adapter of a PSP connection. Raises KeyError for an unknown one."""
        return self.connections[connection_id]

    @property
    def gates(self) -> Gates:
        """Return this process's gates to the PSPs, which every call passes."""
        if self.made_gates is None:
            self.made_gates = Gates(self)
        return self.made_gates

    async def close(self) -> None:
        """Close connections to the database, Redis and PSPs."""
        await self.connections.close()
        await self.egress.close()
        await self.http.close()
        await self.queue.close()
        await self.sessions.close()


def utc_now() -> datetime:
    """Return the present moment in UTC; the one place where the application's clock is read."""
    return datetime.now(UTC)


def build(
    settings: Settings,
    *,
    kick: Callable[[str], None] | None = None,
    engine: AsyncEngine | None = None,
) -> Runtime:
    """Build the runtime of a process. `kick` wakes this process's own runner (workers only)."""
    entropy = Entropy(secrets.token_bytes)
    ids = Ids(utc_now, entropy)
    queue = ArqDoorbell(settings.redis_url, kick)
    sealer = Sealer(settings.sealing_keys, settings.sealing_key_id, settings.pepper, entropy)
    made = engine or make_engine(
        settings.database_url, pool_size=settings.pool_size, pool_timeout=_WEB_PATIENCE
    )
    return Runtime(
        settings=settings,
        # A worker, which brings an engine of its own, waits: nobody waits for it.
        sessions=Sessions(made, queue.ring, patience=None if engine else _WEB_PATIENCE),
        queue=queue,
        clock=utc_now,
        ids=ids,
        sealer=sealer,
        connections=Connections(settings, utc_now),
        egress=Egress(allow_loopback=settings.webhook_allow_loopback),
        failpoints=Failpoints(settings.failpoint, Path(settings.data_dir)),
    )
