"""Rows go under their own title, after those that are there."""

from pathlib import Path

from tests.simulation import record


def test_a_row_is_added_to_the_table_of_its_title(tmp_path: Path) -> None:
    path = tmp_path / "RECORD.md"
    path.write_text(
        "# One\n\n| a | b | c |\n|---|---|---|\n\n## Two\n\n| a | b | c |\n|---|---|---|\n"
    )
    record.add("# One", "first", path=path)
    record.add("## Two", "other", path=path)
    record.add("# One", "second", path=path)
    kept = [line.rsplit("| ", 1)[-1] for line in path.read_text().splitlines() if "20" in line]
    assert kept == ["first |", "second |", "other |"]


def test_the_record_has_each_title() -> None:
    lines = record.RECORD.read_text(encoding="utf-8").splitlines()
    assert "# Histories that were played" in lines
    assert "## Outages" in lines
    assert "## Kills" in lines
    assert "## Planted bugs" in lines
