"""A whole drill: rounds of load and faults, each checked at its end, then recovery, measured."""

import asyncio
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, time

import msgspec

from app.cli.drill import database, outage, plan, recovery, report
from app.cli.drill.checks import Violation, check
from app.cli.drill.client import Client
from app.cli.drill.customer import Customer
from app.cli.drill.house import QUICK, House
from app.cli.drill.plan import Fault
from app.cli.drill.receiver import Receiver
from app.cli.drill.records import Records, collect, queued
from app.cli.drill.report import Outage, Report, Times
from app.cli.drill.shop import Shop
from app.cli.drill.strike import Struck, restart, strike

Say = Callable[[str], None]
_DRAIN_SECONDS = 180.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to drill: `kills` signals in rounds of `round_kills`, at `rate` orders a second.

    `outage` is how many seconds Valkey and the PSP are both down; `repeats` how often each kind
    of recovery is measured (0: not at all). After `until`, seconds since 1970, no further round
    begins; one is run in any case.
    """

    seed: int
    folder: Path
    kills: int = 20
    round_kills: int = 20
    rate: float = 4.0
    repeats: int = 3
    outage: float = 10.0
    postgres: bool = False
    database_url: str | None = None
    until: float = math.inf

    @property
    def measures(self) -> bool:
        """Whether anything but faults under load was asked for."""
        return bool(self.repeats or self.outage)

    @property
    def sizes(self) -> str:
        """The arguments that say what is done and how much of it, wherever it is."""
        load = f"--rate {self.rate:g} --repeats {self.repeats} --outage {self.outage:g}"
        return f"--seed {self.seed} --kills {self.kills} {load}"

    @property
    def command(self) -> str:
        """The command that plays the same drill again, without any password."""
        where = " --postgres" if self.postgres else ""
        if self.database_url is not None:
            where = f" --database-url {shlex.quote(database.shown(self.database_url))}"
        return f"counterfoil drill {self.sizes}{where}"

    @property
    def note(self) -> str:
        """What to do before that command, if anything."""
        if self.database_url is None:
            return ""
        hidden = database.PLACEHOLDER in database.shown(self.database_url)
        password = f", and put its password for {database.PLACEHOLDER}" if hidden else ""
        return f"Before, empty that database{password}."


class Found(msgspec.Struct, kw_only=True):
    """What the parts of a drill have found so far."""

    planned: list[str] = []
    struck: list[Struck] = []
    violations: list[Violation] = []
    recovery: list[Times] = []
    outage: Outage | None = None
    orders: int = 0
    accepted: int = 0
    on_page: int = 0
    requests: int = 0
    unanswered: int = 0
    webhooks: int = 0
    ledger: str = ""
    rounds: int = 0


class Stage:
    """An installation with a shop in front of it."""

    def __init__(self, house: House, seed: int, rate: float, say: Say) -> None:
        self.house = house
        self.say = say
        port, host = house.links["shop-api"].port, f"localhost:{house.port}"
        self.client = Client(port, host, str(house.story["api_key"]), seed)
        self.receiver = Receiver()
        self.customer = Customer(port, host)
        self.shop = Shop(self.client, self.customer, seed=seed, rate=rate)

    async def open(self) -> None:
        """Let the shop hear of everything. Raises TimeoutError."""
        line = await self.house.lay("worker-shop", await self.receiver.start())
        url = f"http://localhost:{line}/hooks"
        ends = monotonic() + _DRAIN_SECONDS
        ask = await self.client.act("/v1/webhook_endpoints", {"url": url}, until=lambda: ends)
        if not ask.accepted:
            raise TimeoutError("the webhook endpoint could not be made.")
        self.receiver.trust(str(ask.accepted[0].body["secret"]))
        self.client.asks.remove(ask)

    async def close(self) -> None:
        """Close what the shop holds."""
        await self.shop.abandon()
        self.receiver.stop()
        await self.customer.close()
        await self.client.close()

    async def check(self, found: Found) -> Records:
        """Wait until nothing is under way, then compare the records."""
        began = monotonic()
        await self.shop.settled(_DRAIN_SECONDS)
        self.say(f"  every order has ended after {monotonic() - began:.1f} s")
        await self._drained()
        self.say(f"  no work is left after {monotonic() - began:.1f} s")
        records = await collect(self.house, self.client, self.receiver, self.shop.orders)
        found.violations += check(records)
        found.ledger = records.ledger.splitlines()[0] if records.ledger else ""
        return records

    async def _drained(self) -> None:
        """Wait until no work is left and the shop was told everything.

        The patience begins anew while the work grows less: a slow machine needs minutes for what
        came in during an outage. What is left when it ends, the checks tell.
        """
        # The end of each page's time is a job for tomorrow, also of one that was ended today.
        pages = sum(1 for order in self.shop.orders if order.kind == "page")
        ends, fewest = monotonic() + _DRAIN_SECONDS, math.inf
        while monotonic() < ends:
            await asyncio.sleep(0.5)
            due = (await queued(self.house))["due"]
            if due < fewest:
                fewest, ends = due, monotonic() + _DRAIN_SECONDS
            if due > pages or await self.shop.tidy():
                continue
            events = await self.client.everything("/v1/events", until=ends)
            if {event["id"] for event in events} <= set(self.receiver.taken):
                return

    def count(self, found: Found) -> None:
        """Add what this shop did to what was found."""
        found.orders += len(self.shop.orders)
        asks = [ask for ask in self.client.asks if ask.path == "/v1/payments"]
        found.accepted += sum(1 for ask in asks if ask.accepted)
        found.on_page += sum(1 for order in self.shop.orders if order.on_page)
        found.requests += self.client.requests
        found.unanswered += self.client.unanswered
        found.webhooks += self.receiver.received


async def drill(options: Options, say: Say) -> Report:
    """Run a drill. Raises StartError, PostgresMissingError, TimeoutError."""
    began, found = monotonic(), Found()
    house = House(
        options.folder,
        seed=options.seed,
        postgres=options.postgres,
        database_url=options.database_url,
        settings=QUICK if options.kills else recovery.PRODUCTION,
    )
    if options.kills or options.measures:
        async with house:
            await _parts(house, options, found, say)
    return Report(
        seed=options.seed,
        command=options.command,
        note=options.note,
        database=house.database,
        versions=report.versions(house.database),
        seconds=round(monotonic() - began, 1),
        rounds=found.rounds,
        planned=found.planned,
        kills=sum(1 for one in found.struck if one.fault.kills),
        placed=sum(1 for one in found.struck if one.placed),
        faults=report.counted(found.struck),
        orders=found.orders,
        accepted=found.accepted,
        on_page=found.on_page,
        requests=found.requests,
        unanswered=found.unanswered,
        webhooks=found.webhooks,
        ledger=found.ledger,
        recovery=[*report.restarts(found.struck), *found.recovery],
        outage=found.outage,
        violations=found.violations,
    )


def planned(options: Options) -> list[tuple[Fault, ...]]:
    """Return the faults of each round; the same for the same seed, database and sizes."""
    rounds, rest = divmod(options.kills, options.round_kills)
    sizes = [options.round_kills] * rounds + ([rest] if rest else [])
    return plan.draw(
        options.seed,
        sizes=sizes,
        lease=float(QUICK["LEASE_SECONDS"]),
        postgres=options.postgres,
    )


async def _parts(house: House, options: Options, found: Found, say: Say) -> None:
    """Break, then measure: in one installation, because a database of the user's is one."""
    stage = Stage(house, options.seed, options.rate, say)
    try:
        await stage.open()
        if options.kills:
            await _faults(stage, options, found, say)
        # What comes after a wrong state says nothing new.
        if options.measures and not found.violations:
            if options.kills:
                house.settle(recovery.PRODUCTION)
                await restart(house)
                if not await recovery.rested(stage.shop, stage.client):
                    say("the PSP is still asked slowly after the faults, which is measured, too")
            await _recovery(stage, options, found, say)
    finally:
        stage.count(found)
        await stage.close()


