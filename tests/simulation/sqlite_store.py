"""A history's database in a file of its own."""

import asyncio
import atexit
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli import migrate
from app.db import make_engine
from tests.simulation.home import Home
from tests.simulation.sqlite_driver import Connection, Handle
from tests.simulation.store import MEMORY, SAME_INSTALLATION, connect, own_pool


class SqliteStore:
    """Made from a migrated file."""

    url = "sqlite+aiosqlite:///simulated.db"
    idle_limit: float | None = None
    may_restart = False
    paces: tuple[float, ...] = (1.0,)  # Slower ones would wait for the one writer, no more.
    _shared: AsyncEngine | None = None
    _template: Path | None = None

    def __init__(self, folder: Path) -> None:
        """Make it in an empty folder."""
        self._path = str(folder / "history.db")
        shutil.copyfile(self.template(), self._path)
        connection = sqlite3.connect(self._path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        self._eye = sqlite3.connect(self._path, isolation_level=None)
        self._handles: list[Handle] = []  # Of the file, that nobody uses just now.

    @classmethod
    def template(cls) -> str:
        """Return the file of an empty, migrated database; made once a process."""
        if cls._template is None:
            folder = tempfile.mkdtemp(prefix="simulation-", dir=MEMORY)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, "template.db")
            migrate.upgrade(f"sqlite+aiosqlite:///{path}")
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute(SAME_INSTALLATION)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            cls._template = path
        return str(cls._template)

    @classmethod
    def use_template(cls, template: str) -> None:
        """Take a template that another process made."""
        cls._template = Path(template)

    def engine(self) -> AsyncEngine:
        if SqliteStore._shared is None:
            SqliteStore._shared = make_engine(self.url, connect=connect)
        return own_pool(SqliteStore._shared)

    async def connect(self, home: Home) -> Connection:
        await asyncio.sleep(0)
        handle = self._handles.pop() if self._handles else Handle(self._path)
        return Connection(handle, home, self._handles)

    def rows(self, query: str, *values: Any) -> list[Any]:
        return self._eye.execute(query, values).fetchall()

    def changes(self) -> int:
        (version,) = self._eye.execute("PRAGMA data_version").fetchone()
        return int(version)

    def refuses(self, statement: str) -> bool:
        self._eye.execute("BEGIN IMMEDIATE")
        try:
            self._eye.execute(statement)
        except sqlite3.DatabaseError:
            return True
        finally:
            self._eye.rollback()
        return False

    def close(self) -> None:
        for handle in self._handles:
            handle.raw.close()
        self._eye.close()
