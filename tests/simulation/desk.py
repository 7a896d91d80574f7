"""People at the review desk: they compare each item with the PSP's own pages and say what is so.

Now and then one of them is wrong; the PSP's word must then keep it from having any effect.
"""

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from app.audit.operations import Actor
from app.desk import operations
from app.desk.finding import answers
from app.errors import Problem
from tests.simulation.api import NoAnswer
from tests.simulation.book import Intent, Refund, Refusal

if TYPE_CHECKING:
    from tests.simulation.world import World

PEOPLE = tuple(Actor(kind="user", id=f"usr_{n}", name=n) for n in ("cora", "dan"))
_AGAIN = 600.0  # Seconds until somebody comes back to an item; ever longer, to the next day.
_HOPES = 4.0
_LONGEST = 86_400.0
_WRONG = 0.4  # Of what people say while faults happen.
_OPEN = """
  SELECT r.id, r.kind, r.stage, r.version, r.decided_by, r.reference, r.attempt_id, a.kind,
    a.amount, p.psp_reference
  FROM reviews r JOIN attempts a ON a.id = r.attempt_id JOIN payments p ON p.id = r.payment_id
  WHERE r.state = 'open' ORDER BY r.id"""


class Item(msgspec.Struct, frozen=True):
    """An open item, as its page shows it."""

    id: str
    kind: str
    stage: str | None
    version: int
    decided_by: str | None
    reference: str | None
    attempt_id: str
    attempt_kind: str
    amount: int
    charge: str | None


