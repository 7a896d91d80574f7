"""`counterfoil up`: everything on this machine, from one command, until Ctrl-C."""

import argparse
import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any

from app import settings as settings_module
from app.__main__ import ROOT, keep_bytecode
from app.cli import demo, local_keys, programs, valkey
from app.cli.processes import StartError, Supervisor
from app.settings import is_loopback

_READY_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil up`."""
    parser.add_argument("--data", default="var", metavar="DIR", help="where everything is kept")
    parser.add_argument(
        "--port", type=_port, help="the web port (8000); the sandbox takes the next"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line once ready")
    parser.add_argument("--no-demo", action="store_true", help="make no demo shop")


def main(arguments: argparse.Namespace) -> int:
    """Start everything and keep it running; 1 when that fails, 2 on wrong settings."""
    started = time.monotonic()
    try:
        folder = open_folder(Path(arguments.data))
        lock = lock_folder(folder)
        try:
            environment = _environment(arguments, folder)
            return _run(arguments, folder, environment, started)
        finally:
            lock.close()
    except settings_module.SettingsError as error:
        lines = "".join(f"\n  {problem}" for problem in error.problems)
        print(f"counterfoil: these settings are wrong:{lines}", file=sys.stderr)
        return 2
    except StartError as error:
        print(f"counterfoil: {error}", file=sys.stderr)
        return 1


def _run(
    arguments: argparse.Namespace, folder: Path, environment: dict[str, str], started: float
) -> int:
    port = int(environment["PORT"])
    for wanted, host in ((port, environment["BIND_HOST"]), (port + 1, "127.0.0.1")):
        _check_port(host, wanted)
    supervisor = Supervisor(folder / "logs", ROOT, _say)
    supervisor.catch_signals()
    try:
        if not environment.get("REDIS_URL"):
            carrier, environment["REDIS_URL"] = valkey.program(folder / "valkey")
            supervisor.start(carrier)
        settings_module.from_environment(environment)
        sandbox = programs.sandbox(environment, folder)
        supervisor.start(sandbox)
        wants_demo = not arguments.no_demo and is_loopback(environment["BIND_HOST"])
        command = programs.prepare(folder, wants_demo=wants_demo)
        if problem := supervisor.run_once("prepare", command, environment).strip():
            raise StartError(problem)
        supervisor.start(programs.web(environment))
        supervisor.start(programs.worker(environment, folder))
        for name in ("valkey", "sandbox", "worker", "web"):
            if supervisor.has(name):
                supervisor.wait_ready(name, _READY_SECONDS)
        if not supervisor.stopping:
            story = demo.read(folder)
            seconds = time.monotonic() - started
            _announce(environment, story, as_json=arguments.json, seconds=seconds)
            supervisor.watch()
    except StartError:
        if not supervisor.stopping:
            raise
    finally:
        supervisor.stop()
    return 0


def _environment(arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Return the children's environment: the user's own, completed for this machine alone."""
    environment = dict(os.environ)
    keep_bytecode(environment)
    host = environment.setdefault("BIND_HOST", "127.0.0.1")
    port = arguments.port or _port_of(environment)
    # The children are started with -P, so the checkout has to be named.
    environment["PYTHONPATH"] = str(ROOT)
    environment["PORT"] = str(port)
    environment["DATA_DIR"] = str(folder)
    environment["SANDBOX_URL"] = f"http://127.0.0.1:{port + 1}"
    environment.setdefault("GRACE_SECONDS", "8")
    if not environment.get("DATABASE_URL"):
        environment["DATABASE_URL"] = f"sqlite+aiosqlite:///{folder / 'counterfoil.db'}"
    prefix, _, path = environment["DATABASE_URL"].partition("sqlite+aiosqlite:///")
    if not prefix and path and not path.startswith("/"):
        # The children work in the checkout; the user meant the folder of the command.
        environment["DATABASE_URL"] = f"sqlite+aiosqlite:///{Path(path).resolve()}"
    if is_loopback(host):
        if not environment.get("PUBLIC_URL"):
            environment["PUBLIC_URL"] = f"http://localhost:{port}"
        # Shops on this machine listen on loopback, which webhooks otherwise never reach.
        environment.setdefault("WEBHOOK_ALLOW_LOOPBACK", "true")
        environment |= local_keys.fill_in(environment, folder / "keys")
    # Everything wrong is told at once, before anything starts; Valkey's address comes later.
    probe = {"REDIS_URL": "redis://127.0.0.1", **{k: v for k, v in environment.items() if v}}
    problems = []
    if not is_loopback(host) and not environment.get("SANDBOX_SECRET_KEY"):
        problems.append("SANDBOX_SECRET_KEY is missing: the sandbox would take a key of its own")
    try:
        settings_module.from_environment(probe)
    except settings_module.SettingsError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise settings_module.SettingsError(problems)
    return environment


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65534:
        raise argparse.ArgumentTypeError("must be a whole number between 1 and 65534")
    return int(text)


def _port_of(environment: dict[str, str]) -> int:
    try:
        return _port(environment.get("PORT") or "8000")
    except argparse.ArgumentTypeError as error:
        raise settings_module.SettingsError([f"PORT {error}"]) from error


def open_folder(folder: Path) -> Path:
    """Make the data folder and return its full path. Raises StartError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        for name in ("logs", "run"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        probe = folder / "run" / "probe"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise StartError(f"cannot write to the folder {folder}: {error.strerror}.") from error
    return folder


def lock_folder(folder: Path) -> IO[str]:
    """Take the data folder for one `up`, until the file is closed. Raises StartError."""
    # The system releases it when `up` ends, however it ends.
    file = (folder / "run" / "up.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StartError(f"another `up` is already running on {folder}.") from error
    return file


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise StartError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another --port."
            ) from error


def _announce(
    environment: dict[str, str], story: dict[str, Any] | None, *, as_json: bool, seconds: float
) -> None:
    addresses = {
        "web_url": environment["PUBLIC_URL"],
        "sandbox_url": environment["SANDBOX_URL"],
    }
    if as_json:
        empty: dict[str, Any] = {"api_key": None, "merchant_id": None, "users": []}
        print(json.dumps({**addresses, **empty, **(story or {})}), flush=True)
        return
    print(f"\nCounterfoil is ready ({seconds:.1f} s). Ctrl-C stops it.\n")
    print(f"  Dashboard     {addresses['web_url']}")
    print(f"  API           {addresses['web_url']}/docs")
    print(f"  Sandbox PSP   {addresses['sandbox_url']}/_sandbox")
    print(f"  Data          {environment['DATA_DIR']}")
    demo.show(story)
    sys.stdout.flush()


def _say(text: str) -> None:
    print(f"counterfoil: {text}", file=sys.stderr, flush=True)
