"""`up` as a user meets it: one command, everything answers, and it ends without a trace."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import ROOT
from app.cli.ports import free_port

# Longer than the aim, because other work may share the machine.
START_SECONDS, STOP_SECONDS = 90.0, 10.0


class Up:
    """A running `up`, with what it said once it was ready."""

    def __init__(self, data: Path, database_url: str, *options: str) -> None:
        self.data = data
        port = free_port(1)
        command = [sys.executable, "-m", "app.cli", "up", "--json", "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), *options],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "DATABASE_URL": database_url,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def story(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return dict(json.loads(line))

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal, wait for the end and return the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return time.monotonic() - started

    def left_running(self) -> list[str]:
        """Return the command lines of processes that this `up` made and that still live."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                text = environ.read_bytes().decode(errors="replace")
                command = (environ.parent / "cmdline").read_text().replace("\0", " ")
                folder = str((environ.parent / "cwd").readlink())
            except OSError:
                continue  # It ended meanwhile, or belongs to somebody else.
            if f"DATA_DIR={self.data}" in text or folder.startswith(str(self.data)):
                found.append(command)
        return found


@pytest.fixture
def started() -> Iterator[list[Up]]:
    made: list[Up] = []
    yield made
    for one in made:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
        return int(answer.status)


@pytest.mark.timeout(300)
def test_a_first_start_a_stop_and_a_second_start(
    tmp_path: Path, database_url: str, started: list[Up]
) -> None:
    data = tmp_path / "data"
    started.append(Up(data, database_url))
    first = started[-1].story()
    assert {user["role"] for user in first["users"]} == {"owner", "admin"}
    assert {"email", "password", "totp_secret", "role"} <= set(first["users"][0])
    assert get(f"{first['web_url']}/readyz") == 200
    assert get(f"{first['sandbox_url']}/_sandbox/health") == 200
    assert (data / "demo.json").stat().st_mode & 0o777 == 0o600

    assert started[-1].end() < STOP_SECONDS
    assert started[-1].process.returncode == 0
    assert started[-1].left_running() == []

    started.append(Up(data, database_url))
    second = started[-1].story()
    addresses = {"web_url", "sandbox_url"}
    assert {k: v for k, v in second.items() if k not in addresses} == {
        k: v for k, v in first.items() if k not in addresses
    }

    # Killed outright it cannot clean up; the system does.
    started[-1].end(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while started[-1].left_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started[-1].left_running() == []


@pytest.mark.timeout(200)
def test_without_a_demo_there_is_nobody(
    tmp_path: Path, database_url: str, started: list[Up]
) -> None:
    started.append(Up(tmp_path / "data", database_url, "--no-demo"))
    story = started[-1].story()
    assert (story["api_key"], story["merchant_id"], story["users"]) == (None, None, [])
    assert not (tmp_path / "data" / "demo.json").exists()
    started[-1].end(signal.SIGINT)
    assert started[-1].process.returncode == 0
