"""The four records that a drill compares: the shop's log, our API, the PSP's book, webhooks."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

import aiohttp
import msgspec

from app.__main__ import ROOT
from app.cli.drill.client import Ask, Client
from app.cli.drill.house import House
from app.cli.drill.receiver import Receiver, Taken
from app.cli.drill.shop import Order

_PATIENCE = 30.0
_MANY = 10_000_000


class Records(msgspec.Struct, kw_only=True):
    """Everything that was written down, as it is once faults have stopped."""

    orders: Sequence[Order]
    asks: Sequence[Ask]
    payments: list[dict[str, Any]]
    refunds: list[dict[str, Any]]
    events: list[dict[str, Any]]
    balance: dict[str, Any]
    book: dict[str, Any]
    requests: list[dict[str, Any]]
    taken: dict[str, Taken]
    forged: int
    dead: int
    ledger: str
    ledger_holds: bool


async def collect(
    house: House, client: Client, receiver: Receiver, orders: Sequence[Order]
) -> Records:
    """Read the records. Raises TimeoutError when the API or the sandbox does not answer."""
    until = monotonic() + _PATIENCE
    book = await psp(house, "/book")
    holds, sentence = await verify(house)
    return Records(
        orders=orders,
        asks=client.asks,
        payments=await client.everything("/v1/payments", until=until),
        refunds=await client.everything("/v1/refunds", until=until),
        events=await client.everything("/v1/events", until=until),
        balance=await client.read("/v1/balance?", until=until),
        book=book,
        requests=await psp(house, f"/requests?limit={_MANY}"),
        taken=receiver.taken,
        forged=receiver.forged,
        dead=(await queued(house))["dead"],
        ledger=sentence,
        ledger_holds=holds,
    )


async def psp(house: House, path: str) -> Any:
    """Read from the sandbox's own controls. Raises aiohttp.ClientError, TimeoutError."""
    url = f"http://127.0.0.1:{house.port + 1}/_sandbox{path}"
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        answer.raise_for_status()
        return json.loads(await answer.read())


async def queued(house: House) -> dict[str, int]:
    """Return how many jobs are dead letters, and how many wait on every queue together."""
    url = f"http://127.0.0.1:{house.port}/metrics"
    headers = {
        "Host": f"localhost:{house.port}",
        "Authorization": f"Bearer {house.environment['METRICS_TOKEN']}",
    }
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, headers=headers) as answer,
    ):
        answer.raise_for_status()
        text = await answer.text()
    found = {"dead": 0, "due": 0}
    for line in text.splitlines():
        if line.startswith("counterfoil_jobs{"):
            state = line.partition('state="')[2].partition('"')[0]
            found[state] = found.get(state, 0) + int(float(line.rpartition(" ")[2]))
    return found


async def verify(house: House) -> tuple[bool, str]:
    """Run `counterfoil verify-ledger` on the database; return whether it holds, and its words."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-P", "-m", "app.cli", "verify-ledger"],
        cwd=ROOT,
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": house.url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode == 0, said.decode().strip()
