"""What commands that change data share: settings, a runtime, one way to fail and to print."""

import asyncio
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from app import runtime
from app import settings as settings_module
from app.cli import local_keys
from app.db import Sessions
from app.errors import Problem
from app.queue import SilentDoorbell
from app.runtime import Runtime
from app.settings import Settings, SettingsError, is_loopback

_DATABASE = "counterfoil.db"


def add_data(parser: ArgumentParser) -> None:
    """Declare the option that names the folder of `up`."""
    parser.add_argument(
        "--data", type=Path, default=Path("var"), metavar="DIR", help="the folder of `up`"
    )


def database_in(folder: Path) -> str:
    """Return the address of the database that `up` made in a folder; empty when there is none."""
    database = folder.resolve() / _DATABASE
    return f"sqlite+aiosqlite:///{database}" if database.exists() else ""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options that all of these commands have."""
    add_data(parser)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def settings(environ: Mapping[str, str], folder: Path) -> Settings:
    """Return the settings of the environment, completed from the folder that `up` made.

    Raises SettingsError; no key is made here, since it would not be the one that `up` uses.
    """
    environment = dict(environ)
    folder = folder.resolve()
    keys, database = folder / "keys", database_in(folder)
    if is_loopback(environment.get("BIND_HOST") or "127.0.0.1") and keys.is_dir():
        environment |= local_keys.fill_in(environment, keys)
        port = environment.get("PORT") or "8000"
        environment["PUBLIC_URL"] = environment.get("PUBLIC_URL") or f"http://localhost:{port}"
    if not environment.get("DATABASE_URL") and database:
        environment["DATABASE_URL"] = database
    environment["DATA_DIR"] = environment.get("DATA_DIR") or str(folder)
    # Workers find what a command leaves to do within a second; no ring is needed.
    environment["REDIS_URL"] = environment.get("REDIS_URL") or "redis://127.0.0.1"
    return settings_module.from_environment(environment)


def run(
    arguments: Namespace,
    work: Callable[[Runtime], Awaitable[dict[str, Any]]],
    tell: Callable[[dict[str, Any]], str],
) -> int:
    """Do a command's work and print its result; return the exit code.

    0: done, 1: refused or the database cannot be used, 2: wrong settings.
    """
    try:
        configuration = settings(os.environ, arguments.data)
        result = asyncio.run(_with_runtime(configuration, work))
    except SettingsError as error:
        lines = "".join(f"\n  {problem}" for problem in error.problems)
        print(f"counterfoil: these settings are wrong:{lines}", file=sys.stderr)
        return 2
    except Problem as problem:
        print(f"counterfoil: {problem.detail}", file=sys.stderr)
        return 1
    except (DBAPIError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        print(f"counterfoil: the database cannot be used: {reason}", file=sys.stderr)
        return 1
    print(json.dumps(result) if arguments.json else tell(result))
    return 0


async def _with_runtime(
    configuration: Settings, work: Callable[[Runtime], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    rt = runtime.build(configuration)
    rt.queue = SilentDoorbell()
    rt.sessions = Sessions(rt.sessions.engine, rt.queue.ring)
    try:
        return await work(rt)
    finally:
        await rt.close()
