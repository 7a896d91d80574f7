"""How long it takes to recover, measured one fault at a time, with the settings of production."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from time import monotonic

from app.cli.drill.client import Client
from app.cli.drill.house import House
from app.cli.drill.proxy import FAIR, Weather
from app.cli.drill.report import Times, times
from app.cli.drill.shop import Order, Shop
from app.cli.drill.strike import gone, until_ready

# A lease is 15 seconds in production; the rest is as it comes.
PRODUCTION: Mapping[str, str] = {"GRACE_SECONDS": "2"}
_WORKER_LIMIT, _VALKEY_LIMIT, _DATABASE_LIMIT = 20.0, 30.0, 15.0
_BATCH = 30
_PSP_LINE, _UNANSWERED = "worker-psp", Weather(holds=frozenset({"down"}))
_BATCHES, _AT_REST = 5, 5.0
_GIVE_UP = 120.0
_FINAL = {"succeeded", "failed", "canceled"}


async def rested(shop: Shop, client: Client) -> bool:
    """Sell until the work of a batch waits for nothing: the PSP is asked slowly after many faults.

    What was measured before that would be the breakers' patience and no recovery. False: it still
    waits.
    """
    for _ in range(_BATCHES):
        orders = await shop.batch(_BATCH)
        if max(await _finals(client, orders, monotonic())) < _AT_REST:
            return True
    return False


async def workers(house: House, shop: Shop, client: Client, repeats: int) -> list[Times]:
    """Kill every worker with payments under way; return how long the work of each then waited.

    Every other time all that the workers could take at once has reached the PSP, and no answer has
    come. Taken up: the payment has changed since, which only a worker does. What had ended before
    is not counted.
    """
    taken: list[float] = []
    final: list[float] = []
    for number in range(repeats):
        unanswered = number % 2 == 0
        house.weather(_PSP_LINE, _UNANSWERED if unanswered else FAIR)
        orders = await shop.batch(_BATCH)
        # Else sooner or later in the batch's life: claimed, at the PSP, or written down in part.
        await asyncio.sleep(1.0 if unanswered else 0.02 + 0.05 * (number % 8))
        began = monotonic()
        for name in house.workers:
            house.signal(name, signal.SIGKILL)
        house.weather(_PSP_LINE, FAIR)
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
        pid = house.pid("postgres")
        house.signal("postgres", signal.SIGKILL)
        await gone(house, "postgres", pid)
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
