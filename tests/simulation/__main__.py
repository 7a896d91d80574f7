"""Play histories: `python -m tests.simulation --seeds 0:1000 --jobs 2`, or one with its story."""

import argparse
import os
import sys
import time

from tests.simulation import history, many, record
from tests.simulation.history import Ended


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _tell(ended: Ended, wanted: argparse.Namespace) -> None:
    _say(f"\nseed {ended.seed}: {len(ended.violations)} violations")
    for violation in ended.violations:
        _say(f"  {violation}")
    again = f".venv/bin/python -m tests.simulation --seed {ended.seed} --story"
    if wanted.payments != history.PAYMENTS:
        again += f" --payments {wanted.payments}"
    if wanted.database != "sqlite":
        again += f" --database {wanted.database}"
    _say(f"  replay: {again}")


def tell_story(story: list[tuple[float, str, str]]) -> None:
    """Write a line for each thing that happened."""
    for at, who, what in story:
        day, rest = divmod(at, 86_400)
        hours, rest = divmod(rest, 3600)
        minutes, seconds = divmod(rest, 60)
        _say(f"{day:2.0f}d {hours:02.0f}:{minutes:02.0f}:{seconds:06.3f}  {who:<10} {what}")


def main(arguments: list[str]) -> int:
    """Play what is asked for; 1 when an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:100", metavar="A:B", help="from A up to, not with, B")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--story", action="store_true", help="tell everything that happened")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--payments", type=int, default=history.PAYMENTS)
    parser.add_argument(
        "--until",
        type=float,
        metavar="SECONDS",
        help="since 1970: take no further one after this moment, but the fewest in any case",
    )
    parser.add_argument("--fewest", type=int, default=100, help="what is played in any case")
    parser.add_argument(
        "--database", choices=sorted(many.STORES), default="sqlite", help="what keeps the rows"
    )
    parser.add_argument("--record", action="store_true", help="add a row to RECORD.md")
    wanted = parser.parse_args(arguments)
    many.quiet()
    first, _, last = wanted.seeds.partition(":")
    seeds = (
        range(int(first), int(last)) if wanted.seed is None else range(wanted.seed, wanted.seed + 1)
    )
    began, failed, done = time.monotonic(), 0, 0
    payments = faults = violations = 0
    jobs = 1 if len(seeds) == 1 else wanted.jobs
    for ended in many.histories(seeds, jobs, wanted.payments, wanted.database):
        done += 1
        payments += ended.payments
        faults += ended.faults
        violations += len(ended.violations)
        if wanted.story:
            tell_story(ended.story)
        if ended.violations:
            failed += 1
            _tell(ended, wanted)
        if done % 100 == 0:
            _say(f"  {done} of {len(seeds)} histories, {failed} failed")
        late = wanted.until is not None and time.time() > wanted.until
        if late and wanted.fewest <= done < len(seeds):
            _say(f"  no more than {done} of {len(seeds)}: their time is over")
            break
    seconds = time.monotonic() - began
    _say(f"{payments} payments, {faults} faults, {violations} violations in {seconds:.0f} s")
    if wanted.record:
        command = f"`python -m tests.simulation {' '.join(arguments)}`"
        counts = (done, payments, faults, violations)
        record.add("# Histories that were played", command, *counts, f"{seconds:.0f} s")
    _say(f"{done - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(many.program("tests.simulation", main))
