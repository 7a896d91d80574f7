"""RECORD.md: what was played by hand, on which commit, and what came of it."""

import fcntl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

RECORD = Path(__file__).with_name("RECORD.md")


def add(title: str, *cells: object, path: Path = RECORD) -> None:
    """Add a row to the table under a title: today, this commit, and the given cells."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    row = f"| {' | '.join(map(str, (datetime.now(UTC).date(), commit, *cells)))} |"
    with path.open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # Both databases may be drilled at once.
        lines = file.read().splitlines()
        at = lines.index(title)
        end = next((n for n in range(at + 1, len(lines)) if lines[n].startswith("#")), len(lines))
        last = max(n for n in range(at, end) if lines[n].startswith("|"))
        lines.insert(last + 1, row)
        file.seek(0)
        file.write("\n".join(lines) + "\n")  # One row more: nothing of the old text is left.
