"""`counterfoil migrate`: bring the database's tables to the newest shape."""

import argparse
import os

from alembic import command
from alembic.config import Config

from app.__main__ import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil migrate`."""
    parser.add_argument("--to", default="head", metavar="REVISION", help="stop at this revision")


def main(arguments: argparse.Namespace) -> int:
    """Migrate the database that DATABASE_URL names."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("counterfoil: DATABASE_URL is missing.")
    upgrade(url, arguments.to)
    return 0


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to a revision; two at once wait for each other."""
    command.upgrade(alembic_config(url), revision)


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration from pyproject.toml for the database at `url`."""
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["url"] = url
    return config
