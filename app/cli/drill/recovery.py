"""How long it takes to recover, measured one fault at a time, with the settings of production."""

import asyncio
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter
from typing import Any

from app.cli.bench import load
from app.cli.drill.client import Answer, Client
from app.cli.drill.house import House
from app.cli.drill.report import Outage, Times, times
from app.cli.drill.shop import Order, Shop
from app.cli.drill.strike import gone, until_ready

# A lease is 15 seconds in production; the rest is as it comes.
PRODUCTION: Mapping[str, str] = {"GRACE_SECONDS": "2"}
_WORKER_LIMIT, _VALKEY_LIMIT, _DATABASE_LIMIT = 20.0, 30.0, 15.0
_BATCH = 30
_GIVE_UP = 120.0
_FINAL = {"succeeded", "failed", "canceled"}


async def workers(house: House, shop: Shop, client: Client, repeats: int) -> list[Times]:
    """Kill every worker with payments under way; return how long the work of each then waited.

    Taken up: the payment has changed since, which only a worker does. What had ended before is
    not counted.
    """
    taken: list[float] = []
    final: list[float] = []
    for number in range(repeats):
        orders = await shop.batch(_BATCH)
        # Sooner or later in the batch's life: claimed, at the PSP, or written down in part.
        await asyncio.sleep(0.02 + 0.05 * (number % 4))
        began = monotonic()
        for name in house.workers:
            house.signal(name, signal.SIGKILL)
        waited = await asyncio.gather(*[_taken_up(client, order, began) for order in orders])
        taken += [seconds for seconds in waited if seconds is not None]
        final += await _finals(client, orders, began)
        for name in house.workers:
            await until_ready(house, name)
    return [
        times("worker killed → its work taken up", taken, _WORKER_LIMIT),
        times("worker killed → its work done", final),
    ]


async def _taken_up(client: Client, order: Order, began: float) -> float | None:
    first: str | None = None
    while monotonic() - began < _GIVE_UP:
        answer = await client.once("GET", f"/v1/payments/{order.payment}")
        if answer.good:
            changed = str(answer.body["updated_at"])
            if first is None and answer.body["status"] in _FINAL:
                return None
            first = first or changed
            if changed != first:
                return monotonic() - began
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{order.payment} is not taken up after {_GIVE_UP:.0f} s.")


async def flushed(house: House, shop: Shop, client: Client, repeats: int) -> Times:
    """Flush Valkey with payments under way; return how long each then took to be final."""
    seconds: list[float] = []
    for _ in range(repeats):
        orders = await shop.batch(_BATCH)
        began = monotonic()
        await house.flush()
        seconds += await _finals(client, orders, began)
    return times("Valkey flushed → all rung again and done", seconds, _VALKEY_LIMIT)


async def database(house: House, shop: Shop, client: Client, repeats: int) -> Times:
    """Kill PostgreSQL; return how long until a payment is accepted again."""
    seconds = []
    for _ in range(repeats):
        began = monotonic()
        house.signal("postgres", signal.SIGKILL)
        await gone(house, "postgres")
        [order] = await shop.batch(1)
        seconds.append(monotonic() - began)
        await _finals(client, [order], began)
    return times("PostgreSQL killed → payments accepted", seconds, _DATABASE_LIMIT)


async def _finals(client: Client, orders: Sequence[Order], began: float) -> list[float]:
    """Return the seconds from `began` until each payment was final. Raises TimeoutError."""

    async def one(order: Order) -> float:
        while monotonic() - began < _GIVE_UP:
            answer = await client.once("GET", f"/v1/payments/{order.payment}")
            if answer.good and answer.body["status"] in _FINAL:
                order.told.append(answer.body["status"])
                order.done = True
                return monotonic() - began
            await asyncio.sleep(0.1)
        raise TimeoutError(f"{order.payment} is not final after {_GIVE_UP:.0f} s.")

    return list(await asyncio.gather(*[one(order) for order in orders]))


async def outage(house: House, shop: Shop, client: Client, seconds: float) -> Outage:
    """Take Valkey and the PSP down for `seconds` and go on accepting, at half of the full rate."""

    async def alone() -> None:
        await _accept(shop, client)

    full = await load.closed(alone, concurrency=8, seconds=min(5.0, seconds))
    answers: list[Answer] = []

    async def once() -> None:
        answers.append(await _accept(shop, client))

    for name in ("valkey", "sandbox"):
        house.hold(name)
    try:
        began = perf_counter()
        await load.opened(once, rate=full.rate / 2, seconds=seconds)
        took = perf_counter() - began
        told = await _told(client, answers)
    finally:
        for name in ("valkey", "sandbox"):
            house.release(name)
    for name in ("valkey", "sandbox"):
        await until_ready(house, name)
    accepted = sum(1 for answer in answers if answer.status == 201)
    return Outage(
        seconds=round(took, 1),
        rate=round(full.rate / 2, 1),
        asked=len(answers),
        accepted=accepted,
        told=dict(told),
    )


async def _accept(shop: Shop, client: Client) -> Answer:
    order = shop.plain()
    answer = await client.act_once("/v1/payments", shop.wish(order))
    order.done = True  # Nobody follows it; the PSP's book and its state at the end are compared.
    if answer.good:
        order.payment = str(answer.body["id"])
    return answer


async def _told(client: Client, answers: Sequence[Answer]) -> Counter[str]:
    """Return what the API says about some of the accepted, while nobody can be charged."""
    told: Counter[str] = Counter()
    accepted = [answer.body["id"] for answer in answers if answer.good]
    for name in accepted[:: max(1, len(accepted) // 20)]:
        answer = await client.once("GET", f"/v1/payments/{name}")
        body: dict[str, Any] = answer.body if answer.good else {"status": f"HTTP {answer.status}"}
        told[str(body["status"])] += 1
    return told
