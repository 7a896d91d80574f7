"""A few whole lives from a seed; `python3 -m app test --only simulation` plays more of them."""

from collections.abc import Callable

import pytest

from app.payments.models import Attempt
from tests.simulation import __main__ as command
from tests.simulation import history, many
from tests.simulation.world import World


@pytest.mark.parametrize("seed", range(2))
def test_a_history_ends_with_every_invariant_held(seed: int) -> None:
    """It holds.

    What histories may meet; a seed has a part of it, two seeds need not have all, and a whole run
    plays more of them: F03, F04, F05, F06, F07, F08, F12, F13, F14, F15, F16, F22, F23, F24, F26,
    F27, F28, F29, F31, F39, F40, F43, F49, F54, F58, F59, F60, F70.
    """
    ended = history.play(seed, payments=8)
    again = f".venv/bin/python -m tests.simulation --seed {seed} --payments 8 --story"
    assert ended.violations == [], again
    assert ended.faults >= history.FEWEST_FAULTS
    assert ended.payments == 8


def test_the_same_seed_executes_the_same_statements() -> None:
    first, second = (history.play(7, payments=3) for _ in range(2))
    assert first.log == second.log
    assert first.statements == second.statements
    assert history.play(8, payments=3).log != first.log


def test_another_process_executes_the_same_statements(elsewhere: Callable[[str], str]) -> None:
    """A failing seed can be played again only if nothing of the process is part of it."""
    told = "from tests.simulation import history; print(history.play(7, payments=3).log)"
    assert elsewhere(told) == elsewhere(told)


def test_no_further_history_is_begun_when_its_time_is_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for jobs in ("1", "2"):
        asked = ["--seeds", "0:40", "--payments", "1", "--fewest", "2", "--jobs", jobs]
        assert command.main([*asked, "--until", "0"]) == 0
        said = capsys.readouterr().out
        assert "no more than 2 of 40" in said
        assert "2 passed, 0 failed" in said


def test_what_fails_tells_the_line_that_plays_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = history.play(0, payments=1)
    ended.violations = ["I4: charged twice"]
    monkeypatch.setattr(many, "histories", lambda *_: iter([ended]))
    assert command.main(["--payments", "1", "--database", "postgresql"]) == 1
    said = capsys.readouterr().out
    assert "I4: charged twice" in said
    line = ".venv/bin/python -m tests.simulation --seed 0 --story --payments 1"
    assert f"{line} --database postgresql" in said


def test_an_attempt_that_leaves_its_graph_breaks_a_history() -> None:
    world = World("moves")
    attempt = Attempt(id="att_1", kind="charge", state="unknown")
    for state in ("succeeded", "sent"):
        process = world.spawn("api")
        process._context.run(setattr, attempt, "state", state)
    world.close()
    assert world.violations == ["I6: charge att_1 went from succeeded to sent"]
