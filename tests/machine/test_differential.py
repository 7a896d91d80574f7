"""The same history gives the same answers on SQLite and on PostgreSQL."""

import difflib
from pathlib import Path

import pytest

from tests.machine.drawn import draw, plan
from tests.machine.ending import History
from tests.machine.world import opened

_SEEDS = range(4)
_LENGTH = 60


async def told(kind: str, template: str, folder: Path, seed: int) -> list[str]:
    """Play a history in a world of its own; return what the shop was answered."""
    async with opened(kind, template, folder, seed=seed, even=True) as world:
        world.book.plan = plan(seed)
        history = History(world)
        for name, numbers in draw(seed, _LENGTH):
            await history.play(name, **numbers)
        await history.end()
        return history.told


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", _SEEDS)
async def test_both_databases_tell_a_shop_the_same(
    database_kind: str,
    database_template: str,
    sqlite_template: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """Without PostgreSQL: the same history twice is the same, which the comparison stands on."""
    one = await told("sqlite", sqlite_template, tmp_path, seed)
    other = await told(database_kind, database_template, tmp_path, seed)
    assert one == other, "\n".join(difflib.unified_diff(one, other, "sqlite", database_kind, n=6))
