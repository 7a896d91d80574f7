"""A row of RECORD.md says how to play its drill again, and each recovery with its limit."""

from pathlib import Path

from app.cli.drill.report import Outage, times
from app.cli.drill.run import Options
from tests.app.cli.drill.test_report import report
from tests.kills.__main__ import cells
from tests.simulation import record


def test_a_row_has_the_named_limits_and_its_command(tmp_path: Path) -> None:
    found = report(
        recovery=[
            times("web ended → works again", [1.0, 2.0]),
            times("worker killed → its work taken up", [3.0, 15.24], 20.0),
            times("Valkey flushed → all rung again and done", [31.0], 30.0),
            times("PostgreSQL killed → payments accepted", [7.0], 15.0),
        ],
        outage=Outage(seconds=60.0, rate=1.0, asked=9, accepted=8, told={}, untrue=["pay_1 …"]),
    )
    plan = Options(seed=2, folder=tmp_path, kills=100, repeats=2, outage=60.0, postgres=True)
    row = [str(cell) for cell in cells(found, plan)]
    assert row[1] == (
        "`python -m tests.kills --database postgres --seed 2 --kills 100 --rate 4 --repeats 2"
        " --outage 60 --no-storage`"
    )
    assert row[6].split("; ") == [
        "web ended → works again 2.0 s, at most 2.0 s (2x)",
        "worker killed → its work taken up 15.2 s, at most 15.2 s (2x, limit 20: holds)",
        "Valkey flushed → all rung again and done 31.0 s, at most 31.0 s (1x, limit 30: BROKEN)",
        "PostgreSQL killed → payments accepted 7.0 s, at most 7.0 s (1x, limit 15: holds)",
    ]
    assert row[7] == "8 of 9 in 60 s, 1 untrue"
    assert not any("|" in cell for cell in row)


def test_a_row_has_a_cell_for_each_column(tmp_path: Path) -> None:
    lines = record.RECORD.read_text(encoding="utf-8").splitlines()
    heads = next(line for line in lines[lines.index("## Kills") :] if line.startswith("| date"))
    made = cells(report(outage=None, recovery=[]), Options(seed=2, folder=tmp_path, kills=100))
    assert len(made) + 2 == heads.count("|") - 1  # The day and the commit come before them.
    assert made[6:8] == ("none", "none")
