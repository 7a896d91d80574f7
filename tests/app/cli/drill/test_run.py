"""How long a drill goes on, and how long it waits for what its faults have left behind."""

import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.cli.drill import run
from app.cli.drill.run import Found, Options, Stage


class _Idle:
    """A shop without orders, and a client to whom nothing was told."""

    orders: tuple[Any, ...] = ()

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


@pytest.mark.parametrize(("until", "rounds"), [(math.inf, 3), (0.0, 1)])
async def test_no_round_begins_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, until: float, rounds: int
) -> None:
    said: list[str] = []

    async def nothing(*_arguments: object) -> None:
        pass

    async def one_round(_stage: object, _faults: object, found: Found, _say: object) -> None:
        found.rounds += 1

    shop = SimpleNamespace(orders=[])
    stage = SimpleNamespace(open=nothing, close=nothing, count=lambda _found: None, shop=shop)
    monkeypatch.setattr(run, "House", lambda *_folder, **_options: nullcontext())
    monkeypatch.setattr(run, "Stage", lambda *_arguments: stage)
    monkeypatch.setattr(run, "_round", one_round)
    found = Found()
    options = Options(seed=1, folder=tmp_path, kills=60, until=until)
    await run._faults(options, found, said.append)
    assert found.rounds == rounds
    assert any("their time is over" in line for line in said) == (rounds < 3)
