"""Each test that asks for a database gets a fresh one, copied from a migrated template."""

import fcntl
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from app.cli import migrate
from app.cli.postgres import Cluster, PostgresMissingError
from tests.support import compiled, databases

pytest_plugins = (
    ["tests.support.fixtures"]
    if Path(__file__).with_name("support").joinpath("fixtures.py").exists()
    else []
)

_CLUSTER = pytest.StashKey[Cluster]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller choose the database."""
    parser.addoption("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.addoption(
        "--only-database", action="store_true", help="leave out tests that need no database"
    )
    parser.addoption("--histories", type=int, default=16, help="histories of tests/machine")
    parser.addoption("--mutations", type=int, help="mutated events: to read, and as requests")
    parser.addoption("--examples", type=int, help="examples made up for each operation of the API")


def pytest_configure(config: pytest.Config) -> None:
    """Start one server for the whole run, before its worker processes are made."""
    compiled.share()
    is_worker = hasattr(config, "workerinput")
    if (
        config.getoption("--database") != "postgres"
        or is_worker
        or os.environ.get(databases.SERVER)
    ):
        return
    cluster = Cluster()
    try:
        cluster.__enter__()
    except PostgresMissingError as error:
        pytest.exit(f"PostgreSQL is needed for --database postgres: {error}", returncode=3)
    config.stash[_CLUSTER] = cluster
    os.environ[databases.SERVER] = cluster.url()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is the same on either database."""
    if config.getoption("--only-database"):
        needed = [one for one in items if "database_kind" in getattr(one, "fixturenames", ())]
        same = set(items) - set(needed)
        config.hook.pytest_deselected(items=[one for one in items if one in same])
        items[:] = needed


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server that this run started."""
    if cluster := config.stash.get(_CLUSTER, None):
        del os.environ[databases.SERVER]
        cluster.__exit__(None, None, None)


@pytest.fixture(scope="session")
def database_kind(pytestconfig: pytest.Config) -> str:
    """Return `sqlite` or `postgres`."""
    return str(pytestconfig.getoption("--database"))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this run share."""
    shared = tmp_path_factory.getbasetemp()
    return shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared


@pytest.fixture(scope="session")
def sqlite_template(shared_folder: Path) -> str:
    """Return the file of an empty, migrated SQLite database."""
    path = shared_folder / "template.db"
    with _once(shared_folder / "template-sqlite") as first:
        if first:
            migrate.upgrade(f"sqlite+aiosqlite:///{path}")
            _fold_log(path)
    return str(path)


@pytest.fixture(scope="session")
def database_template(
    database_kind: str, shared_folder: Path, request: pytest.FixtureRequest
) -> str:
    """Return the file (SQLite) or the name (PostgreSQL) of an empty, migrated database."""
    if database_kind == "sqlite":
        return str(request.getfixturevalue("sqlite_template"))
    with _once(shared_folder / "template") as first:
        if first:
            migrate.upgrade(os.environ[databases.SERVER])
        return str(make_url(os.environ[databases.SERVER]).database)


@pytest.fixture
async def database_url(
    database_kind: str, database_template: str, tmp_path: Path
) -> AsyncIterator[str]:
    """Return the address of this test's own database: migrated, empty, gone afterwards."""
    async with databases.copied(database_kind, database_template, tmp_path) as url:
        yield url


@pytest.fixture
async def empty_database_url(database_kind: str, tmp_path: Path) -> AsyncIterator[str]:
    """Return the address of a database without any table, for tests of the migrations."""
    if database_kind == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
        return
    server = make_url(os.environ[databases.SERVER])
    name = f"e{uuid.uuid4().hex}"
    await databases.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield server.set(database=name).render_as_string(hide_password=False)
    await databases.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _fold_log(path: Path) -> None:
    # A copy of the file alone must be the whole database.
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@contextmanager
def _once(mark: Path) -> Iterator[bool]:
    """Tell one of several processes that it is the first; the others wait until it is done."""
    with mark.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not mark.exists()
        mark.touch()
