"""What parts a drill has and on which database, how long it goes on and waits, how to repeat it."""

import argparse
import asyncio
import base64
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from app.cli.drill import add_arguments, outage, recovery, report, run
from app.cli.drill.checks import Violation
from app.cli.drill.client import Answer, Ask
from app.cli.drill.house import QUICK, House
from app.cli.drill.plan import WORKERS
from app.cli.drill.proxy import Link
from app.cli.drill.receiver import Receiver
from app.cli.drill.report import Outage, times
from app.cli.drill.run import Found, Options, Stage
from app.cli.programs import SANDBOX_CONNECTION


class _Idle:
    """A shop without orders, and a client to whom nothing was told."""

    orders: tuple[Any, ...] = ()
    asked: dict[str, Any]

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    async def act(self, path: str, body: dict[str, Any], *, until: object) -> Ask:
        self.asked = body
        secret = f"whsec_{base64.b64encode(bytes(24)).decode()}"
        self.asks.append(Ask(path=path, key="k", body=body, answers=[]))
        self.asks[0].answers.append(Answer(201, {"id": "we_1", "secret": secret}))
        return self.asks[0]

    async def tidy(self) -> int:
        return 0

    async def everything(self, _path: str, *, until: float) -> list[dict[str, Any]]:
        return []


@pytest.mark.parametrize(
    ("left", "looks"),
    [([5, 4, 3, 2, 1, 0], 6), ([5, 5, 5, 5, 5, 0], 3), ([5, 4, 4, 4, 4, 0], 4)],
    ids=["grows less", "stands", "stands later"],
)
async def test_a_drill_waits_as_long_as_the_work_grows_less(
    monkeypatch: pytest.MonkeyPatch, left: list[int], looks: int
) -> None:
    """Each look takes 100 of the 180 seconds that nothing may change for."""
    now, asked = 0.0, 0

    async def queued(_house: object) -> dict[str, int]:
        nonlocal now, asked
        now, asked = now + 100.0, asked + 1
        return {"due": left[asked - 1]}

    async def sleep(_seconds: float) -> None:
        pass

    monkeypatch.setattr(run, "monotonic", lambda: now)
    monkeypatch.setattr(run, "queued", queued)
    monkeypatch.setattr(run, "asyncio", SimpleNamespace(sleep=sleep))
    stage = Stage.__new__(Stage)
    nobody: Any = _Idle()
    stage.house, stage.shop, stage.client = nobody, nobody, nobody
    stage.receiver = SimpleNamespace(taken={})  # type: ignore[assignment] # All that is read.
    await stage._drained()
    assert asked == looks


class _Played:
    """Stands in for an installation and for the shop before it, and notes what happens to them."""

    database = "SQLite"
    client = None

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.houses: list[dict[str, Any]] = []
        self.done: list[str] = []
        self.violations: list[Violation] = []
        self.shop = SimpleNamespace(orders=[])
        self.house = self
        monkeypatch.setattr(run, "House", self._opened)
        monkeypatch.setattr(run, "Stage", lambda *_arguments: self)
        monkeypatch.setattr(run, "_round", self._round)
        monkeypatch.setattr(run, "restart", self._noted("restart"))
        out = Outage(seconds=1.0, rate=1.0, asked=1, accepted=1, told={})
        monkeypatch.setattr(outage, "outage", self._noted("outage", (out, ["pay_1"])))
        monkeypatch.setattr(recovery, "rested", self._noted("rested"))
        monkeypatch.setattr(recovery, "workers", self._noted("workers", []))
        monkeypatch.setattr(recovery, "flushed", self._noted("flushed", times("x", [1.0])))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.done.append("gone")

    def _opened(self, _folder: Path, **options: Any) -> Self:
        self.houses.append(options)
        return self

    def _noted(self, name: str, result: Any = None) -> Any:
        async def one(*_arguments: object) -> Any:
            self.done.append(name)
            return result

        return one

    async def _round(self, _stage: object, _faults: object, found: Found, _say: object) -> None:
        self.done.append("round")
        found.rounds += 1
        found.violations += self.violations

    def settle(self, settings: Mapping[str, str]) -> None:
        self.done.append("settle")
        assert settings is recovery.PRODUCTION

    async def open(self) -> None:
        self.done.append("open")

    async def check(self, _found: Found) -> Any:
        self.done.append("check")
        return SimpleNamespace(payments=[{"id": "pay_1", "status": "failed"}])

    async def close(self) -> None:
        self.done.append("close")

    def count(self, _found: Found) -> None:
        pass


URL = "postgresql+asyncpg://shop:secret@db/payments"


async def test_all_parts_of_a_drill_use_the_database_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = _Played(monkeypatch)
    options = Options(seed=1, folder=tmp_path, kills=1, database_url=URL)
    found = await run.drill(options, lambda _text: None)
    [house] = played.houses
    assert house["database_url"] == URL
    assert house["settings"] is QUICK
    parts = ["settle", "restart", "rested", "workers", "flushed", "outage", "check"]
    assert played.done == ["open", "round", *parts, "close", "gone"]
    assert found.outage is not None
    assert found.outage.untrue == ["pay_1 was accepted during the outage and is failed at the end."]
    assert not found.holds
    assert "secret" not in "".join(report.lines(found))


