"""One history: a house, its shops, a stretch of faults, then peace until all is final."""

import asyncio
import gc
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from app.audit.operations import SYSTEM
from app.merchants import operations as merchants
from app.psp import registry
from app.webhooks import operations as webhooks
from tests.simulation import checker
from tests.simulation import moves as moves  # Listens from here on.
from tests.simulation.desk import Desk
from tests.simulation.letters import Letters
from tests.simulation.loop import Deadlock, unheard
from tests.simulation.shops import Sale, Shop, by_hand
from tests.simulation.sqlite_store import SqliteStore
from tests.simulation.store import Store
from tests.simulation.world import WITHOUT_ROOM, World

PAYMENTS = 20
FEWEST_FAULTS = 10
_HELD = "SELECT merchant_id, id FROM payments WHERE status = 'requires_capture' ORDER BY id"
_WAITS_FOR_LETTER = f"""
  SELECT 1 FROM jobs j LEFT JOIN payments p ON p.id = j.payment_id
  WHERE j.state = 'dead' AND (p.status IN ('processing', 'requires_action')
    OR j.kind = 'inbox.apply' AND NOT {WITHOUT_ROOM}) LIMIT 1"""
_WARM = 3
_played: list[int] = []
_SETTLES_WITHIN = timedelta(days=8)  # Of virtual time, after the faults have ended.


class Ended(msgspec.Struct, kw_only=True):
    """What became of a history."""

    seed: int
    violations: list[str]
    story: list[tuple[float, str, str]]
    log: str
    statements: int
    steps: int
    payments: int
    faults: int
    kinds: dict[str, int]
    virtual: float
    settled_after: float


