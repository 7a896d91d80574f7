"""`counterfoil test`: lint, types, contracts, the suite on both databases, browser tests."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from app.__main__ import ROOT, VENV
from app.cli import browser, postgres

_SOURCES = ("app", "web", "workers", "migrations", "tests", "e2e")
# Of each run; more of both by hand, see the README. What plays whole lives has a part of its own:
# it has a database of its own, and playing it twice would tell nothing.
_HISTORIES = 1000
# On PostgreSQL so many histories are played, and each 40th await is cut.
_ON_POSTGRES, _EVERY = 20, 40
# A whole run takes about 45 minutes at most: a slow machine plays fewer histories and kills less,
# and says so.
_WHOLE = 43 * 60.0  # What has begun by then is ended.
# What journeys and kills take after the histories, as a share of what went before this part.
_AFTER = 0.65
_NO_LIVES = "--ignore=tests/simulation"
_LIVES_ON_POSTGRES = "tests/simulation/test_on_postgres.py"
_KILLS = 200
# Memory that looks like a folder. A test writes its small database and throws it away; on a disk it
# waits half of its time for writes to be safe, which no test can see.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a run makes a folder of its own in it
_ROOM = 4 << 30
_LOST = 5  # pytest: no test was collected.
_BEGAN = time.time()


class Part(msgspec.Struct):
    """A part of the run: commands that all must succeed, and why it cannot run here, if so."""

    name: str
    commands: Sequence[Sequence[str]]
    missing: str | None = None
    environment: dict[str, str] = msgspec.field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil test`."""
    parser.add_argument(
        "--only", metavar="PARTS", help=f"run these, with commas between: {','.join(_PARTS)}"
    )
    parser.add_argument(
        "--planted", action="store_true", help="show that the checker sees each planted bug"
    )
    parser.add_argument("-k", metavar="EXPRESSION", help="run the tests that match, as pytest does")


def main(arguments: argparse.Namespace) -> int:
    """Run every part, also after a failure; 0 when all succeeded."""
    if arguments.planted:
        _, result, _ = run_part(_planted(), selected=False)
        return 1 if result == "FAILED" else 0
    wanted = arguments.only.split(",") if arguments.only else list(_PARTS)
    if unknown := [name for name in wanted if name not in _PARTS]:
        print(f"counterfoil: there is no part {', '.join(unknown)}.", file=sys.stderr)
        return 2
    results = [run_part(_PARTS[name](arguments.k), selected=bool(arguments.k)) for name in wanted]
    print("\n  part        result      seconds")
    for name, result, seconds in results:
        print(f"  {name:<11} {result:<10} {seconds:>8.1f}")
    total = sum(seconds for _, _, seconds in results)
    print(f"  {'':<11} {'':<10} {total:>8.1f}\n", flush=True)
    return 1 if any(result == "FAILED" for _, result, _ in results) else 0


def run_part(part: Part, *, selected: bool) -> tuple[str, str, float]:
    """Run a part; return its name, its result and the seconds it took."""
    started = time.monotonic()
    print(f"\n=== {part.name}", flush=True)
    if part.missing:
        # On a user's machine this must not look like success, and must not stop him either.
        fatal = os.environ.get("CI", "").lower() in {"1", "true"}
        print(f"*** NOT RUN: {part.missing}", flush=True)
        return part.name, "FAILED" if fatal else "NOT RUN", 0.0
    environment = {**os.environ, **part.environment}
    codes = []
    for command in part.commands:
        print(f"$ {' '.join(command)}", flush=True)
        full = [str(VENV / "bin" / command[0]), *command[1:]]
        codes.append(subprocess.run(full, cwd=ROOT, env=environment, check=False).returncode)
    good = {0, _LOST} if selected else {0}
    passed = all(code in good for code in codes)
    return part.name, "passed" if passed else "FAILED", time.monotonic() - started


def _lint(_select: str | None) -> Part:
    return Part("lint", [["ruff", "check", "."], ["ruff", "format", "--check", "."]])