async def test_without_kills_recovery_is_measured_from_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = _Played(monkeypatch)
    options = Options(seed=1, folder=tmp_path, kills=0, outage=0.0)
    await run.drill(options, lambda _text: None)
    assert played.houses[0]["settings"] is recovery.PRODUCTION
    assert played.done == ["open", "workers", "flushed", "check", "close", "gone"]


async def test_nothing_is_measured_after_a_wrong_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = _Played(monkeypatch)
    played.violations = [Violation("I4", "twice", "pay_1 was charged 2 times")]
    found = await run.drill(Options(seed=1, folder=tmp_path, kills=40), lambda _text: None)
    assert played.done == ["open", "round", "close", "gone"]
    assert not found.holds


@pytest.mark.parametrize(
    ("database", "end", "note"),
    [
        ({}, "", ""),
        ({"postgres": True}, " --postgres", ""),
        (
            {"database_url": "postgresql+asyncpg://db/payments?ssl=a&user=b"},
            " --database-url 'postgresql+asyncpg://db/payments?ssl=a&user=b'",
            "Before, empty that database.",
        ),
        (
            {"database_url": URL},
            " --database-url postgresql+asyncpg://shop:PASSWORD@db/payments",
            "Before, empty that database, and put its password for PASSWORD.",
        ),
    ],
)
def test_the_command_plays_the_same_drill_again(
    tmp_path: Path, database: dict[str, Any], end: str, note: str
) -> None:
    options = Options(
        seed=7, folder=tmp_path, kills=40, rate=2.5, repeats=1, outage=8.0, **database
    )
    sizes = "--seed 7 --kills 40 --rate 2.5 --repeats 1 --outage 8"
    assert options.command == f"counterfoil drill {sizes}{end}"
    assert options.note == note
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    again = parser.parse_args(shlex.split(options.command)[2:])
    named = [again.seed, again.kills, again.rate, again.repeats, again.outage, again.postgres]
    assert named == [7, 40, 2.5, 1, 8.0, options.postgres]


def test_a_drill_has_one_database() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--postgres", "--database-url", URL])


def test_the_number_of_workers_and_the_name_follow_the_database(tmp_path: Path) -> None:
    lite = House(tmp_path, seed=1, database_url="sqlite+aiosqlite:///some.db")
    assert (lite.database, lite.workers) == ("SQLite", WORKERS[:1])
    assert House(tmp_path, seed=1).workers == WORKERS[:1]
    for made in (
        House(tmp_path, seed=1, database_url=URL),
        House(tmp_path, seed=1, postgres=True),
    ):
        assert (made.database, made.workers) == ("PostgreSQL", WORKERS)


def test_events_of_the_psp_come_over_a_line_of_ours(tmp_path: Path) -> None:
    house = House(tmp_path, seed=1)
    house.port = 5000
    house.environment = {
        "DATABASE_URL": "sqlite+aiosqlite:///x.db",
        "REDIS_URL": "redis://127.0.0.1",
        "DATA_DIR": str(tmp_path),
        "PORT": "5000",
        "PUBLIC_URL": "http://localhost:5000",
        "SANDBOX_URL": "http://127.0.0.1:5001",
    }
    house.links["psp-api"] = Link("psp-api", 5000, seed=1)
    house.links["psp-api"].port = 6000
    url = house._sandbox().environment["SANDBOX_WEBHOOK_URL"]
    assert url == f"http://localhost:6000/psp/{SANDBOX_CONNECTION}/events"


async def test_the_shop_hears_of_everything_over_a_line_of_ours(tmp_path: Path) -> None:
    stage = Stage.__new__(Stage)
    stage.house, stage.receiver = House(tmp_path, seed=1), Receiver()
    client: Any = _Idle()
    stage.client = client
    try:
        await stage.open()
        line = stage.house.links["worker-shop"]
        assert client.asked == {"url": f"http://localhost:{line.port}/hooks"}
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"POST /hooks HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")  # Nobody has signed it.
        writer.close()
    finally:
        stage.receiver.stop()
        await stage.house.links["worker-shop"].stop()
    assert stage.receiver.forged == 1


def test_other_settings_take_the_place_of_those_before(tmp_path: Path) -> None:
    house = House(tmp_path, seed=1)
    programs = {
        name: SimpleNamespace(environment={"LEASE_SECONDS": "3", "PORT": "1", "GRACE_SECONDS": "1"})
        for name in ("web", "worker-1")
    }
    house.supervisor = SimpleNamespace(program=programs.__getitem__)  # type: ignore[assignment] # All that is read.
    house.settle(recovery.PRODUCTION)
    for program in programs.values():
        assert program.environment == {"PORT": "1", "GRACE_SECONDS": "2"}


@pytest.mark.parametrize(("until", "rounds"), [(math.inf, 3), (0.0, 1)])
async def test_no_round_begins_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, until: float, rounds: int
) -> None:
    said: list[str] = []
    _Played(monkeypatch)
    options = Options(seed=1, folder=tmp_path, kills=60, repeats=0, outage=0.0, until=until)
    found = await run.drill(options, said.append)
    assert found.rounds == rounds
    assert any("their time is over" in line for line in said) == (rounds < 3)
