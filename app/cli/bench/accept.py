"""`counterfoil bench accept`: one web process accepts payments, next to the inserts alone."""

import argparse
from statistics import median

import msgspec
import uvloop

from app.cli.bench import load, machine
from app.cli.bench.cpu import Meter
from app.cli.bench.house import House, make_shop
from app.cli.bench.load import Run, Spread
from app.cli.bench.machine import Machine
from app.cli.bench.raw import RawInserts
from app.cli.bench.shopping import Till


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two that are compared: the median rate over the rounds, and all latencies."""

    rate: float
    rates: list[float]
    latency_ms: Spread
    cpu_ms_each: dict[str, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the benchmark found; rates are payments a second."""

    machine: Machine
    concurrency: int
    rounds: int
    api: Side
    raw: Side
    ratio: float
    half_rate: float
    half_latency_ms: Spread

    def lines(self) -> list[str]:
        """Return the report for a person."""
        return [
            f"bench accept: {self.machine.sentence()}",
            f"  API  {_side(self.api)}",
            f"  raw  {_side(self.raw)}",
            (
                f"  ratio API to raw: {self.ratio:.3f} (median of {self.rounds} interleaved rounds "
                f"with {self.concurrency} at once, one web process)"
            ),
            (
                f"  at half of the API's rate ({self.half_rate:.0f}/s, open loop): "
                f"{_spread(self.half_latency_ms)}"
            ),
            f"  CPU ms a payment by the API: {_cpu(self.api)}",
            f"  CPU ms a payment raw:        {_cpu(self.raw)}",
        ]


def _side(side: Side) -> str:
    return f"{side.rate:7.1f} payments/s   {_spread(side.latency_ms)}"


def _spread(found: Spread) -> str:
    return f"p50 {found.p50:.1f} ms, p95 {found.p95:.1f} ms, p99 {found.p99:.1f} ms"


def _cpu(side: Side) -> str:
    return ", ".join(f"{name} {ms:.2f}" for name, ms in side.cpu_ms_each.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this benchmark."""
    parser.add_argument("--concurrency", type=int, default=16, metavar="C")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of each round")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print. Raises BenchError, StartError, PostgresMissingError."""
    with House("web", database_url=arguments.database_url) as house:
        report: Report = uvloop.run(_measure(house, arguments))
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    else:
        print("\n".join(report.lines()))
    return 0


async def _measure(house: House, arguments: argparse.Namespace) -> Report:
    concurrency, seconds = arguments.concurrency, arguments.seconds
    rt = house.runtime()
    before = await machine.look(rt)
    till = Till(house, await make_shop(rt))
    await rt.close()
    raw = RawInserts(house.environment["DATABASE_URL"], concurrency)
    try:
        await raw.open(await till.pay())
        for once in (till.once, raw.once):
            await load.closed(once, concurrency=concurrency, seconds=seconds / 2)
        meters = Meter(house.pids), Meter(house.pids)
        runs: tuple[list[Run], list[Run]] = [], []
        for _ in range(arguments.rounds):
            for once, meter, made in zip((till.once, raw.once), meters, runs, strict=True):
                meter.start()
                made.append(await load.closed(once, concurrency=concurrency, seconds=seconds))
                meter.stop()
        api, limit = (_side_of(made, meter) for made, meter in zip(runs, meters, strict=True))
        half = await load.opened(till.once, rate=api.rate / 2, seconds=2 * seconds)
    finally:
        till.close()
        await raw.close()
    ratios = [ours.rate / best.rate for ours, best in zip(*runs, strict=True)]
    return Report(
        machine=before,
        concurrency=concurrency,
        rounds=arguments.rounds,
        api=api,
        raw=limit,
        ratio=round(median(ratios), 4),
        half_rate=round(half.rate, 1),
        half_latency_ms=load.spread(half.latencies),
    )


def _side_of(runs: list[Run], meter: Meter) -> Side:
    latencies = [latency for run in runs for latency in run.latencies]
    return Side(
        rate=round(median(run.rate for run in runs), 1),
        rates=[round(run.rate, 1) for run in runs],
        latency_ms=load.spread(latencies),
        cpu_ms_each=meter.milliseconds_each(len(latencies)),
    )
