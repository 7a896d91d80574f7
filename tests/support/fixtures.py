"""Fixtures that most tests build on."""

import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.cli import valkey
from app.psp import registry
from app.runtime import Runtime
from tests.support.cast import Cast, make_cast
from tests.support.psp import BookConnections, BookPsp
from tests.support.runtime import Clock, make_runtime, test_settings


@pytest.fixture
def clock() -> Clock:
    """Return the clock that `rt` runs on."""
    return Clock()


@pytest.fixture
async def rt(database_url: str, tmp_path: Path, clock: Clock) -> AsyncIterator[Runtime]:
    """Return a runtime on this test's own database."""
    runtime = make_runtime(test_settings(database_url, tmp_path), clock)
    async with runtime.sessions.begin() as session:
        await registry.ensure_rows(session, runtime.connections, now=clock())
    yield runtime
    await runtime.close()


@pytest.fixture
def psp(rt: Runtime) -> BookPsp:
    """Return the PSP in memory that stands in for the sandbox in `rt`."""
    connections = BookConnections(rt.settings, rt.clock)
    rt.connections = connections
    return connections.book


@pytest.fixture
async def cast(rt: Runtime) -> Cast:
    """Return Alice, Bob, Vera, Charlie and Ada, with their shops and keys."""
    return await make_cast(rt)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """Return the address of a server of this test's own."""
    program, url = valkey.program(tmp_path / "valkey")
    assert program.stdin is not None
    process = subprocess.Popen(program.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(program.stdin)
    process.stdin.close()
    for _ in range(100):
        if program.ready():
            break
        time.sleep(0.05)
    yield url
    process.kill()
    process.wait()
