"""Kill real processes under load on both databases: `python -m tests.kills --kills 200 --seed 1`.

F01-F09: API and workers die, are stopped and go on (zombies), or hold up their event loop, at every
named place that money passes and at random. F35, F37: Valkey is flushed and killed. F36: Valkey
and the PSP are both away. F40, F41 (one node): PostgreSQL is killed and restarted, its connections
cut. F45, F46, F47: see storage.py. F49, F50, F55: each line between two processes is cut at a byte,
held one way, slowed, sliced. F70: all lanes run at once, so any of these meet.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

from app.cli import postgres
from app.cli.drill import report
from app.cli.drill.report import Report
from app.cli.drill.run import Options, drill
from app.cli.processes import StartError
from tests.kills import storage
from tests.simulation import record

_ROUND = 20


def main() -> int:
    """Run everything; the exit code is 1 unless all of it happened and held."""
    options = _options()
    wanted = [options.database] if options.database else ["sqlite", "postgres"]
    if "postgres" in wanted and (missing := postgres.why_missing()):
        tell(f"*** NOT RUN on PostgreSQL: {missing}")
        return 1
    began = monotonic()
    reports = [_drilled(database, options, len(wanted)) for database in wanted]
    broken = 0 if options.no_storage else _storage()
    passed = sum(one.kills for one in reports if one is not None and one.holds)
    failed = options.kills - passed + broken
    tell(f"\n{passed} passed, {failed} failed in {monotonic() - began:.0f} s")
    return 1 if failed or any(one is None or _idle(one) for one in reports) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="signals, half on each database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4.0, help="orders a second")
    parser.add_argument("--outage", type=float, default=10.0, help="seconds without Valkey and PSP")
    parser.add_argument("--repeats", type=int, default=2, help="measure each recovery so often")
    parser.add_argument("--database", choices=("sqlite", "postgres"), help="on this one alone")
    parser.add_argument("--no-storage", action="store_true", help="leave out the faults of disks")
    parser.add_argument("--record", action="store_true", help="add a row for each to RECORD.md")
    return parser.parse_args()


def _drilled(database: str, options: argparse.Namespace, parts: int) -> Report | None:
    """Drill one database and print its report; what was written stays when anything is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="cf-kills-"))
    plan = Options(
        seed=options.seed,
        folder=folder,
        kills=options.kills // parts,
        round_kills=_ROUND,
        rate=options.rate,
        # Once is enough, and on the database of production.
        repeats=options.repeats if database == "postgres" else 0,
        outage=options.outage if database == "postgres" else 0.0,
        postgres=database == "postgres",
    )
    try:
        found = asyncio.run(drill(plan, tell))
    except (StartError, TimeoutError) as error:
        tell(f"FAILED on {database}: {error}\nWhat it wrote is in {folder}")
        return None
    tell("\n".join(report.lines(found)))
    if options.record:
        record.add("## Kills", *_cells(found))
    if found.holds:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        tell(f"What it wrote is in {folder}")
    return found


def _cells(found: Report) -> tuple[object, ...]:
    """Return a drill as the cells of its row."""
    recovery = "; ".join(
        f"{one.kind} {one.p99:.1f} s ({one.count}x{f', limit {one.limit:g}' if one.limit else ''})"
        for one in found.recovery
    )
    out = found.outage
    outage = f"{out.accepted} of {out.asked} in {out.seconds:.0f} s" if out is not None else "none"
    harms = len(found.violations)
    done = (found.kills, found.placed, found.accepted, harms, recovery or "none", outage)
    return (found.database, f"seed {found.seed}", *done, f"{found.seconds:.0f} s")


def _storage() -> int:
    """Run the faults of disks where this machine lets us; return how many parts failed."""
    command = storage.command()
    if command is None:
        tell(
            "*** NOT RUN: F45 to F47 need a file system of their own, which nobody may mount here."
        )
        return storage.unseen()
    return subprocess.run(command, check=False).returncode


def _idle(one: Report) -> bool:
    """A drill that did nothing must not look like one that found nothing."""
    return one.accepted < one.kills or one.webhooks == 0 or not one.placed


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
