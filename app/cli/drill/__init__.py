"""`counterfoil drill`: break a test installation on purpose, and see whether money stays right."""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import strftime

import msgspec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil drill`."""
    parser.add_argument("--seed", type=int, metavar="N", help="plan the same faults again")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="an empty folder for it (default: one that goes)"
    )
    database = parser.add_mutually_exclusive_group()
    database.add_argument(
        "--postgres", action="store_true", help="on a private PostgreSQL server, which is hit too"
    )
    database.add_argument(
        "--database-url", metavar="URL", help="an empty database to fill; it is not hit itself"
    )
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="signals (20)")
    parser.add_argument("--rate", type=float, default=4.0, metavar="N", help="orders a second (4)")
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="measure each recovery so often (3)"
    )
    parser.add_argument(
        "--outage", type=float, default=10.0, metavar="SECONDS", help="Valkey and PSP down (10)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as HTML")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def main(arguments: argparse.Namespace) -> int:
    """Run a drill and print its report; 1 when anything does not hold, 2 when it cannot run."""
    from app.cli.drill import page, report
    from app.cli.drill.run import Options, drill
    from app.cli.postgres import PostgresMissingError
    from app.cli.processes import StartError

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        folder = arguments.data
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cf-drill-")))
        options = Options(
            seed=random.randrange(1, 1_000_000) if arguments.seed is None else arguments.seed,
            folder=folder,
            kills=arguments.kills,
            rate=arguments.rate,
            repeats=arguments.repeats,
            outage=arguments.outage,
            postgres=arguments.postgres,
            database_url=arguments.database_url,
        )
        try:
            found = asyncio.run(drill(options, _say))
        except (StartError, PostgresMissingError, TimeoutError) as error:
            print(
                f"counterfoil: the drill with seed {options.seed} ended: {error}", file=sys.stderr
            )
            return 2
    if arguments.report is not None:
        arguments.report.write_text(page.html(found), encoding="utf-8")
    if arguments.json:
        print(msgspec.json.encode(found).decode())
    else:
        print("\n".join(report.lines(found)))
    return 0 if found.holds else 1


def _say(text: str) -> None:
    print(f"{strftime('%X')} {text}", file=sys.stderr, flush=True)