def _types(_select: str | None) -> Part:
    sources = [name for name in _SOURCES if (ROOT / name).exists()]
    return Part("types", [["mypy", *sources]])


def _contracts(_select: str | None) -> Part:
    return Part("contracts", [["lint-imports"]])


def _pytest(select: str | None, *options: str) -> Sequence[str]:
    return ["python", "-m", "pytest", "-q", *options, *(["-k", select] if select else [])]


def _workers() -> Sequence[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ["-n", str(min(cores or 1, 8))]


def _in_memory() -> dict[str, str]:
    """Return what lets a part keep its temporary files in memory, where there is room for them."""
    usable = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    if "TMPDIR" in os.environ or not usable or shutil.disk_usage(_MEMORY).free < _ROOM:
        return {}
    return {"TMPDIR": str(_MEMORY)}


def _sqlite(select: str | None) -> Part:
    commands = [_pytest(select, "tests", _NO_LIVES, *_workers())]
    return Part("sqlite", commands, environment=_in_memory())


def _postgres(select: str | None) -> Part:
    # What needs no database was run with the other one, and would tell the same again.
    which = ["--database", "postgres", "--only-database"]
    suite = _pytest(select, "tests", _NO_LIVES, *which, *_workers())
    itself = _pytest(select, _LIVES_ON_POSTGRES)
    here = ["--database", "postgresql", "--jobs", _workers()[1]]
    sweep = ["python", "-m", "tests.simulation.sweep", *here, "--every", f"{_EVERY}"]
    lives = ["python", "-m", "tests.simulation", *here, "--seeds", f"0:{_ON_POSTGRES}"]
    commands = [suite, itself] if select else [suite, itself, sweep, lives]
    missing = postgres.why_missing()
    return Part("postgres", commands, missing=missing, environment=_in_memory())


def _simulation(select: str | None) -> Part:
    jobs = ["--jobs", _workers()[1]]
    sweep = ["python", "-m", "tests.simulation.sweep", *jobs]
    lives = ["python", "-m", "tests.simulation", "--seeds", f"0:{_HISTORIES}", *jobs]
    ends = _BEGAN + _WHOLE - _AFTER * (time.time() - _BEGAN)
    lives += ["--until", f"{ends:.0f}"]
    itself = _pytest(select, "tests/simulation", f"--ignore={_LIVES_ON_POSTGRES}")
    return Part("simulation", [itself] if select else [itself, sweep, lives])


def _planted() -> Part:
    return Part("planted", [["python", "-m", "tests.simulation.planted"]])


def _e2e(select: str | None) -> Part:
    # A process of its own: synchronous Playwright and pytest-asyncio do not go together. The
    # journeys of a file share an installation.
    apart = [*_workers(), "--dist", "loadfile"]
    command = _pytest(select, "e2e", "-o", "asyncio_mode=strict", *apart)
    path = browser.find()
    missing = None if path else "there is no Chromium; install one, or name it in CHROMIUM."
    environment = {"CHROMIUM": path or "", **_in_memory()}
    return Part("e2e", [command], missing=missing, environment=environment)


def _kills(select: str | None) -> Part:
    # No test of pytest's: `-k` chooses none of it. Recovery times are measured by hand, because a
    # machine that has something else to do meanwhile would fail limits in seconds.
    drills = ["python", "-m", "tests.kills", "--kills", str(_KILLS), "--at-once"]
    drills += ["--until", f"{_BEGAN + _WHOLE:.0f}", "--repeats", "0", "--outage", "0"]
    commands = [] if select else [drills]
    return Part("kills", commands, missing=postgres.why_missing())


_PARTS: dict[str, Callable[[str | None], Part]] = {
    "lint": _lint,
    "types": _types,
    "contracts": _contracts,
    "sqlite": _sqlite,
    "postgres": _postgres,
    "simulation": _simulation,
    "e2e": _e2e,
    "kills": _kills,
}
