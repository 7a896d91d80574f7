"""`counterfoil lock`: pin every dependency, with hashes, in one file of two sections."""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from app.__main__ import DEVELOPMENT_MARK, LOCK, ROOT, find_uv, index_environment

_HEAD = (
    "# Made by `counterfoil lock`. `up` installs the first section alone, `test` both.\n"
    "# No index and no host is named here: the machine's own settings decide.\n"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil lock`."""
    parser.add_argument("--upgrade", action="store_true", help="take newer versions")


def main(arguments: argparse.Namespace) -> int:
    """Write requirements.lock anew from pyproject.toml."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        if LOCK.exists() and not arguments.upgrade:
            pins.write_text(LOCK.read_text())
        runtime = _compile(Path(folder) / "runtime.txt", pins=pins)
        pins.write_text(runtime)
        everything = _compile(Path(folder) / "dev.txt", "--extra", "dev", pins=pins)
    known = set(_blocks(runtime))
    development = "".join(block for block in _blocks(everything) if block not in known)
    LOCK.write_text(f"{_HEAD}{runtime}{DEVELOPMENT_MARK}\n{development}")
    return 0


def _compile(target: Path, *options: str, pins: Path) -> str:
    # Both sections must hold the same versions, so the first one constrains the second.
    constraint = ["-c", str(pins)] if pins.exists() else []
    command = [find_uv(), "pip", "compile", "-q", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
    command += [*options, *constraint, "pyproject.toml", "-o", str(target)]
    subprocess.run(command, check=True, cwd=ROOT, env=index_environment(extra_sources=False))
    return target.read_text()


def _blocks(text: str) -> list[str]:
    return [match[0] for match in re.finditer(r"^\S.*\n(?:[ \t]+.*\n)*", text, re.MULTILINE)]
