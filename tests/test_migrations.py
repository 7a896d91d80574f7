"""The migrations make exactly the tables that the models describe, on either database."""

import asyncio
import sys

from alembic import command
from alembic.script import ScriptDirectory

from app.__main__ import ROOT
from app.cli import migrate


async def test_the_migrated_tables_are_those_of_the_models(database_url: str) -> None:
    await asyncio.to_thread(command.check, migrate.alembic_config(database_url))


async def test_an_upgrade_from_nothing_can_be_run_twice(empty_database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, empty_database_url)
    await asyncio.to_thread(migrate.upgrade, empty_database_url)


async def test_two_upgrades_at_once_wait_for_each_other(empty_database_url: str) -> None:
    environment = {"DATABASE_URL": empty_database_url, "PYTHONPATH": str(ROOT)}
    arguments = ["-m", "app.cli", "migrate"]
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment)
        for _ in range(2)
    ]
    assert [await process.wait() for process in processes] == [0, 0]


def test_there_is_one_line_of_revisions() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config("sqlite+aiosqlite://"))
    assert len(script.get_heads()) == 1
