"""Alembic's entry: every model, either database, one transaction for a whole upgrade."""

import asyncio
import importlib
import os
from pathlib import Path
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, event, text

from app.db import Base, Utc, make_engine

_ROOT = Path(__file__).resolve().parent.parent
# Any number does; it only has to be the same for everybody who migrates this database.
_LOCK = 7_236_001


def _load_models() -> None:
    for path in sorted((_ROOT / "app").glob("*/models.py")):
        importlib.import_module(f"app.{path.parent.name}.models")
    for path in sorted((_ROOT / "app").glob("*.py")):
        # A few tables belong to no feature: jobs and idempotency keys.
        if "__tablename__" in path.read_text(encoding="utf-8"):
            importlib.import_module(f"app.{path.stem}")


def _render_item(kind: str, value: Any, autogen: AutogenContext) -> str | Literal[False]:
    if kind == "type" and isinstance(value, Utc):
        autogen.imports.add("from app import db")
        return "db.Utc()"
    return False


def _migrate(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    with connection.begin():
        if sqlite:
            # The driver begins nothing by itself, and a migration is done whole or not at all.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            # Two deploys at once: the second one waits and then finds nothing to do. Only this
            # wait may be long; what a migration itself locks must be free within 2 s.
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = '10min'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=sqlite,
            transactional_ddl=True,
            render_item=_render_item,
        )
        with context.begin_transaction():
            context.run_migrations()
        if sqlite and (broken := connection.execute(text("PRAGMA foreign_key_check")).first()):
            raise RuntimeError(f"the migration leaves a row that points nowhere: {broken}")


async def _run() -> None:
    url = context.config.attributes.get("url") or os.environ["DATABASE_URL"]
    engine = make_engine(url, pool_size=1, statement_timeout=0)

    if engine.dialect.name == "sqlite":
        # Batch mode copies and drops tables; with foreign keys on, a drop deletes rows elsewhere.
        # Listeners run in order, so this one comes after the engine's own.
        @event.listens_for(engine.sync_engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            connection.cursor().execute("PRAGMA foreign_keys=OFF")

    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


_load_models()
asyncio.run(_run())