class History:
    """Plays one seed."""

    most_statements = 60_000  # Several times the longest history: it goes round in circles.

    def __init__(
        self,
        seed: int,
        *,
        payments: int = PAYMENTS,
        make_store: Callable[[Path], Store] = SqliteStore,
        risks: bool = True,
    ) -> None:
        if len(_played) < _WARM:
            # What the first histories leave behind (modules, tables, compiled statements) stays.
            # Out of the collector's sight it costs the later ones nothing.
            gc.collect()
            gc.freeze()
            _played.append(seed)
        self.seed = seed
        self.world = World(seed, make_store=make_store, risks=risks)
        self.random = random.Random(f"{seed}:history")
        self._payments = payments
        self.settled_after = 0.0
        self.letters = Letters(self.world, self.random)
        self.desk = Desk(self.world)

    def play(self) -> Ended:
        """Play it to its end and check it."""
        world = self.world
        self.carry_through()
        return Ended(
            seed=self.seed,
            violations=world.violations,
            story=world.story,
            log=world.log_hash(),
            statements=world.statements,
            steps=world.loop.steps,
            payments=sum(len(set(shop.payments)) for shop in world.shops),
            faults=world.faults.total,
            kinds=dict(world.faults.counts),
            virtual=world.loop.time(),
            settled_after=self.settled_after,
        )

    def carry_through(self) -> None:
        """Play it and take the world down; whatever breaks is a violation."""
        world = self.world
        gc.disable()
        try:
            world.loop.run_until_complete(self._play())
        except Deadlock as error:
            world.broken("I21", str(error))
        except Exception as error:  # noqa: BLE001 - a broken harness must show up as a failure.
            world.broken("harness", repr(error))
        finally:
            world.close()
            gc.enable()

    async def _play(self) -> None:
        world = self.world
        await self._furnish()
        world.start()
        world.faults.active = True
        sales = [
            Sale(world.shops[number % len(world.shops)], number) for number in range(self._payments)
        ]
        playing = [world.outside(sale.play()) for sale in sales]
        trouble = world.outside(self._trouble(playing))
        hands = world.outside(self._hands(playing))
        warp = world.watching(self._warp())
        await asyncio.wait(playing)
        await trouble
        await hands
        for task in playing:
            task.result()
        self._peace()
        began = world.loop.time()
        await world.watching(self._settle())
        self.settled_after = world.loop.time() - began
        warp.cancel()
        await checker.check(self)

    async def _furnish(self) -> None:
        """Make shops with an address each, in a process of its own that then ends."""
        world = self.world
        process = world.spawn("setup")
        await process.start(self._furnished(process.rt))
        world.ended = True  # Nobody is started in its place.
        process.crash("as its work is done")
        world.ended = False

    async def _furnished(self, rt: Any) -> None:
        world = self.world
        async with rt.sessions.begin() as session:
            await registry.ensure_rows(session, rt.connections, now=rt.clock())
            for name in ("anna", "ben", "carl"):
                terms = {
                    "fee_basis_points": world.random.choice((0, 150, 290)),
                    "fee_fixed": world.random.choice((0, 25)),
                    "settle_delay_seconds": world.random.choice((0, 30, 172_800)),
                    "fee_return": world.random.random() < 0.7,
                }
                made = await merchants.create_merchant(
                    session, ids=rt.ids, now=rt.clock(), actor=SYSTEM, name=name, terms=terms
                )
                world.shops.append(Shop(world, name, made.id))
                if name == "carl":  # He reads instead.
                    continue
                few = ["payment.succeeded", "payment.failed", "refund.succeeded", "refund.failed"]
                url = f"https://{name}.example/hooks"
                _, secret = await webhooks.create_endpoint(
                    session,
                    merchant_id=made.id,
                    livemode=False,
                    actor=SYSTEM,
                    ids=rt.ids,
                    sealer=rt.sealer,
                    now=rt.clock() - timedelta(seconds=1),
                    url=await rt.egress.check_url(url),
                    event_types=few if name == "ben" else [],
                )
                world.post.secrets[url] = (name, secret)

    # Trouble.

    async def _trouble(self, playing: list[Any]) -> None:
        """Bring whole stretches of faults, at least ten in a history."""
        world, chance = self.world, self.random
        number = 0
        while number < 6 or world.faults.total < FEWEST_FAULTS:
            number += 1
            await asyncio.sleep(chance.uniform(1, 12))
            kinds = [k for k in world.faults.rates if k.startswith("stretch.")]
            kind = chance.choice(sorted(kinds) or ["stretch.crashes"])
            world.faults.happened(kind)
            await getattr(self, "_" + kind.partition(".")[2])()
        world.book.away, world.post.shops_away = None, False

    async def _psp_away(self) -> None:
        self.world.book.away = self.random.choice(("refuses", "hangs", "errors"))
        await asyncio.sleep(self.random.choice((5.0, 30.0, 90.0)))
        self.world.book.away = None

    async def _shop_away(self) -> None:
        self.world.post.shops_away = True
        self.world.later(self.random.choice((10.0, 600.0)), self._shops_back)

    def _shops_back(self) -> None:
        self.world.post.shops_away = False

    async def _clock_jump(self) -> None:
        seconds = self.random.choice((30.0, 3600.0, 90_000.0))
        self.world.note("world", f"{seconds / 3600:.2f} hours pass at once")
        self.world.loop.jump(seconds)

    async def _crashes(self) -> None:
        for process in self._some():
            process.crash("by a kill")

    async def _stops(self) -> None:
        for process in self._some():
            process.stop_soon()

    async def _freezes(self) -> None:
        for process in self._some():
            process.freeze(self.random.choice((3.0, 20.0, 60.0)))

    def _some(self) -> list[Any]:
        living = [one for one in self.world.processes if one.alive]
        return self.random.sample(living, min(len(living), self.random.choice((1, 1, 2))))

    def _peace(self) -> None:
        """Nothing goes wrong any more."""
        world = self.world
        world.note("world", "the faults end")
        world.faults.active = False
        world.book.away, world.post.shops_away = None, False
        self.letters.visits.clear()  # What a fault refused may well succeed now.
        self.desk.visits.clear()

    # People.

    async def _hands(self, playing: list[Any]) -> None:
        """Admins look at letters and reviews now and then, somebody works at the PSP by hand."""
        while not all(task.done() for task in playing):
            await asyncio.sleep(self.random.uniform(20, 120))
            by_hand(self.world, self.random)
            await self.letters.work()
            await self.desk.work()
            await self.world.risk.work()

    # Time.

    def _next_visit(self) -> float | None:
        """Return when somebody comes back to a letter or an item, after the faults.

        Before, people come when they come.
        """
        if self.world.faults.active:
            return None
        who = (self.desk, self.letters, self.world.risk)
        comes = [one.next_visit() for one in who]
        return min((one for one in comes if one is not None), default=None)

    async def _warp(self) -> None:
        """Skip the time in which surely nothing happens."""
        world = self.world
        while True:
            await asyncio.sleep(self.random.uniform(0.3, 1.0))
            world.look_around()
            idle = world.idle_until(self._next_visit)
            if idle > 2:
                world.loop.jump(idle - 0.2)

    async def _settle(self) -> None:
        """Wait until nothing is left to do; shops and admins do their part."""
        world = self.world
        began, ends = world.now(), world.now() + _SETTLES_WITHIN
        number = 0
        while world.now() < ends and world.statements < self.most_statements:
            number += 1
            await asyncio.sleep(3)
            for merchant_id, payment_id in world.rows(_HELD):
                shop = next(one for one in world.shops if one.merchant_id == merchant_id)
                path = f"/v1/payments/{payment_id}/capture"
                await shop.ask(path, {}, f"late-{payment_id}-{number}")
            # The letters first: what waits behind one is finished by nobody else.
            busy = await self.letters.work() + await self.desk.work() + await world.risk.work()
            waits = world.rows(_WAITS_FOR_LETTER) or world.risk.waiting()
            if not busy and not waits and not world.unfinished() and not self.desk.items():
                return
        for _ in range(20):  # What an admin told to try again at the last moment runs to its end.
            if not world.unfinished():
                return
            await asyncio.sleep(3)
        world.broken("I21", f"not at rest after {world.now() - began}: {world.unfinished()}")


def play(
    seed: int,
    *,
    payments: int = PAYMENTS,
    make_store: Callable[[Path], Store] = SqliteStore,
) -> Ended:
    """Play one seed."""
    ended = History(seed, payments=payments, make_store=make_store).play()
    with unheard():
        gc.collect()
    return ended
