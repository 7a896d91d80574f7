"""F11: a migration that is killed half-way leaves nothing behind, and runs from the start again."""

import asyncio
import signal
import sys
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.__main__ import ROOT
from app.cli import migrate
from app.db import make_engine


async def begun(url: str) -> bool:
    """Tell whether a migration is inside of its transaction."""
    if url.startswith("sqlite"):
        log = Path(f"{url.partition('///')[2]}-wal")
        return log.exists()
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    try:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        return bool(await connection.fetchval(held))
    finally:
        await connection.close()


async def tables(url: str) -> set[str]:
    """Return the tables that anybody else can see."""
    master = "SELECT name FROM sqlite_master WHERE type = 'table'"
    if not url.startswith("sqlite"):
        master = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    engine = make_engine(url, pool_size=1)
    try:
        async with engine.connect() as connection:
            return set((await connection.execute(text(master))).scalars())
    finally:
        await engine.dispose()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_migration_leaves_no_half_of_a_schema(
    empty_database_url: str, number: signal.Signals
) -> None:
    environment = {"DATABASE_URL": empty_database_url, "PYTHONPATH": str(ROOT)}
    half_way = 0
    for pause in (0.0, 0.02, 0.05):
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "app.cli", "migrate"],
            env=environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        while True:
            if process.returncode is not None or await begun(empty_database_url):
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(pause)
        if process.returncode is None:
            process.send_signal(number)
        if await process.wait() == -number:
            half_way += 1
            seen = await tables(empty_database_url)
            assert seen == set() or "payments" in seen  # None of them, or all.
    assert half_way > 0
    await asyncio.to_thread(migrate.upgrade, empty_database_url)
    assert {"payments", "entries", "jobs"} <= await tables(empty_database_url)
