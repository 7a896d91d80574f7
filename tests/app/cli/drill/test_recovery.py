"""Between faults and measuring: other settings count, and no breaker is measured instead."""

import asyncio
import math
import signal
from collections.abc import Callable
from typing import Any

import pytest

from app.cli.drill import recovery, strike
from app.cli.drill.client import Answer, Ask
from app.cli.drill.proxy import FAIR, Weather
from app.cli.drill.shop import Shop


@pytest.mark.parametrize(("took", "batches"), [([1.0], 1), ([9.0, 6.0, 1.0], 3), ([9.0] * 9, 5)])
async def test_measuring_begins_when_nothing_waits_for_a_breaker(
    monkeypatch: pytest.MonkeyPatch, took: list[float], batches: int
) -> None:
    sold: list[int] = []

    class _Shop:
        async def batch(self, count: int) -> list[object]:
            sold.append(count)
            return []

    async def finals(*_arguments: object) -> list[float]:
        return [0.1, took[len(sold) - 1]]

    monkeypatch.setattr(recovery, "_finals", finals)
    shop: Any = _Shop()
    client: Any = None
    await recovery.rested(shop, client)
    assert len(sold) == batches


async def test_a_batch_is_had_however_long_ago_the_last_orders_were() -> None:
    asked: list[float] = []

    class _Client:
        async def act(self, path: str, body: dict[str, Any], *, until: Callable[[], float]) -> Ask:
            asked.append(until())
            yes = Answer(201, {"id": "pay_1"})
            return Ask(path=path, key="k", body=body, answers=[yes])

    client: Any = _Client()
    shop = Shop(client, client, seed=1, rate=1.0)
    await shop.settled(0.0)
    [order] = await shop.batch(1)
    assert asked == [math.inf]
    assert order.payment == "pay_1"


async def test_workers_are_killed_before_the_psp_has_answered_every_other_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []
    clock = [0.0]

    class _House:
        workers = ("worker-1",)

        def weather(self, link: str, weather: Weather) -> None:
            happened.append("fair" if weather == FAIR else f"{link} holds {set(weather.holds)}")

        def signal(self, name: str, number: signal.Signals) -> None:
            happened.append(number.name)

        async def ready(self, name: str) -> bool:
            return True

    class _Shop:
        async def batch(self, count: int) -> list[object]:
            happened.append(f"sold {count}")
            return []

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    house: Any = _House()
    shop: Any = _Shop()
    client: Any = None
    await recovery.workers(house, shop, client, 2)
    assert happened == [
        *("worker-psp holds {'down'}", "sold 30", "SIGKILL", "fair"),
        *("fair", "sold 30", "SIGKILL", "fair"),
    ]
    assert clock[0] > 1.0  # So long they had to ask.


async def test_web_and_workers_are_ended_and_awaited() -> None:
    happened: list[tuple[str, str]] = []

    class _House:
        workers = ("worker-1", "worker-2")

        def __init__(self) -> None:
            self.living = {"web", *self.workers}

        def signal(self, name: str, number: signal.Signals) -> None:
            happened.append((name, number.name))
            self.living.remove(name)

        def alive(self, name: str) -> bool:
            return name in self.living

        def arm(self, name: str, spec: str | None) -> None:
            assert spec is None
            happened.append((name, "armed"))

        async def ready(self, name: str) -> bool:
            happened.append((name, "ready"))
            return True

    house: Any = _House()
    await strike.restart(house)
    for name in ("web", "worker-1", "worker-2"):
        assert [what for who, what in happened if who == name] == ["SIGTERM", "armed", "ready"]
