"""`counterfoil create-key`: make an API key of a shop; its secret is printed this once."""

import argparse
from datetime import timedelta
from typing import Any

from app.audit.operations import command
from app.cli import console
from app.merchants import keys, operations
from app.runtime import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil create-key`."""
    console.add_arguments(parser)
    parser.add_argument("--merchant", required=True, metavar="ID")
    parser.add_argument("--name", default="Command line")
    parser.add_argument("--live", action="store_true", help="for real money (default: test mode)")
    parser.add_argument(
        "--scope", action="append", metavar="SCOPE", help=f"of: {', '.join(keys.SCOPES)}"
    )
    parser.add_argument("--days", type=int, metavar="N", help="ends after so many days")


def main(arguments: argparse.Namespace) -> int:
    """Make the key and print its secret."""

    async def work(rt: Runtime) -> dict[str, Any]:
        now = rt.clock()
        days = arguments.days
        async with rt.sessions.begin() as session:
            key, secret = await operations.create_key(
                session,
                ids=rt.ids,
                now=now,
                actor=command("create-key"),
                merchant_id=arguments.merchant,
                livemode=arguments.live,
                name=arguments.name,
                scopes=arguments.scope or keys.SCOPES,
                expires_at=None if days is None else now + timedelta(days=days),
            )
        return {
            "api_key": secret,
            "key_id": key.id,
            "merchant_id": key.merchant_id,
            "livemode": key.livemode,
            "scopes": key.scopes,
        }

    return console.run(arguments, work, lambda made: made["api_key"])
