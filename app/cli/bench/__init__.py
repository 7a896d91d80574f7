"""`counterfoil bench`: what this machine can do, next to what it could do at best."""

import argparse
import importlib
import signal
import sys

_BENCHMARKS = {
    "accept": "how many payments a web process accepts, next to the same inserts alone",
    "pipeline": "the whole way of a payment: API, PSP, PSP's event, ledger, webhook to the shop",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmarks and their options."""
    benchmarks = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for name, text in _BENCHMARKS.items():
        one = benchmarks.add_parser(name, help=text, description=text)
        one.add_argument("--json", action="store_true", help="print one line of JSON")
        one.add_argument(
            "--database-url",
            metavar="URL",
            help="an empty PostgreSQL database to fill (default: a private, durable server)",
        )
        importlib.import_module(f"app.cli.bench.{name}").add_arguments(one)


def main(arguments: argparse.Namespace) -> int:
    """Run a benchmark and print what it measured; 1 when it could not, or when money is wrong."""
    from app.cli.bench.house import BenchError
    from app.cli.postgres import PostgresMissingError
    from app.cli.processes import StartError

    # What was started ends with the `with` blocks that hold it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    benchmark = importlib.import_module(f"app.cli.bench.{arguments.benchmark}")
    try:
        code: int = benchmark.main(arguments)
    except (BenchError, StartError, PostgresMissingError) as error:
        print(f"counterfoil: {error}", file=sys.stderr)
        return 1
    return code
