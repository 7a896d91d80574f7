"""A runtime of stand-ins: a clock that a test moves, no Redis, a PSP that answers from a script."""

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.db import Sessions, make_engine
from app.egress import Egress
from app.ids import Ids, earliest
from app.psp.registry import Connections
from app.queue import SilentDoorbell
from app.runtime import Runtime
from app.secrets import Sealer
from app.settings import Settings

KEY = bytes(range(32))


class Clock:
    """The application's time; starts now, because leases use the database's own clock."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def forward(self, **delta: float) -> None:
        """Move on by a timedelta's arguments: `clock.forward(minutes=5)`."""
        self.offset += timedelta(**delta)


class OrderedIds(Ids):
    """Ids that sort as they were made, also within a millisecond: tests read rows in that order."""

    _made = 0

    def __call__(self, prefix: str, *, after: str | None = None) -> str:
        """Return an id whose random part begins with a number that only grows."""
        self._made += 1
        text = super().__call__(prefix, after=after)
        head = len(earliest(prefix, self._clock()))
        number = f"{self._made:08}"  # Digits are of the ids' alphabet.
        return text[:head] + number + text[head + len(number) :]


def test_settings(database_url: str, data_dir: Path, **changes: object) -> Settings:
    """Return settings as a development machine has them."""
    values: dict[str, object] = {
        "database_url": database_url,
        "redis_url": "redis://127.0.0.1:1/0",
        "data_dir": str(data_dir),
        "public_url": "https://localhost",
        "sealing_keys": {"k1": KEY},
        "sealing_key_id": "k1",
        "pepper": KEY,
        "webhook_allow_loopback": True,
        "argon2_memory_kib": 64,  # Quick; the real floor has a test of its own.
        "sandbox_url": "http://127.0.0.1:1",
        "sandbox_secret_key": "sk_test_sandbox",
        "sandbox_webhook_secret": "whsec_test",
    } | changes
    return Settings(**values)  # type: ignore[arg-type] # A test names the fields it changes.


test_settings.__test__ = False  # type: ignore[attr-defined] # pytest: this is no test.


async def resolve(host: str, port: int) -> list[str]:
    """Resolve names as tests need them, without asking anybody: `*.example` is public."""
    if host == "localhost":
        return ["127.0.0.1"]
    if host.endswith(".example"):
        return ["93.184.215.14"]
    raise OSError(f"{host} is not known")


def make_runtime(
    settings: Settings, clock: Clock, connections: Connections | None = None
) -> Runtime:
    """Build a runtime on a real database with everything else replaced."""
    bell = SilentDoorbell()
    # A slow test machine is no reason to turn requests away; the tests of that say so themselves.
    engine = make_engine(settings.database_url, pool_size=settings.pool_size, pool_timeout=20)
    return Runtime(
        settings=settings,
        sessions=Sessions(engine, bell.ring),
        queue=bell,
        clock=clock,
        ids=OrderedIds(clock),
        sealer=Sealer(
            settings.sealing_keys, settings.sealing_key_id, settings.pepper, secrets.token_bytes
        ),
        connections=connections or Connections(settings, clock),
        egress=Egress(allow_loopback=settings.webhook_allow_loopback, resolve=resolve),
    )
