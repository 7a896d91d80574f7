"""What tests of the commands share: the command line, on this test's own database."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from app.runtime import Runtime
from tests.support.runtime import KEY


@pytest.fixture
def counterfoil(
    rt: Runtime,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Run a command in a thread, because it has an event loop of its own."""
    key = base64.b64encode(KEY).decode()
    for name, value in {
        "DATABASE_URL": database_url,
        "SEALING_KEYS": f"k1:{key}",
        "PEPPER": key,
        "PUBLIC_URL": "https://pay.example.com",
        "DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("REDIS_URL", raising=False)

    async def run(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, [*words])
        out, err = capsys.readouterr()
        return code, out, err

    return run
