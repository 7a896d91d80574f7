"""The test command runs on after a failure, and never takes a missing part for a success."""

import time

import pytest

from app.cli import postgres
from app.cli import test as command
from app.cli.main import main


def part(*codes: int, missing: str | None = None) -> command.Part:
    return command.Part("it", [["python", "-c", f"exit({code})"] for code in codes], missing)


@pytest.mark.parametrize(
    ("codes", "selected", "result"),
    [
        ([0, 0], False, "passed"),
        ([1, 0], False, "FAILED"),
        ([0, 2], True, "FAILED"),
        ([5], True, "passed"),  # pytest: -k matched nothing in this part.
        ([5], False, "FAILED"),
    ],
)
def test_a_part_passes_when_all_its_commands_do(
    codes: list[int], selected: bool, result: str
) -> None:
    assert command.run_part(part(*codes), selected=selected)[:2] == ("it", result)


@pytest.mark.parametrize(("ci", "result"), [("true", "FAILED"), ("1", "FAILED"), ("", "NOT RUN")])
def test_a_missing_part_is_loud_and_fails_on_ci(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], ci: str, result: str
) -> None:
    monkeypatch.setenv("CI", ci)
    assert command.run_part(part(1, missing="there is no browser."), selected=False)[1] == result
    assert "*** NOT RUN: there is no browser." in capfd.readouterr().out


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--only", "lint,tpyes"]) == 2
    assert "there is no part tpyes" in capsys.readouterr().err


def test_the_run_goes_on_after_a_failure_and_tells_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = {"one": lambda _: part(1), "two": lambda _: part(0)}
    monkeypatch.setattr(command, "_PARTS", parts)
    assert main(["test"]) == 1
    said = capfd.readouterr().out
    assert said.index("FAILED") < said.index("passed")


def test_a_machine_that_cannot_run_postgresql_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(postgres, "_KNOWN_FOLDERS", [])
    assert postgres.why_missing() == "there are no PostgreSQL binaries on this machine."


@pytest.mark.parametrize(("before", "until"), [(0, 2580), (700, 2125), (1200, 1800)])
def test_a_slow_machine_plays_fewer_histories_and_not_for_longer(
    monkeypatch: pytest.MonkeyPatch, before: float, until: float
) -> None:
    """What follows takes as much longer there as what went before."""
    monkeypatch.setattr(command, "_BEGAN", time.time() - before)
    lives = command._simulation(None).commands[-1]
    assert lives[lives.index("--seeds") + 1] == "0:1000"
    ends = float(lives[lives.index("--until") + 1])
    assert ends - command._BEGAN == pytest.approx(until, abs=2)


def test_lives_on_postgresql_are_played_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = "tests/simulation/test_on_postgres.py"
    assert f"--ignore={apart}" in command._simulation(None).commands[0]
    _, itself, *played = command._postgres(None).commands
    assert apart in itself
    for part in played:
        assert part[part.index("--database") + 1] == "postgresql"
    assert len(command._postgres("name").commands) == 2
    monkeypatch.setattr(postgres, "why_missing", lambda: "there is none.")
    assert command._postgres(None).missing == "there is none."
