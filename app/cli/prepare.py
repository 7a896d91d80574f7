"""`counterfoil prepare`: what `up` does before anything may start: tables, and the demo shop."""

import argparse
import asyncio
import os
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import settings as settings_module
from app.cli import demo_seed, migrate
from app.db import make_engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil prepare`."""
    parser.add_argument(
        "--demo", type=Path, metavar="DIR", help="make a demo shop, if all is empty"
    )


def main(arguments: argparse.Namespace) -> int:
    """Migrate, then make the demo shop if asked for.

    What keeps the rest from starting is printed as one sentence; the exit code is 0 all the same.
    """
    settings = settings_module.from_environment(os.environ)
    if problem := asyncio.run(_unreachable(settings.database_url)):
        print(problem)
        return 0
    migrate.upgrade(settings.database_url)
    if problem := asyncio.run(demo_seed.prepare(settings, arguments.demo)):
        print(problem)
    return 0


async def _unreachable(url: str) -> str | None:
    engine = make_engine(url, pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (OSError, SQLAlchemyError) as error:
        reason = getattr(error, "orig", None) or error
        return f"the database of DATABASE_URL cannot be used: {str(reason).splitlines()[0]}"
    finally:
        await engine.dispose()
    return None
