"""`counterfoil migrate`: bring the database's tables to the newest shape."""

import argparse
import os
import sys

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from app.__main__ import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil migrate`."""
    parser.add_argument("--to", default="head", metavar="REVISION", help="stop at this revision")


def main(arguments: argparse.Namespace) -> int:
    """Migrate the database that DATABASE_URL names."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("counterfoil: DATABASE_URL is missing.")
    try:
        upgrade(url, arguments.to)
    except (SQLAlchemyError, OSError, CommandError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        print(f"counterfoil: the database cannot be migrated: {reason}", file=sys.stderr)
        return 1
    return 0


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to a revision; two at once wait for each other."""
    command.upgrade(alembic_config(url), revision)


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration from pyproject.toml for the database at `url`."""
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["url"] = url
    return config
