"""The platform's terms of a shop as options, which making a shop and changing one share."""

import argparse
from typing import Any

_NUMBERS = (
    ("fee-basis-points", "share of each payment, in hundredths of a percent"),
    ("fee-fixed", "fixed part of each payment's fee, in minor units"),
    ("settle-delay-seconds", "seconds until money can be used"),
    ("overdraft-limit", "how far a wallet may go below zero, in minor units"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one option a term; what is not given stays as it is."""
    for name, text in _NUMBERS:
        parser.add_argument(f"--{name}", type=int, metavar="N", help=text)
    parser.add_argument(
        "--fee-return",
        choices=("yes", "no"),
        help="whether a refund gives its part of the fee back",
    )


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the terms that were named, as the operations take them."""
    names = [name.replace("-", "_") for name, _ in _NUMBERS]
    terms = {name: getattr(arguments, name) for name in names}
    if arguments.fee_return is not None:
        terms["fee_return"] = arguments.fee_return == "yes"
    return {name: value for name, value in terms.items() if value is not None}
