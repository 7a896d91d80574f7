"""Between faults and measuring: other settings count, and no breaker is measured instead."""

import asyncio
import math
import signal
from collections.abc import Callable
from typing import Any

import pytest

from app.cli.drill import recovery, strike
from app.cli.drill.client import Answer, Ask
from app.cli.drill.plan import Fault
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

        def pid(self, name: str) -> int:
            return 1

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


class _Replaced:
    """A house in which the next process is there before anybody has seen the last one gone."""

    def __init__(self, lives: list[int], fires: int) -> None:
        self.lives = lives
        self.fires = fires  # The life in which the failpoint strikes.
        self.signals: list[signal.Signals] = []

    def pid(self, _name: str) -> int:
        return self.lives[0]

    def alive(self, _name: str) -> bool:
        return True

    async def ready(self, _name: str) -> bool:
        return True

    def fired(self, _name: str, _spec: str) -> bool:
        """Its process is gone by then, and another one has begun."""
        struck = self.lives[0] == self.fires and len(self.lives) > 1
        if struck:
            self.lives.pop(0)
        return struck

    def signal(self, _name: str, number: signal.Signals) -> None:
        self.signals.append(number)


async def test_a_process_whose_place_was_taken_at_once_is_not_killed_again() -> None:
    """What came in its place was waited for, and killed, after twelve seconds."""
    house: Any = _Replaced([7, 8], fires=7)
    fault = Fault(target="worker-1", how="kill", gap=0.0, place="jobs.after_claim", nth=1)
    assert await strike._happens(house, "worker-1", fault) == 7
    assert await strike._ended(house, "worker-1", fault, 7)
    assert house.signals == []
