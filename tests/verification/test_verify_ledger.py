"""`counterfoil verify-ledger`, run as a person would run it."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from app.__main__ import ROOT
from app.cli import migrate
from app.runtime import Runtime
from tests.verification.support import add_payment, fill


async def run(url: str | None, *options: str) -> tuple[int | None, str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DATABASE_URL", None)
    if url is not None:
        environment["DATABASE_URL"] = url
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        "verify-ledger",
        *options,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


async def test_it_says_in_one_line_what_holds(rt: Runtime, database_url: str) -> None:
    await fill(rt)
    code, out, _ = await run(database_url)
    assert code == 0
    assert out.startswith("I1, I2, I4, I5, I10, I13, I14, I16 hold: ")
    assert out.count("\n") == 1


async def test_it_names_the_row_that_does_not_hold(rt: Runtime, database_url: str) -> None:
    await add_payment(rt, 1, amount_captured=1)
    code, out, _ = await run(database_url)
    assert code == 1
    first = out.splitlines()[0]
    assert first.startswith("I4 does not hold (what a payment captured")
    assert "payment pay_1: captured 1 of 10000" in first


async def test_it_prints_the_report_as_json(rt: Runtime, database_url: str) -> None:
    await add_payment(rt, 1, amount_captured=1)
    code, out, _ = await run(database_url, "--json")
    report = json.loads(out)
    assert code == 1
    assert report["holds"] is False
    assert {found["invariant"] for found in report["violations"]} >= {"I4"}
    assert report["violations"][0]["row"] == "payment pay_1"


async def test_it_finds_the_database_in_the_folder_of_up(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'counterfoil.db'}"
    await asyncio.to_thread(migrate.upgrade, url)
    code, out, error = await run(None, "--data", str(tmp_path))
    assert (code, error) == (0, "")
    assert out.startswith("I1, I2, I4, I5, I10, I13, I14, I16 hold: ")


async def test_a_database_that_is_named_comes_before_the_folder(
    rt: Runtime, database_url: str, tmp_path: Path
) -> None:
    await add_payment(rt, 1, amount_captured=1)
    (tmp_path / "counterfoil.db").touch()
    code, out, _ = await run(database_url, "--data", str(tmp_path))
    assert code == 1
    assert "payment pay_1" in out


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        (None, 1, "DATABASE_URL is missing, and "),
        ("sqlite+aiosqlite:////nowhere/at/all.db", 2, "the ledger cannot be read"),
    ],
)
async def test_a_database_that_cannot_be_read_is_told_in_one_sentence(
    tmp_path: Path, url: str | None, code: int, said: str
) -> None:
    found, out, error = await run(url, "--data", str(tmp_path))
    assert (found, out) == (code, "")
    assert said in error
    assert "Traceback" not in error
