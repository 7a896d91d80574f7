"""Accepting while Valkey and the PSP are both down, and whether what was said meanwhile is true."""

from collections import Counter
from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter
from typing import Any

import msgspec

from app.cli.bench import load
from app.cli.drill.client import Answer, Client
from app.cli.drill.house import House
from app.cli.drill.report import Outage
from app.cli.drill.shop import Shop
from app.cli.drill.strike import until_ready

_DOWN = ("valkey", "sandbox")
_WAITING = "processing"  # All that a charge can be of which the PSP has not heard.
_GOOD = "succeeded"
_PATIENCE = 30.0

Row = Mapping[str, Any]


async def outage(
    house: House, shop: Shop, client: Client, seconds: float
) -> tuple[Outage, list[str]]:
    """Take Valkey and the PSP down for `seconds` and go on accepting, at half of the full rate.

    Returns what came of it, and which payments were accepted.
    """

    async def alone() -> None:
        await _accept(shop, client)

    full = await load.closed(alone, concurrency=8, seconds=min(5.0, seconds))
    answers: list[Answer] = []

    async def once() -> None:
        answers.append(await _accept(shop, client))

    for name in _DOWN:
        house.hold(name)
    try:
        began = perf_counter()
        await load.opened(once, rate=full.rate / 2, seconds=seconds)
        took = perf_counter() - began
        listed = await _listed(client)
    finally:
        for name in _DOWN:
            house.release(name)
    for name in _DOWN:
        await until_ready(house, name)
    accepted = [str(answer.body["id"]) for answer in answers if answer.good]
    found = Outage(
        seconds=round(took, 1),
        rate=round(full.rate / 2, 1),
        asked=len(answers),
        accepted=len(accepted),
        told=_counted(accepted, listed or []),
        untrue=untrue(answers, listed),
    )
    return found, accepted


async def _accept(shop: Shop, client: Client) -> Answer:
    order = shop.plain()
    answer = await client.act_once("/v1/payments", shop.wish(order))
    order.done = True  # Nobody follows it; the PSP's book and its state at the end are compared.
    if answer.good:
        order.payment = str(answer.body["id"])
    return answer


async def _listed(client: Client) -> list[dict[str, Any]] | None:
    """Return what the API says about all payments while nobody can be charged; None: nothing."""
    try:
        return await client.everything("/v1/payments", until=monotonic() + _PATIENCE)
    except TimeoutError:
        return None


def untrue(answers: Sequence[Answer], listed: Sequence[Row] | None) -> list[str]:
    """Return what was said that cannot be: the PSP was down, so nobody was charged or declined."""
    if listed is None:
        return ["The list of payments was not answered."]
    rows = {row["id"]: row for row in listed}
    found: list[str] = []
    for answer in answers:
        if not answer.good:
            if answer.settled:
                found.append(f"A good order was refused for good, with HTTP {answer.status}.")
            continue
        name = answer.body["id"]
        if name not in rows:
            found.append(f"{name} was accepted and is not in the list of payments.")
        for how, row in (("answered", answer.body), ("listed", rows.get(name, {}))):
            found += _impossible(f"{name} was {how} as", row)
    return found


def _impossible(what: str, row: Row) -> list[str]:
    if row and row["status"] != _WAITING:
        return [f"{what} {row['status']}, of which the PSP could not know."]
    if row and row["amount_captured"]:
        return [f"{what} {_WAITING} with {row['amount_captured']} taken."]
    return []


def ended(out: Outage, accepted: Sequence[str], payments: Sequence[Row]) -> Outage:
    """Add how the accepted ended: each must be there and paid, because an outage fails nothing."""
    rows = {row["id"]: row["status"] for row in payments}
    wrong = [
        f"{name} was accepted during the outage and is {rows.get(name, 'not there')} at the end."
        for name in accepted
        if rows.get(name) != _GOOD
    ]
    return msgspec.structs.replace(
        out, ended=_counted(accepted, payments), untrue=[*out.untrue, *wrong]
    )


def _counted(accepted: Sequence[str], payments: Sequence[Row]) -> dict[str, int]:
    rows = {row["id"]: str(row["status"]) for row in payments}
    return dict(Counter(rows.get(name, "not there") for name in accepted))
