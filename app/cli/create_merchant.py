"""`counterfoil create-merchant`: make a shop."""

import argparse
from typing import Any

from app.audit.operations import command
from app.cli import console, terms
from app.merchants import operations
from app.runtime import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil create-merchant`."""
    console.add_arguments(parser)
    parser.add_argument("--name", required=True)
    parser.add_argument("--currency", help="ISO 4217 code (default eur)")
    terms.add_arguments(parser)
    parser.add_argument(
        "--step-up-limit",
        type=int,
        metavar="N",
        help="refunds above this need password and code, in minor units",
    )


def main(arguments: argparse.Namespace) -> int:
    """Make the shop and print its id."""
    settings = {"currency": arguments.currency, "step_up_limit": arguments.step_up_limit}
    given = {name: value for name, value in settings.items() if value is not None}
    given |= terms.given(arguments)

    async def work(rt: Runtime) -> dict[str, Any]:
        async with rt.sessions.begin() as session:
            shop = await operations.create_merchant(
                session,
                ids=rt.ids,
                now=rt.clock(),
                actor=command("create-merchant"),
                name=arguments.name,
                terms=given,
            )
        return {"merchant_id": shop.id, "name": shop.name}

    return console.run(arguments, work, lambda made: made["merchant_id"])
