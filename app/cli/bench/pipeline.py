"""`counterfoil bench pipeline`: the whole way of a payment, from our API to the shop's server."""

import argparse
import asyncio
from time import perf_counter

import msgspec
import uvloop

from app.audit.operations import command
from app.cli.bench import load, machine, sandbox, stages
from app.cli.bench.cpu import Meter
from app.cli.bench.house import House, Shop, make_shop
from app.cli.bench.load import Spread
from app.cli.bench.machine import Machine
from app.cli.bench.receiver import Receiver
from app.cli.bench.sandbox import Alone
from app.cli.bench.shopping import Till
from app.cli.bench.stages import Statement
from app.runtime import Runtime
from app.verification.queries import Report as Verdict
from app.verification.queries import verify
from app.webhooks import operations as webhooks

_PATIENCE = 60.0
_SHOWN = 12


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the benchmark found; rates are a second, latencies from acceptance."""

    machine: Machine
    payments: int
    concurrency: int
    rate: float
    api_latency_ms: Spread
    stage_latency_ms: dict[str, Spread]
    cpu_ms_each: dict[str, float]
    webhooks_each: float
    psp_calls_each: float
    statements_each: float | None
    statements: list[Statement]
    sandbox_alone: Alone
    verdict: Verdict

    def lines(self) -> list[str]:
        """Return the report for a person."""
        total = sum(self.cpu_ms_each.values())
        cpu = ", ".join(f"{name} {ms:.1f}" for name, ms in self.cpu_ms_each.items())
        counted = "unknown" if self.statements_each is None else f"{self.statements_each:.1f}"
        alone = self.sandbox_alone
        return [
            f"bench pipeline: {self.machine.sentence()}",
            (
                f"  {self.rate:.1f} payments/s end to end ({self.payments} payments, "
                f"{self.concurrency} on their way at once)"
            ),
            f"  {'API answered':22}{_spread(self.api_latency_ms)}",
            *(f"  {name:22}{_spread(found)}" for name, found in self.stage_latency_ms.items()),
            f"  CPU ms a payment: {cpu}; together {total:.1f}",
            (
                f"  a payment takes {self.psp_calls_each:.2f} PSP calls, {self.webhooks_each:.2f} "
                f"webhooks and {counted} statements"
            ),
            *(
                f"    {one.calls_each:6.2f} x {one.ms_each:7.3f} ms  {one.text[:100]}"
                for one in self.statements[:_SHOWN]
            ),
            (
                f"  the sandbox alone: {alone.rate:.1f} charges/s, {_spread(alone.latency_ms)}, "
                f"CPU ms a charge {alone.cpu_ms_each.get('sandbox', 0.0):.1f}"
            ),
            f"  {self.verdict.sentence()}",
        ]


def _spread(found: Spread) -> str:
    return f"p50 {found.p50:8.1f} ms   p95 {found.p95:8.1f} ms   p99 {found.p99:8.1f} ms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this benchmark."""
    parser.add_argument("--payments", type=int, default=300, metavar="N")
    parser.add_argument("--concurrency", type=int, default=16, metavar="C")
    parser.add_argument("--warm-up", type=int, default=40, metavar="N", help="not measured")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 when the ledger does not hold afterwards.

    Raises BenchError, StartError, PostgresMissingError.
    """
    programs = ("sandbox", "web", "worker")
    url = arguments.database_url
    with House(*programs, database_url=url, libraries="pg_stat_statements") as house:
        report: Report = uvloop.run(_measure(house, arguments))
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    else:
        print("\n".join(report.lines()))
    return 0 if report.verdict.holds else 1


async def _measure(house: House, arguments: argparse.Namespace) -> Report:
    rt, receiver = house.runtime(), Receiver("payment.succeeded")
    try:
        before = await machine.look(rt)
        shop = await make_shop(rt)
        await _listen(rt, shop, await receiver.start())
        way = _Way(Till(house, shop), receiver, arguments.concurrency)
        await way.send(arguments.warm_up)
        await stages.settled(rt, _PATIENCE)
        return await _run(house, rt, way, before, arguments.payments)
    finally:
        receiver.stop()
        await rt.close()


async def _run(house: House, rt: Runtime, way: "_Way", before: Machine, payments: int) -> Report:
    counted = await stages.count_statements(rt)
    calls, taken = await sandbox.count_calls(house), way.receiver.received
    meter = Meter(house.pids)
    meter.start()
    began = perf_counter()
    sent = await way.send(payments)
    seconds = await stages.settled(rt, _PATIENCE) - began
    meter.stop()
    statements = await stages.statements(rt, payments) if counted else []
    calls = await sandbox.count_calls(house) - calls
    taken = way.receiver.received - taken
    times = await stages.latencies(rt, list(sent))
    async with rt.sessions.snapshot() as session:
        verdict = await verify(session)
    way.till.close()
    return Report(
        machine=before,
        payments=payments,
        concurrency=way.concurrency,
        rate=round(payments / seconds, 2),
        api_latency_ms=load.spread(list(sent.values())),
        stage_latency_ms=times,
        cpu_ms_each=meter.milliseconds_each(payments),
        webhooks_each=taken / payments,
        psp_calls_each=calls / payments,
        statements_each=sum(one.calls_each for one in statements) if counted else None,
        statements=statements,
        sandbox_alone=await sandbox.measure(house, concurrency=way.concurrency, seconds=3.0),
        verdict=verdict,
    )


async def _listen(rt: Runtime, shop: Shop, url: str) -> None:
    checked = await rt.egress.check_url(url)
    async with rt.sessions.begin() as session:
        await webhooks.create_endpoint(
            session,
            merchant_id=shop.merchant_id,
            livemode=False,
            actor=command("bench"),
            ids=rt.ids,
            sealer=rt.sealer,
            now=rt.clock(),
            url=checked,
            event_types=[],
        )


class _Way:
    """Sends payments in a closed loop: the next begins when the shop knows that one is paid."""

    def __init__(self, till: Till, receiver: Receiver, concurrency: int) -> None:
        self.till = till
        self.receiver = receiver
        self.concurrency = concurrency

    async def send(self, count: int) -> dict[str, float]:
        """Send payments; return each id with the seconds until our API had accepted it."""
        sent: dict[str, float] = {}
        numbers = iter(range(count))

        async def lane() -> None:
            for _ in numbers:
                start = perf_counter()
                payment_id = await self.till.pay()
                sent[payment_id] = perf_counter() - start
                await self.receiver.wait_for(payment_id, _PATIENCE)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(lane())
        return sent
