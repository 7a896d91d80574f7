"""A risk provider that answers, is down or talks nonsense, and people who decide what it holds."""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from app.audit.operations import Actor
from app.egress import Answer, Egress, EgressFailed
from app.errors import Problem
from app.payments import reviewing
from tests.simulation.api import NoAnswer

if TYPE_CHECKING:
    from tests.simulation.world import World

URL = "https://risk.example/decide"
PEOPLE = tuple(Actor(kind="user", id=f"usr_{n}", name=n) for n in ("eve", "finn"))
_ASKED = 0.4  # Of the histories have a provider.
_SAYS = ("allow", "hold", "refuse")
_WEIGHTS = (6, 3, 1)
_AGAIN = 120.0  # Seconds until somebody comes back to a payment.
_REFUSES = 0.3
_BOTH = 0.2  # Of the payments are decided by two at once, one of whom is told so.
_WAITING = """
  SELECT payment_id, merchant_id, version FROM risk_checks WHERE review = 'waiting'
  ORDER BY payment_id"""


class Held(msgspec.Struct, frozen=True):
    """A payment that waits for a person, as its page shows it."""

    payment_id: str
    merchant_id: str
    version: int


class Risk:
    """What is thought of each payment, and two people of the shops."""

    def __init__(self, world: "World", *, asked: bool) -> None:
        self.world = world
        self.random = random.Random(f"{world.seed}:risk")
        self.url = URL if self.random.random() < _ASKED and asked else None
        self._said: dict[str, str] = {}
        self._visits: dict[str, float] = {}
        self._seen: tuple[int, list[Held]] = (-1, [])

    def says(self, payment_id: str) -> str:
        """Return what the provider thinks of a payment; the same whenever it is asked."""
        said = self.random.choices(_SAYS, _WEIGHTS)[0]
        return self._said.setdefault(payment_id, said)

    def waiting(self) -> list[Held]:
        """Return what waits for a person."""
        version = self.world.store.changes()
        if version != self._seen[0]:
            self._seen = (version, [Held(*row) for row in self.world.rows(_WAITING)])
        return self._seen[1]

    def next_visit(self) -> float | None:
        """Return when somebody comes back, by the loop's clock; None: nothing waits."""
        now = self.world.loop.time()
        comes = (self._visits.get(one.payment_id, now) for one in self.waiting())
        return min(comes, default=None)

    async def work(self) -> int:
        """Decide about what waits and whose time has come; return how many were decided."""
        now = self.world.loop.time()
        due = [one for one in self.waiting() if self._visits.get(one.payment_id, now) <= now]
        asked = []
        for one in due:
            self._visits[one.payment_id] = now + _AGAIN
            people = PEOPLE if self.random.random() < _BOTH else PEOPLE[:1]
            asked += [self._decide(one, person) for person in people]
        return sum(await asyncio.gather(*asked))

    async def _decide(self, held: Held, person: Actor) -> bool:
        old = self.world.faults.active and self.random.random() < 0.1
        decision: Any = "refuse" if self.random.random() < _REFUSES else "approve"

        async def work(process: Any) -> bool:
            async with process.rt.sessions.begin() as session:
                await reviewing.decide(
                    session,
                    rt=process.rt,
                    actor=person,
                    merchant_id=held.merchant_id,
                    livemode=False,
                    payment_id=held.payment_id,
                    decision=decision,
                    why="The order was looked at.",
                    seen=held.version - old,
                )
            return True

        try:
            done = await self.world.api.called(work)
        except (Problem, NoAnswer) as refusal:
            self.world.note(person.name, f"may not {decision} {held.payment_id[-6:]}: {refusal}")
            return False
        if done is True:
            word = "approved" if decision == "approve" else "refused"
            self.world.note(person.name, f"{word} {held.payment_id[-6:]}")
            self.world.said.append((f"payment.review_{word}", held.payment_id))
        return done is True


class SimRisk(Egress):
    """The way to the provider, which may fail."""

    def __init__(self, world: "World") -> None:
        super().__init__(allow_loopback=True)
        self._world = world

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> Answer:
        world, hit = self._world, self._world.faults.hit
        await asyncio.sleep(min(world.travel(), seconds))
        if hit("risk.down"):
            raise EgressFailed("connect", "refused")
        if hit("risk.slow"):
            await asyncio.sleep(seconds)
            raise EgressFailed("timeout", "silent")
        said = {"decision": world.risk.says(json.loads(body)["payment_id"])}
        text = b"<html>" if hit("risk.garbage") else json.dumps(said).encode()
        return Answer(status=200, body=text, truncated=False, encoding=None)


def risk_is_kept(world: "World") -> None:
    """What was refused never reached the PSP, what was held was taken only once approved."""
    query = """
      SELECT r.payment_id, r.decision, r.review, p.hosted
      FROM risk_checks r JOIN payments p ON p.id = r.payment_id"""
    for payment_id, decision, review, hosted in world.rows(query):
        made = [one for one in world.book.intents.values() if one.payment_id == payment_id]
        if review == "waiting":
            world.broken("I16", f"{payment_id} waits for a person at the end")
        if decision == "refuse" and made:
            world.broken("risk", f"{payment_id} was refused, and the PSP knows it")
        if decision != "hold" or review == "approved":
            continue
        if made and not hosted:
            world.broken("risk", f"{payment_id} was held, and sent without an approval")
        if any(one.captured and not one.by_hand for one in made):
            world.broken("risk", f"{payment_id} was held, and taken without an approval")
