"""`counterfoil create-merchant`: make a shop."""

import argparse
from typing import Any

from app.audit.operations import command
from app.cli import console
from app.merchants import operations
from app.runtime import Runtime

_NUMBERS = (
    ("fee-basis-points", "share of each payment, in hundredths of a percent"),
    ("fee-fixed", "fixed part of each payment's fee, in minor units"),
    ("settle-delay-seconds", "seconds until money can be used"),
    ("overdraft-limit", "how far a wallet may go below zero, in minor units"),
    ("step-up-limit", "refunds above this need password and code, in minor units"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil create-merchant`."""
    console.add_arguments(parser)
    parser.add_argument("--name", required=True)
    parser.add_argument("--currency", help="ISO 4217 code (default eur)")
    for name, text in _NUMBERS:
        parser.add_argument(f"--{name}", type=int, metavar="N", help=text)


def main(arguments: argparse.Namespace) -> int:
    """Make the shop and print its id."""
    names = ["currency", *(name.replace("-", "_") for name, _ in _NUMBERS)]
    given = {name: getattr(arguments, name) for name in names}
    terms = {name: value for name, value in given.items() if value is not None}

    async def work(rt: Runtime) -> dict[str, Any]:
        async with rt.sessions.begin() as session:
            shop = await operations.create_merchant(
                session,
                ids=rt.ids,
                now=rt.clock(),
                actor=command("create-merchant"),
                name=arguments.name,
                terms=terms,
            )
        return {"merchant_id": shop.id, "name": shop.name}

    return console.run(arguments, work, lambda made: made["merchant_id"])
