"""`python3 -m app` makes the environment once, heals it, and hands the command over."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app import __main__ as bootstrap

# A command that shows what reached it; the real one needs every package of the lock.
_COMMAND = """
import json, os, sys
def main():
    print(json.dumps([sys.argv[1:], sys.prefix, os.getcwd()]))
    return 7
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with the real bootstrap, an empty lock and a command that reports."""
    root = tmp_path / "check out"  # Its path has a blank on purpose.
    (root / "app" / "cli").mkdir(parents=True)
    shutil.copy(bootstrap.ROOT / "app" / "__main__.py", root / "app" / "__main__.py")
    (root / "app" / "__init__.py").touch()
    (root / "app" / "cli" / "__init__.py").touch()
    (root / "app" / "cli" / "main.py").write_text(_COMMAND)
    (root / "requirements.lock").write_text(f"# nothing\n{bootstrap.DEVELOPMENT_MARK}\n")
    return root


def environment() -> dict[str, str]:
    # The uv of this checkout, so that nothing is fetched; the network is not what is tested here.
    return {**os.environ, "PATH": f"{Path(bootstrap.find_uv()).parent}:{os.environ['PATH']}"}


def start(checkout: Path, *arguments: str, cwd: Path | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=cwd or checkout,
        env={**environment(), "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(checkout: Path, *arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    process = start(checkout, *arguments, cwd=cwd)
    output, errors = process.communicate(timeout=100)
    return process.returncode, output, errors


def test_the_first_start_makes_the_environment_and_later_ones_use_it(checkout: Path) -> None:
    code, output, errors = run(checkout, "up", "--port", "9")
    assert "environment ready" in errors
    assert [code, *json.loads(output)] == [
        7,
        ["up", "--port", "9"],
        str(checkout / ".venv"),
        str(checkout),
    ]
    assert run(checkout, "up")[2] == ""


def test_compiled_modules_are_kept_also_where_python_is_told_not_to(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    assert run(checkout, "up")[0] == 7
    kept = [path.name for path in (checkout / ".venv" / "bytecode").rglob("main.*.pyc")]
    assert len(kept) == 1
    # Whoever sets that variable wants nothing beside the sources.
    assert list((checkout / "app").rglob("*.pyc")) == []


def test_relative_paths_mean_what_the_user_typed(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert json.loads(run(checkout, "up", cwd=elsewhere)[1])[2] == str(elsewhere)


@pytest.mark.parametrize("broken", [".counterfoil.json", "bin/python", "bin/counterfoil"])
def test_a_broken_environment_heals(checkout: Path, broken: str) -> None:
    run(checkout, "up")
    (checkout / ".venv" / broken).unlink()
    assert run(checkout, "up")[0] == 7
    assert (checkout / ".venv" / broken).exists()


def test_an_environment_cut_off_while_it_was_made_heals(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").write_text("half")
    (checkout / ".venv" / ".counterfoil.json").write_text('{"lock": "')
    assert run(checkout, "up")[0] == 7


def test_another_lock_is_installed(checkout: Path) -> None:
    run(checkout, "up")
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("# newer\n")
    assert "environment ready" in run(checkout, "up")[2]
    assert run(checkout, "up")[2] == ""


def test_the_development_section_is_installed_for_test_and_stays_for_up(checkout: Path) -> None:
    run(checkout, "up")
    assert "environment ready" in run(checkout, "test")[2]
    for command in ("up", "test"):
        assert run(checkout, command)[2] == ""
    section = (checkout / ".tools" / "requirements.txt").read_text()
    assert bootstrap.DEVELOPMENT_MARK in section


def test_two_first_starts_at_once_do_the_work_once(checkout: Path) -> None:
    processes = [start(checkout, "up") for _ in range(2)]
    results = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [7, 7]
    assert sum("environment ready" in errors for _, errors in results) == 1


def test_a_lock_that_cannot_be_installed_is_one_sentence(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text("nothing==1.0\n")
    code, _, errors = run(checkout, "up")
    assert code == 1
    assert errors.splitlines()[-1] == (
        "counterfoil: the packages of requirements.lock could not be installed (see above)."
    )
    assert not (checkout / ".venv" / ".counterfoil.json").exists()


def test_a_machine_without_pip_and_uv_is_told_what_to_install(checkout: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from app import __main__ as it\n"
        "it.sys.argv = ['app', 'up']; it.sys.executable = '/bin/false'\n"
        "it.sys.base_prefix = it.sys.prefix\n"
        "it.main()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(checkout)],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "this Python has no pip, and there is no uv: install one of them" in done.stderr


def test_an_old_python_is_named(checkout: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from app import __main__ as it\n"
        "it.sys.version_info = (3, 10, 4)\n"
        "it.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkout)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr


def test_pips_own_sources_reach_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_STRATEGY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/one /two")
    found = bootstrap.index_environment(extra_sources=True)
    assert found["UV_DEFAULT_INDEX"] == "https://packages.example/simple"
    assert found["UV_FIND_LINKS"] == "/one,/two"
    found = bootstrap.index_environment(extra_sources=False)
    assert "UV_FIND_LINKS" not in found


def test_what_uv_was_told_itself_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    found = bootstrap.index_environment(extra_sources=True)
    assert found["UV_DEFAULT_INDEX"] == "https://mine.example/simple"