async def _faults(stage: Stage, options: Options, found: Found, say: Say) -> None:
    rounds = planned(options)
    for number, faults in enumerate(rounds, 1):
        found.planned += [f"round {number}: {fault.sentence()}" for fault in faults]
        await _round(stage, faults, found, say)
        say(
            f"round {number} of {len(rounds)}: {len(faults)} faults, "
            f"{len(stage.shop.orders)} orders so far, "
            f"{len(found.violations)} violations"
        )
        if found.violations:
            break  # What comes after a wrong state says nothing new.
        if time() > options.until and number < len(rounds):
            say(f"no more than {number} of {len(rounds)} rounds: their time is over")
            break


async def _round(stage: Stage, faults: Sequence[Fault], found: Found, say: Say) -> None:
    selling = asyncio.create_task(stage.shop.sell())
    try:
        found.struck += await strike(stage.house, faults, say)
    finally:
        stage.shop.stop()
        await selling
    say(f"  faults stop after {len(stage.shop.orders)} orders")
    await stage.check(found)
    found.rounds += 1


async def _recovery(stage: Stage, options: Options, found: Found, say: Say) -> None:
    house, shop, client = stage.house, stage.shop, stage.client
    if options.repeats:
        say("measuring how long recovery takes, with the leases of production")
        found.recovery += await recovery.workers(house, shop, client, options.repeats)
        found.recovery.append(await recovery.flushed(house, shop, client, options.repeats))
        if options.postgres:
            took = await recovery.database(house, shop, client, options.repeats)
            found.recovery.append(took)
    accepted: list[str] = []
    if options.outage:
        say(f"Valkey and the PSP are both down for {options.outage:.0f} s")
        found.outage, accepted = await outage.outage(house, shop, client, options.outage)
    records = await stage.check(found)
    if found.outage is not None:
        found.outage = outage.ended(found.outage, accepted, records.payments)