class Desk:
    """Two people who come now and then."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.random = random.Random(f"{world.seed}:desk")
        self.visits: dict[str, tuple[float, float]] = {}  # By item: the next, and its wait.
        self._seen: tuple[int, list[Item]] = (-1, [])

    def items(self) -> list[Item]:
        """Return what is open, oldest first."""
        version = self.world.store.changes()
        if version != self._seen[0]:
            self._seen = (version, [Item(*row) for row in self.world.rows(_OPEN)])
        return self._seen[1]

    def next_visit(self) -> float | None:
        """Return when somebody comes back, by the loop's clock; None: nothing is open."""
        now = self.world.loop.time()
        return min((self._comes(one, now) for one in self.items()), default=None)

    def _comes(self, item: Item, now: float) -> float:
        return self.visits.get(item.id, (now, 0.0))[0]

    async def work(self) -> int:
        """Go through the open items whose time has come; return how many were decided about."""
        now = self.world.loop.time()
        due = [
            one for one in self.items() if one.stage != "looking" and self._comes(one, now) <= now
        ]
        for one in due:
            _, wait = self.visits.get(one.id, (0.0, _AGAIN))
            self.visits[one.id] = (now + wait, min(wait * _HOPES, _LONGEST))
        return sum(await asyncio.gather(*map(self._see_to, due)))

    async def _see_to(self, item: Item) -> bool:
        if item.stage == "second":
            return await self._answer_second(item)
        said = self._what_is_so(item)
        if self.world.faults.active and self.random.random() < _WRONG:
            said = self._something_else(item, said and said[0])
        if said is None:
            return False  # The PSP has not decided yet.
        decision, evidence = said
        person = self.random.choice(PEOPLE)
        return await self._does(
            "review.decide",
            item,
            person,
            f"says {decision} {evidence}".strip(),
            lambda session, rt: operations.decide(
                session,
                rt=rt,
                actor=person,
                review_id=item.id,
                version=item.version,
                decision=decision,
                evidence=evidence,
                reason="As the PSP's own pages show it.",
                confirmed=True,
            ),
        )

    async def _answer_second(self, item: Item) -> bool:
        other = next(one for one in PEOPLE if one.id != item.decided_by)
        refuses = self.world.faults.active and self.random.random() < _WRONG
        act: Any = operations.take_back if refuses else operations.agree
        return await self._does(
            "review.refuse" if refuses else "review.agree",
            item,
            other,
            "does not agree" if refuses else "agrees",
            lambda session, rt: act(
                session, rt=rt, actor=other, review_id=item.id, version=item.version
            ),
        )

    async def _does(self, action: str, item: Item, person: Actor, words: str, act: Any) -> bool:
        async def work(process: Any) -> bool:
            async with process.rt.sessions.begin() as session:
                await act(session, process.rt)
            return True

        try:
            done = await self.world.api.called(work)
        except NoAnswer as fault:
            self.world.note(person.name, f"hears nothing about {item.id[-6:]}: {fault}")
            return False
        except Problem as refusal:
            self.world.note(person.name, f"may not, about {item.id[-6:]}: {refusal}")
            return False
        if done is True:
            self.world.note(person.name, f"{words} about {item.id[-6:]}")
            self.world.said.append((action, item.id))
        return done is True

    # What the PSP's pages show.

    def _what_is_so(self, item: Item) -> tuple[str, str] | None:
        """Return what somebody says who looks there, after doing there what is to be done."""
        if item.attempt_kind == "refund":
            return self._of_refund(item)
        if item.attempt_kind == "void":
            return self._of_void(item)
        if item.attempt_kind == "capture" and item.kind != "unexpected_receipt":
            return self._of_capture(item)
        intent = self.world.book.find(item.reference) or self._intent_of(item)
        if item.kind == "unknown_outcome":
            taken = intent is not None and intent.status in {"succeeded", "requires_capture"}
            return ("happened", intent.id) if intent and taken else ("did_not_happen", "")
        return self._give_back(intent)

    def _intent_of(self, item: Item) -> Intent | None:
        intents = self.world.book.intents.values()
        return next((one for one in intents if one.attempt_id == item.attempt_id), None)

    def _give_back(self, intent: Intent | None) -> tuple[str, str] | None:
        """See that the customer has all of what does not fit."""
        book = self.world.book
        if intent is None or intent.status not in {"succeeded", "requires_capture"}:
            return "did_not_happen", ""
        if intent.status == "requires_capture":
            book.cancel(intent)
            return "did_not_happen", ""
        left = intent.captured - sum(r.amount for r in intent.refunds if r.status != "failed")
        parts = [left] if left < 2 or self.random.random() < 0.7 else [1, left - 1]
        for part in parts if left else ():
            try:
                made = book.give_back(intent, part, None, None)
            except Refusal as no:
                self.world.note("psp", f"refuses a refund at the desk: {no}")
                continue
            if self.world.faults.hit("desk.take_back"):
                wait = self.random.uniform(5, 2000)
                self.world.later(wait, partial(book.change_refund, intent, made, "failed"))
        gone = [one for one in intent.refunds if one.status == "succeeded"]
        return ("refunded", gone[-1].id) if gone else None

    def _of_capture(self, item: Item) -> tuple[str, str] | None:
        intent = self.world.book.find(item.charge)
        if intent is None or intent.status != "succeeded":
            return "did_not_happen", ""
        asked = intent.captured == item.amount
        return ("happened" if asked else "otherwise"), intent.id

    def _of_void(self, item: Item) -> tuple[str, str] | None:
        intent = self.world.book.find(item.reference) or self.world.book.find(item.charge)
        gone = intent is not None and intent.status == "canceled"
        return ("happened", intent.id) if intent and gone else ("did_not_happen", "")

    def _of_refund(self, item: Item) -> tuple[str, str] | None:
        one = self._refund_of(item)
        if one is None or one.status == "failed":
            return "did_not_happen", ""
        if one.status == "pending":
            return None
        return ("happened" if one.amount == item.amount else "otherwise"), one.id

    def _refund_of(self, item: Item) -> Refund | None:
        refunds = [one for each in self.world.book.intents.values() for one in each.refunds]
        return next((one for one in refunds if one.attempt_id == item.attempt_id), None)

    def _something_else(self, item: Item, true: str | None) -> tuple[str, str]:
        """Return what somebody says who has mixed things up: rather what is not so."""
        known = [one.id for one in self.world.book.intents.values()]
        known += [one.id for each in self.world.book.intents.values() for one in each.refunds]
        may = answers(item.kind, item.attempt_kind)
        decision = self.random.choice([one for one in may if one != true] or may)
        return decision, self.random.choice(known or ["pi_none"])
