"""The programs that `up` starts, with their command lines and how to see that they work."""

import http.client
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from app.cli.processes import Program
from app.settings import Settings, from_environment

# Importing app.psp for this one name would double the memory of `up`; a test compares the two.
SANDBOX_CONNECTION = "conn_sandbox"
# -P: a folder named `app` or `web` where the user stands must not be taken for ours.
_PYTHON = [sys.executable, "-P", "-m"]


def prepare(folder: Path, *, wants_demo: bool) -> Sequence[str]:
    """Return the command that migrates and, on an empty database, makes the demo shop."""
    return [*_PYTHON, "app.cli", "prepare", *(["--demo", str(folder)] if wants_demo else [])]


def web(environment: Mapping[str, str]) -> Program:
    """Return the web server: dashboard, API, checkout and PSP events."""
    settings = from_environment(environment)
    host = "127.0.0.1" if settings.bind_host in {"0.0.0.0", "::"} else settings.bind_host  # noqa: S104 - compared, not bound
    name = urlsplit(settings.public_url).netloc
    return Program(
        name="web",
        command=[*_PYTHON, "web"],
        environment=_ours(environment),
        ready=lambda: _says_ok(host, settings.port, "/readyz", name),
    )


def worker(environment: Mapping[str, str], folder: Path) -> Program:
    """Return the worker, which says in a file that its loops run."""
    mark = folder / "run" / "worker.ready"
    mark.unlink(missing_ok=True)
    return Program(
        name="worker",
        command=[*_PYTHON, "workers"],
        environment=_ours(environment),
        ready=mark.exists,
    )


def sandbox(environment: Mapping[str, str], folder: Path) -> Program:
    """Return the sandbox PSP; it gets no key but its own."""
    port = int(environment["PORT"]) + 1
    (folder / "sandbox").mkdir(mode=0o700, exist_ok=True)
    command = [*_PYTHON, "web.sandbox_psp", "--host", "127.0.0.1", "--port", str(port)]
    own = {name: environment[name] for name in environment if name.startswith("SANDBOX_")}
    own["SANDBOX_PUBLIC_URL"] = environment["SANDBOX_URL"]
    own["SANDBOX_WEBHOOK_URL"] = f"{environment['PUBLIC_URL']}/psp/{SANDBOX_CONNECTION}/events"
    secrets = {name.upper() for name in Settings.__struct_fields__}
    plain = {name: value for name, value in environment.items() if name not in secrets}
    return Program(
        name="sandbox",
        command=[*command, "--data", str(folder / "sandbox")],
        environment=_ours({**plain, **own}),
        ready=lambda: _says_ok("127.0.0.1", port, "/_sandbox/health", f"127.0.0.1:{port}"),
        stop_seconds=1.0,
        stop_last=True,
    )


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    # Logs are files here; they must be complete when a process is killed.
    return {**environment, "PYTHONUNBUFFERED": "1"}


def _says_ok(host: str, port: int, path: str, name: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path, headers={"Host": name})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
