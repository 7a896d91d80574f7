"""Databases of their own for tests: copied from a template, gone afterwards."""

import os
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url

SERVER = "TEST_POSTGRES_URL"


@asynccontextmanager
async def copied(kind: str, template: str, folder: Path) -> AsyncIterator[str]:
    """Return the address of a copy of a template: a file (SQLite) or a name (PostgreSQL)."""
    name = f"t{uuid.uuid4().hex}"
    if kind == "sqlite":
        path = folder / f"{name}.db"
        shutil.copyfile(template, path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    await execute(f'CREATE DATABASE {name} TEMPLATE "{template}" STRATEGY file_copy')
    server = make_url(os.environ[SERVER])
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        await execute(f"DROP DATABASE {name} WITH (FORCE)")


async def execute(statement: str) -> None:
    """Run a statement about databases on the server of this test run."""
    # The template must have no other connection, so commands go through template1.
    server = make_url(os.environ[SERVER]).set(drivername="postgresql", database="template1")
    connection = await asyncpg.connect(server.render_as_string(hide_password=False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
