"""What was measured on: numbers mean nothing without it."""

import os
import platform
from typing import Any

import msgspec
from sqlalchemy import text

from app.runtime import Runtime

_ASKED = ("server_version", "fsync", "synchronous_commit", "shared_buffers")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how; the load average tells how much else was going on."""

    cores: int
    load_average: float
    python: str
    postgres: dict[str, str]

    def sentence(self) -> str:
        """Say it in one line."""
        database = ", ".join(f"{name} {value}" for name, value in self.postgres.items())
        return (
            f"{self.cores} cores, load {self.load_average:.1f} before; Python {self.python}; "
            f"PostgreSQL: {database}"
        )


async def look(rt: Runtime) -> Machine:
    """Describe this machine and the database."""
    found: dict[str, str] = {}
    async with rt.sessions.read() as session:
        for name in _ASKED:
            value: Any = await session.scalar(text(f"SHOW {name}"))
            found[name] = str(value)
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        load_average=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        postgres=found,
    )
