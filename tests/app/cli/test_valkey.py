"""The Valkey that `up` starts keeps what it is told and lets nobody else in."""

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.cli import valkey
from app.cli.processes import StartError, Supervisor


def ask(url: str, *commands: str, password: str | None = None) -> str:
    parts = urlsplit(url)
    words = [f"AUTH {password or parts.password}", *commands]
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        connection.sendall("".join(f"{word}\r\n" for word in words).encode())
        connection.settimeout(1)
        answer = b""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and answer.count(b"\r\n") < len(words):
            answer += connection.recv(1000)
        return answer.decode()


def test_it_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    for command, answer in (("SET bell rung", "OK"), ("GET bell", "rung")):
        supervisor = Supervisor(tmp_path, tmp_path, print)
        program, url = valkey.program(tmp_path / "valkey")
        supervisor.start(program)
        try:
            supervisor.wait_ready("valkey", 20)
            assert answer in ask(url, command).split("\r\n", 1)[1]
        finally:
            supervisor.stop()


def test_a_stranger_needs_the_password_which_no_command_line_shows(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, tmp_path, print)
    program, url = valkey.program(tmp_path / "valkey")
    supervisor.start(program)
    try:
        supervisor.wait_ready("valkey", 20)
        assert "NOAUTH" in ask(url, "GET bell", password="guess")
        assert str(urlsplit(url).password) not in " ".join(program.command)
    finally:
        supervisor.stop()


def test_a_machine_without_any_server_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "sparc")
    with pytest.raises(StartError, match="install valkey-server, or set REDIS_URL"):
        valkey.find_binary()
