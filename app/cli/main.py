"""The `counterfoil` command: one file of app/cli a subcommand, imported when asked for."""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "up": "start everything on this machine and say where to click",
    "test": "run every check of the project",
    "migrate": "bring the database to the newest shape",
    "prepare": "migrate, and make the demo shop on an empty database (`up` runs it)",
    "create-merchant": "make a shop",
    "change-merchant": "change a shop's terms, or switch it off or on again",
    "create-user": "make an account and print the link that its person begins with",
    "change-user": "close an account, which ends its sessions at once, or open it again",
    "create-key": "make an API key of a shop",
    "verify-ledger": "say in one line whether the ledger holds, or which row does not",
    "bench": "measure this machine: accepting payments, or their whole way",
    "drill": "break a test installation on purpose, and check that money stays right",
    "lock": "pin the dependencies again, from pyproject.toml",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="counterfoil", description="Counterfoil")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        if words[:1] == [name]:
            module = importlib.import_module(f"app.cli.{name.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.main)
    arguments = parser.parse_args(words)
    code: int = arguments.run(arguments)
    return code
