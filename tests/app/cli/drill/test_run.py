"""How long a drill waits for what its faults have left behind."""

from types import SimpleNamespace
from typing import Any

import pytest

from app.cli.drill import run
from app.cli.drill.run import Stage


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
