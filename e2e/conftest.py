"""A whole Counterfoil in its own folder, started as a user starts it, and a browser to visit it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyotp
import pytest

from app.cli.ports import free_port

_ROOT = Path(__file__).parents[1]
_BROWSER = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-sandbox",
]


@dataclass
class Answer:
    """What the API answered."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class Counterfoil:
    """A running installation: where it is, how to sign in, and a shop's plugin to play."""

    folder: Path
    process: subprocess.Popen[str]
    ready: dict[str, Any]
    keys: int = field(default=0)

    @property
    def web(self) -> str:
        """The address of the dashboard and the API."""
        return str(self.ready["web_url"])

    @property
    def sandbox(self) -> str:
        """The address of the sandbox PSP."""
        return str(self.ready["sandbox_url"])

    @property
    def home(self) -> str:
        """Where the demo shop's pages begin."""
        return f"{self.web}/m/{self.ready['merchant_id']}/test"

    def user(self, role: str) -> dict[str, str]:
        """Return the demo user of a role: owner or admin."""
        found: dict[str, str] = next(one for one in self.ready["users"] if one["role"] == role)
        return found

    def api(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        """Call the API as the shop's plugin; a POST gets a new Idempotency-Key unless named."""
        self.keys += 1
        headers = {"Authorization": f"Bearer {self.ready['api_key']}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if method == "POST":
            headers["Idempotency-Key"] = key or f"e2e-{os.getpid()}-{self.keys}"
        return _ask(method, f"{self.web}{path}", body, headers)

    def psp(self, method: str, path: str, body: Any = None) -> Any:
        """Call the sandbox's control API."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        return _ask(method, f"{self.sandbox}/_sandbox{path}", body, headers).body

    def payment(self, payment_id: str) -> Any:
        """Return a payment as the API shows it now."""
        return self.api("GET", f"/v1/payments/{payment_id}").body

    def settled(self, payment_id: str, seconds: float = 60) -> Any:
        """Wait until a payment is final and return it."""
        return wait(
            lambda: (found := self.payment(payment_id)) and found["finished"] and found, seconds
        )

    def worker_pid(self) -> int:
        """Return the process id of the worker."""
        return self.pids("workers")[0]

    def pids(self, word: str) -> list[int]:
        """Return the processes of this installation whose command line has `word` in it."""
        asked = ["pgrep", "-P", str(self.process.pid), "-f", word]
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def verify(self) -> str:
        """Run `counterfoil verify-ledger` and return its line; fails unless everything holds."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "verify-ledger"],
            cwd=_ROOT,
            env={**os.environ, "DATABASE_URL": f"sqlite+aiosqlite:///{self.folder}/counterfoil.db"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> float:
        """Stop it as Ctrl-C does; return how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=20)
        return time.monotonic() - began


def _ask(method: str, url: str, body: Any, headers: dict[str, str]) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, method=method, data=data, headers=headers)  # noqa: S310 - our own address.
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above.
            return Answer(answer.status, _json(answer.read()), dict(answer.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, _json(error.read()), dict(error.headers))


def _json(raw: bytes) -> Any:
    return json.loads(raw) if raw.startswith((b"{", b"[")) else raw.decode()


def wait(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until `condition` gives something true, and return it."""
    ends = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.1)


@contextmanager
def started(folder: Path, **settings: str) -> Iterator[Counterfoil]:
    """Start `python3 -m app up` on a folder and stop it afterwards."""
    environment = {**os.environ, **settings}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "app.cli",
            "up",
            "--json",
            "--data",
            str(folder),
            "--port",
            str(free_port(1)),
        ],
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("{"), f"it did not start: {line}"
    running = Counterfoil(folder=folder, process=process, ready=json.loads(line))
    try:
        yield running
    finally:
        if process.poll() is None:
            running.stop()


@pytest.fixture(scope="session")
def counterfoil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterfoil]:
    """Return one installation for all journeys that do not break it."""
    with started(tmp_path_factory.mktemp("up") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Start the browser that is on this machine, without the network that it would look for."""
    return {
        **browser_type_launch_args,
        "executable_path": os.environ.get("CHROMIUM") or "/usr/bin/chromium",
        "args": _BROWSER,
    }


def code_of(secret: str) -> str:
    """Return the present code of an authenticator."""
    return pyotp.TOTP(secret).now()
