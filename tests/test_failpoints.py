"""Failpoints strike once, where they are told to, and cost nothing otherwise."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from app.__main__ import ROOT
from app.failpoints import PLACES, Failpoints, mark_of, parse

_HITTER = """
import sys
from pathlib import Path
from app.failpoints import Failpoints
points = Failpoints(sys.argv[1], Path(sys.argv[2]))
for n in range(1, 4):
    points.hit("psp.before_send")
    print(n, flush=True)
"""


def hit(spec: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _HITTER, spec, str(folder)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )


def test_the_nth_hit_kills_and_the_next_life_lives(tmp_path: Path) -> None:
    first = hit("psp.before_send:kill:2", tmp_path)
    assert (first.returncode, first.stdout) == (-9, "1\n")
    second = hit("psp.before_send:kill:2", tmp_path)
    assert (second.returncode, second.stdout) == (0, "1\n2\n3\n")


def test_another_failpoint_of_the_same_folder_is_not_disarmed(tmp_path: Path) -> None:
    assert hit("psp.before_send:kill:2", tmp_path).returncode == -9
    assert hit("psp.before_send:term:1", tmp_path).returncode == -15


def test_a_mark_that_is_taken_away_arms_again(tmp_path: Path) -> None:
    spec = "psp.before_send:kill:1"
    assert hit(spec, tmp_path).returncode == -9
    mark_of(tmp_path, spec).unlink()
    assert hit(spec, tmp_path).returncode == -9


def test_other_places_and_no_spec_do_nothing(tmp_path: Path) -> None:
    assert hit("psp.after_answer:kill:1", tmp_path).returncode == 0
    points = Failpoints()
    for place in PLACES:
        points.hit(place)
    assert not points._hits


@pytest.mark.parametrize(
    "spec",
    ["", "psp", "psp.before_send", "psp.before_send:kill", "psp.before_send:melt:1", "x:kill:1"],
)
def test_a_wrong_spec_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="must be place:action:nth"):
        parse(spec)


def test_every_place_is_hit_somewhere_and_no_other() -> None:
    named = set()
    for folder in ("app", "web", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("failpoints.hit"):
                    named.add(ast.literal_eval(node.args[0]))
    assert named == PLACES
