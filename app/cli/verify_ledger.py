"""`counterfoil verify-ledger`: say in one line what holds, or which row does not."""

import argparse
import asyncio
import os
import sys

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from app.cli import console
from app.db import Sessions, make_engine
from app.verification.queries import Report, verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil verify-ledger`."""
    console.add_data(parser)
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Check the database that DATABASE_URL names; the exit code is 1 when a rule is broken.

    Without that variable it is the one in the folder of `--data`. No other setting is
    needed, and nothing is written. 2: the database cannot be read.
    """
    folder = arguments.data
    url = os.environ.get("DATABASE_URL") or console.database_in(folder)
    if not url:
        raise SystemExit(f"counterfoil: DATABASE_URL is missing, and {folder} holds no database.")
    try:
        report = asyncio.run(_report(url))
    except (OSError, SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        print(f"counterfoil: the ledger cannot be read: {reason}", file=sys.stderr)
        return 2
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    else:
        print(report.sentence())
        for violation in report.violations[1:]:
            print(violation.sentence())
    return 0 if report.holds else 1


async def _report(url: str) -> Report:
    # A ledger of years takes longer than a page may.
    sessions = Sessions(make_engine(url, pool_size=1, statement_timeout=0))
    try:
        async with sessions.snapshot() as session:
            return await verify(session)
    finally:
        await sessions.close()
