"""A sandbox PSP for a test: its own process on a free port, with a book in the test's folder."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

SECRET_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox_for_tests"
_ROOT = Path(__file__).parents[2]
CARD = {"number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123", "name": "Test Person"}


@dataclass(kw_only=True)
class PageAnswer:
    """What the hosted page answered to a form."""

    status: int
    location: str | None
    headers: dict[str, str]
    body: str


@dataclass(kw_only=True)
class SandboxHandle:
    """A running sandbox and its controls. All methods block for a moment only."""

    url: str
    data: Path
    process: subprocess.Popen[str]
    secret_key: str = SECRET_KEY
    webhook_secret: str = WEBHOOK_SECRET
    output: list[str] = field(default_factory=list)

    def get(self, path: str, /, **query: str) -> Any:
        """Read from the control API, for example `get("/requests", key="k")`."""
        suffix = f"?{urlencode(query)}" if query else ""
        return json.loads(self.send("GET", f"/_sandbox{path}{suffix}").body)

    def post(self, path: str, body: Any) -> Any:
        """Write to the control API."""
        headers = {"Content-Type": "application/json"}
        answer = self.send("POST", f"/_sandbox{path}", json.dumps(body).encode(), headers)
        if answer.status >= 400:
            raise RuntimeError(f"{path}: {answer.status} {answer.body}")
        return json.loads(answer.body)

    def requests(self, **query: str) -> list[dict[str, Any]]:
        """Return the log of API requests, oldest first; filters are key and path."""
        found: list[dict[str, Any]] = self.get("/requests", **query)
        return found

    def book(self) -> dict[str, Any]:
        """Return charges, refunds and sums of the sandbox's own book."""
        found: dict[str, Any] = self.get("/book")
        return found

    def settings(self, **change: Any) -> Any:
        """Change settings; see `web/sandbox_psp/config.py`."""
        return self.post("/settings", change)

    def fault(self, when: str, kind: str, **script: Any) -> Any:
        """Script a fault for the next requests: method, path, count and the fault's own fields."""
        outer = {name: script.pop(name) for name in ("method", "path", "count") if name in script}
        return self.post("/faults", {"fault": {"when": when, "kind": kind, **script}, **outer})

    def policy(self, seed: int, **wish: Any) -> Any:
        """Begin a seeded policy; see `web/sandbox_psp/policy.py`."""
        return self.post("/policy", {"seed": seed, **wish})

    def reset(self) -> Any:
        """End every fault and take all settings back; the book stays."""
        return self.post("/reset", {})

    def poison(self, *, cured: bool) -> Any:
        """Cure or poison `pm_fault_poison`."""
        return self.post("/poison", {"cured": cured})

    def add_endpoint(self, url: str) -> Any:
        """Register an address for events, signed with this handle's webhook secret."""
        return self.post("/endpoints", {"url": url})

    def pay(self, page_url: str, **card: str) -> PageAnswer:
        """Fill in the hosted page as a customer would: by default with a card that succeeds."""
        return self.submit(urlsplit(page_url).path, {**CARD, **card})

    def submit(self, path: str, form: dict[str, str]) -> PageAnswer:
        """Send a form to the sandbox."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.send("POST", path, urlencode(form).encode(), headers)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> PageAnswer:
        """Send one request on a connection of its own."""
        line = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            line.request(method, path, body, headers or {})
            response = line.getresponse()
            return PageAnswer(
                status=response.status,
                location=response.getheader("Location"),
                headers={k.lower(): v for k, v in response.getheaders()},
                body=response.read().decode(),
            )
        finally:
            line.close()

    def stop(self, *, kill: bool = False) -> int:
        """Stop the process, or kill it as a crash would; return its exit code."""
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_sandbox(tmp_path: Path, *, port: int = 0, **env: str) -> SandboxHandle:
    """Start a sandbox whose book is in `tmp_path/sandbox`, and return once it answers.

    Keywords become its environment, for example `SANDBOX_WEBHOOK_URL`. A second start on the same
    folder finds the same book. Raises RuntimeError with the process's words when it ends.
    """
    data = tmp_path / "sandbox"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")},
        "SANDBOX_SECRET_KEY": SECRET_KEY,
        "SANDBOX_WEBHOOK_SECRET": WEBHOOK_SECRET,
        **env,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "web.sandbox_psp", "--port", str(port), "--data", str(data)],
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.stdout is None:
        raise RuntimeError("the sandbox has no output")
    line = process.stdout.readline()
    if "listens on" not in line:
        process.wait(5)
        raise RuntimeError(line + process.stdout.read())
    handle = SandboxHandle(
        url=line.split()[-1],
        data=data,
        process=process,
        secret_key=environment["SANDBOX_SECRET_KEY"],
        webhook_secret=environment["SANDBOX_WEBHOOK_SECRET"],
    )
    # Read on, or a full pipe would stop the process.
    threading.Thread(target=lambda: handle.output.extend(process.stdout or []), daemon=True).start()
    handle.get("/health")
    return handle
