"""The report says what happened, in a terminal and as a page that needs nothing else."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from app.cli.drill import page
from app.cli.drill.checks import Violation
from app.cli.drill.plan import Fault
from app.cli.drill.report import HARMS, Outage, Report, counted, lines, restarts, times
from app.cli.drill.strike import Struck


def report(**values: Any) -> Report:
    outage = Outage(
        seconds=10.0,
        rate=50.0,
        asked=500,
        accepted=500,
        told={"processing": 500},
        ended={"succeeded": 500},
    )
    return Report(
        **{
            "seed": 7,
            "command": "counterfoil drill --seed 7 --kills 20",
            "note": "",
            "database": "SQLite",
            "versions": {"python": "3.11"},
            "seconds": 61.0,
            "rounds": 1,
            "planned": ["round 1: web: kill"],
            "kills": 20,
            "placed": 8,
            "faults": {"web: kill": 12, "worker-1: term": 8},
            "orders": 90,
            "accepted": 88,
            "on_page": 9,
            "requests": 400,
            "unanswered": 31,
            "webhooks": 300,
            "ledger": "All holds.",
            "recovery": [times("worker killed → its work done", [1.0, 2.0, 16.5], 20.0)],
            "outage": outage,
            "violations": [],
            **values,
        }
    )


def test_times_are_by_nearest_rank() -> None:
    found = times("x", [float(n) for n in range(1, 101)])
    assert (found.median, found.p99, found.longest, found.count) == (50.0, 99.0, 100.0, 100)
    assert found.holds


@pytest.mark.parametrize(
    "values",
    [
        {"violations": [Violation("I4", "twice", "pay_1 was charged 2 times")]},
        {"recovery": [times("x", [1.0, 25.0], 20.0)]},
        {"outage": Outage(seconds=1.0, rate=1.0, asked=500, accepted=499, told={})},
        {"outage": Outage(seconds=1.0, rate=1.0, asked=0, accepted=0, told={})},
    ],
)
def test_anything_that_does_not_hold_spoils_the_verdict(values: dict[str, Any]) -> None:
    assert report().holds
    broken = report(**values)
    assert not broken.holds
    assert lines(broken)[-1].startswith("It does not hold.")


def test_one_refusal_in_ten_thousand_is_the_limit() -> None:
    outage = Outage(seconds=60.0, rate=200.0, asked=12_000, accepted=11_999, told={})
    assert report(outage=outage).holds


def test_the_terminal_says_every_number_and_the_command_that_repeats_it() -> None:
    said = "\n".join(lines(report()))
    for text in HARMS.values():
        assert re.search(rf"^  {re.escape(text)} +0$", said, re.MULTILINE)
    assert "500 of 500 accepted (100.00%); told meanwhile as: 500 processing;" in said
    assert "at the end: 500 succeeded." in said
    assert "limit 20: holds" in said
    assert said.endswith("counterfoil drill --seed 7 --kills 20")


def test_what_must_be_done_before_it_is_repeated_is_said() -> None:
    asked = report(note="Before, empty that database.")
    assert lines(asked)[-1] == asked.note
    assert asked.note in page.html(asked)


def test_only_what_was_ended_counts_as_a_restart() -> None:
    kill = Fault(target="worker-2", how="kill", gap=0.0)
    stop = Fault(target="worker-1", how="stop", gap=0.0, seconds=5.0)
    struck = [
        Struck(fault=kill, placed=False, seconds=2.0),
        Struck(fault=stop, placed=False, seconds=5.0),
        Struck(fault=kill, placed=True, seconds=None),
    ]
    [found] = restarts(struck)
    assert (found.kind, found.count) == ("worker ended → works again", 1)
    assert counted(struck) == {"worker-1: stop": 1, "worker-2: kill": 2}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.places += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_needs_nothing_else_and_trusts_no_text() -> None:
    evil = "<script>alert(1)</script>"
    broken = report(
        violations=[Violation("I4", "twice", evil)], planned=[evil], faults={evil: 1}, ledger=evil
    )
    for one in (report(), broken):
        made = page.html(one)
        links = _Links()
        links.feed(made)
        assert "script" not in links.tags
        assert links.places == []
        assert "prefers-color-scheme: dark" in made
        assert "counterfoil drill --seed 7" in made
    assert "&lt;script&gt;" in page.html(broken)
