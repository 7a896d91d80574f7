"""The web server listens where the settings say, however it is started."""

import base64
import os
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.__main__ import ROOT
from app.cli.ports import free_port
from app.runtime import Runtime
from tests.support.runtime import KEY, test_settings
from web.__main__ import config

START_SECONDS = 60.0
LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines)


def environment(rt: Runtime, port: int, **more: str) -> dict[str, str]:
    """Return what production sets, without a word on the address to listen on."""
    key = base64.b64encode(KEY).decode()
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": rt.settings.database_url,
        "REDIS_URL": rt.settings.redis_url,
        "DATA_DIR": rt.settings.data_dir,
        "PUBLIC_URL": rt.settings.public_url,
        "SEALING_KEYS": f"k1:{key}",
        "PEPPER": key,
        "PORT": str(port),
        "GRACE_SECONDS": "2",
        **more,
    }


@contextmanager
def started(line: str, environ: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a line of the Procfile as a host of such files does: by a shell, in the checkout."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {line}"],
        cwd=ROOT,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_answer(process: "subprocess.Popen[str]", port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"no answer: {process.poll()}")


def listening(port: int) -> set[str]:
    """Return the addresses, as the kernel writes them, at which somebody listens on a port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
            local, state = (row.split()[index] for index in (1, 3))
            address, _, number = local.partition(":")
            if state == LISTENING and int(number, 16) == port:
                found.add(address)
    return found


def test_no_line_of_the_procfile_says_where_to_listen() -> None:
    lines = procfile()
    assert set(lines) == {"release", "web", "worker"}
    for line in lines.values():
        words = shlex.split(line)
        assert "-m" in words, line
        assert not any("$" in word or word.startswith(("--host", "--port")) for word in words)


def test_the_line_of_the_procfile_listens_on_loopback_when_nothing_is_said(rt: Runtime) -> None:
    port = free_port()
    environ = environment(rt, port)
    assert "BIND_HOST" not in environ
    with started(procfile()["web"], environ) as process:
        wait_for_answer(process, port)
        found = listening(port)
        assert found
        assert found <= LOOPBACK
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_wrong_settings_keep_the_web_server_from_starting(rt: Runtime) -> None:
    environ = environment(rt, free_port(), PEPPER="short", BIND_HOST="")
    with started(procfile()["web"], environ) as process:
        _, said = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 2
    assert said.startswith("PEPPER must be base64")


@pytest.mark.parametrize(
    ("bind_host", "heard_at"),
    [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0")],  # noqa: S104 - compared, not bound
)
def test_host_and_port_come_from_the_settings(
    tmp_path: Path, bind_host: str, heard_at: str
) -> None:
    settings = test_settings("sqlite+aiosqlite:///x.db", tmp_path, bind_host=bind_host, port=8123)
    made = config(settings)
    assert (made.host, made.port) == (heard_at, 8123)
    assert not made.proxy_headers
    assert made.timeout_graceful_shutdown == 29
