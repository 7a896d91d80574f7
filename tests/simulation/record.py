"""RECORD.md: what was played by hand, on which commit, and what came of it."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

RECORD = Path(__file__).with_name("RECORD.md")


def add(title: str, *cells: object, path: Path = RECORD) -> None:
    """Add a row to the table under a title: today, this commit, and the given cells."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    row = f"| {' | '.join(map(str, (datetime.now(UTC).date(), commit, *cells)))} |"
    lines = path.read_text(encoding="utf-8").splitlines()
    at = lines.index(title)
    end = next((n for n in range(at + 1, len(lines)) if lines[n].startswith("#")), len(lines))
    last = max(n for n in range(at, end) if lines[n].startswith("|"))
    lines.insert(last + 1, row)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
