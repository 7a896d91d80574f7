"""What `up` hands to the processes that it starts."""

from argparse import Namespace
from pathlib import Path

import pytest

from app.__main__ import VENV
from app.cli import up


def environment(folder: Path) -> dict[str, str]:
    return up._environment(Namespace(port=8123), up.open_folder(folder))


def test_its_processes_keep_what_python_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four processes that each compile every module take longer than all the rest of a start."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    found = environment(tmp_path / "data")
    assert "PYTHONDONTWRITEBYTECODE" not in found
    assert found["PYTHONPYCACHEPREFIX"] == str(VENV / "bytecode")


def test_a_place_for_compiled_modules_that_the_user_chose_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/chosen")
    assert environment(tmp_path / "one")["PYTHONPYCACHEPREFIX"] == "/chosen"
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX")
    assert "PYTHONPYCACHEPREFIX" not in environment(tmp_path / "two")
