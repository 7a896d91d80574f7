"""Kill real processes under load on both databases: `python -m tests.kills --kills 200 --seed 1`.

F01-F09: API and workers die, are stopped and go on (zombies), or hold up their event loop, at every
named place that money passes and at random. F35, F37: Valkey is flushed and killed. F36: Valkey
and the PSP are both away. F40, F41 (one node): PostgreSQL is killed and restarted, its connections
cut. F45, F46, F47: see storage.py. F49, F50, F55: each line between two processes is cut at a byte,
held one way, slowed, sliced. F70: all lanes run at once, so any of these meet.
"""

import argparse
import asyncio
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from app.cli import postgres
from app.cli.drill import report
from app.cli.drill.report import Report, Times
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
    if options.at_once and len(wanted) > 1:
        held = asyncio.run(_at_once(wanted, options.kills // len(wanted)))
    else:
        held = [_drilled(database, options, len(wanted)) for database in wanted]
    if not options.no_storage:
        held.append(not _storage())
    tell(f"\n{sum(held)} parts passed, {held.count(False)} failed in {monotonic() - began:.0f} s")
    return 0 if all(held) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="signals, half on each database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4.0, help="orders a second")
    parser.add_argument("--outage", type=float, default=10.0, help="seconds without Valkey and PSP")
    parser.add_argument("--repeats", type=int, default=2, help="measure each recovery so often")
    parser.add_argument("--database", choices=("sqlite", "postgres"), help="on this one alone")
    parser.add_argument("--at-once", action="store_true", help="both databases at the same time")
    parser.add_argument(
        "--until", type=float, default=math.inf, help="begin no round later, in seconds since 1970"
    )
    parser.add_argument("--no-storage", action="store_true", help="leave out the faults of disks")
    parser.add_argument("--record", action="store_true", help="add a row for each to RECORD.md")
    return parser.parse_args()


async def _at_once(databases: Sequence[str], kills: int) -> list[bool]:
    """Drill each database in a process of its own; tell whether each drill held.

    A drill waits much: for leases, for what starts anew. Two take little longer than one.
    """

    async def one(database: str) -> bool:
        # What is given twice counts as it is given last.
        own = ["--database", database, "--kills", str(kills), "--no-storage"]
        command = [sys.executable, "-m", "tests.kills", *sys.argv[1:], *own]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async for line in process.stdout:
            tell(f"{database:<9} {line.decode().rstrip()}")
        return await process.wait() == 0

    return await asyncio.gather(*map(one, databases))


def _drilled(database: str, options: argparse.Namespace, parts: int) -> bool:
    """Drill one database, print its report, and tell whether all of it happened and held.

    What was written stays when anything is wrong.
    """
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
        until=options.until,
    )
    try:
        found = asyncio.run(drill(plan, tell))
    except (StartError, TimeoutError) as error:
        tell(f"FAILED on {database}: {error}\nWhat it wrote is in {folder}")
        return False
    tell("\n".join(report.lines(found)))
    if options.record:
        record.add("## Kills", *cells(found, plan))
    if found.holds:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        tell(f"What it wrote is in {folder}")
    return found.holds and not _idle(found, plan)


def cells(found: Report, plan: Options) -> tuple[object, ...]:
    """Return a drill as the cells of its row."""
    out = found.outage
    outage = "none"
    if out is not None:
        outage = f"{out.accepted} of {out.asked} in {out.seconds:.0f} s, {len(out.untrue)} untrue"
    recovery = "; ".join(map(_measured, found.recovery)) or "none"
    harms = len(found.violations)
    done = (found.kills, found.placed, found.accepted, harms, recovery, outage)
    return (found.database, f"`{_command(plan)}`", *done, f"{found.seconds:.0f} s")


def _measured(one: Times) -> str:
    limit = f", limit {one.limit:g}: {'holds' if one.holds else 'BROKEN'}" if one.limit else ""
    return f"{one.kind} {one.p99:.1f} s, at most {one.longest:.1f} s ({one.count}x{limit})"


def _command(plan: Options) -> str:
    """Return what plays this drill again alone, however it was begun."""
    database = "postgres" if plan.postgres else "sqlite"
    return f"python -m tests.kills --database {database} {plan.sizes} --no-storage"


def _storage() -> int:
    """Run the faults of disks where this machine lets us; return how many parts failed."""
    command = storage.command()
    if command is None:
        tell(
            "*** NOT RUN: F45 to F47 need a file system of their own, which nobody may mount here."
        )
        return storage.unseen()
    return subprocess.run(command, check=False).returncode


def _idle(one: Report, plan: Options) -> bool:
    """A drill that did nothing must not look like one that found nothing."""
    asked = min(plan.kills, one.rounds * _ROUND)
    if not asked:
        return plan.kills > 0
    return one.kills < asked or one.accepted < one.kills or one.webhooks == 0 or not one.placed


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
