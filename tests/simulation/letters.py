"""Admins at the dead letters: they open one, hear the PSP's word, retry it or give it up.

Above the limit one of them asks and another agrees, as the page has it.
"""

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from app.audit.operations import Actor
from app.deadletters import operations, queries
from app.deadletters.bulk import Action, plan
from app.deadletters.operations import SecondNeeded
from app.deadletters.processing import carry_out
from app.deadletters.verdict import judge
from app.errors import Problem
from tests.simulation.api import NoAnswer

if TYPE_CHECKING:
    from tests.simulation.world import World

ADMINS = tuple(Actor(kind="user", id=f"usr_{n}", name=n) for n in ("ada", "bea"))
# Seconds after which an admin comes back to a letter that he retried or may not retry yet; each
# time, and with ever less hope, he waits four times as long, to the next day.
_AGAIN = 3600.0
_HOPES = 4.0
_LONGEST = 86_400.0
_OFTEN = 2  # After the faults: what is refused after so many retries is given up, if it may be.
_OVER = "Nothing is left to send, as the page says."
_REFUSED = "It was refused each time that it was sent again."
_WHY = "What the page says was read, and is so."


class Letters:
    """Two admins who come now and then."""

    def __init__(self, world: "World", chance: random.Random) -> None:
        self.world = world
        self.random = chance
        self.visits: dict[str, tuple[float, float]] = {}  # By letter: the next, and its wait.
        self.retried: Counter[str] = Counter()

    def next_visit(self) -> float | None:
        """Return when somebody comes back, by the loop's clock; None: nobody has a reason."""
        if not self.visits:
            return None
        dead = self.world.rows("SELECT id FROM jobs WHERE state = 'dead'")
        return min((self.visits[name][0] for (name,) in dead if name in self.visits), default=None)

    async def work(self) -> int:
        """Retry what is dead, now and then two admins at once; return how many were retried."""
        world = self.world
        ids = [row[0] for row in world.rows("SELECT id FROM jobs WHERE state = 'dead' ORDER BY id")]
        asked = []
        for job_id in ids:
            if job_id in self.visits and world.loop.time() < self.visits[job_id][0]:
                continue
            admins = ADMINS if self.random.random() < 0.3 else ADMINS[:1]
            asked += [self._retry(job_id, actor) for actor in admins]
        return sum(await asyncio.gather(*asked))

    async def _retry(self, job_id: str, actor: Actor) -> bool:
        async def look(process: Any) -> bool:
            async with process.rt.sessions.begin() as session:
                letter = await queries.letter(session, job_id=job_id)
                return await operations.ask_psp(session, rt=process.rt, letter=letter)

        async def work(process: Any) -> bool:
            async with process.rt.sessions.begin() as session:
                await operations.retry(session, rt=process.rt, actor=actor, job_id=job_id)
            return True

        try:
            # As the page does it: opening a letter has the PSP asked, and its word is needed.
            if await self.world.api.called(look):
                await self._read_on(job_id)
            if self.retried[job_id] >= _OFTEN and await self._discard(job_id, actor):
                self._look_later(job_id)
                return True
            done = await self.world.api.called(work)
        except NoAnswer as fault:
            self.world.note(actor.name, f"hears nothing about {job_id[-6:]}: {fault}")
            return False
        except SecondNeeded:
            self._look_later(job_id)
            return await self._both(job_id, actor, "retry")
        except Problem as refusal:
            self._look_later(job_id)
            self.world.note(actor.name, f"may not retry {job_id[-6:]}: {refusal}")
            return await self._discard(job_id, actor)
        if done is True:
            self._look_later(job_id)  # One that dies of the same again would go round for ever.
            self.world.note(actor.name, f"retries the letter {job_id[-6:]}")
            self._note_retry(job_id, actor)
        return done is True

    def _note_retry(self, job_id: str, actor: Actor) -> None:
        self.world.retried.append((job_id, actor.id or ""))
        self.retried[job_id] += not self.world.faults.active

    async def _both(self, job_id: str, first: Actor, action: Action) -> bool:
        """Have one admin ask and the other agree, who carries it out."""
        second = next(one for one in ADMINS if one.id != first.id)

        async def ask(process: Any) -> str:
            async with process.rt.sessions.begin() as session:
                letters = await queries.letters_of(session, job_ids=[job_id])
                wanted = plan(letters, action, now=process.rt.clock())
                found = await operations.ask_second(
                    session, rt=process.rt, actor=first, action=action, plan=wanted, why=_WHY
                )
                return found.id

        async def agree(process: Any) -> str:
            async with process.rt.sessions.begin() as session:
                await operations.answer_second(
                    session, rt=process.rt, actor=second, approval_id=approval_id, agrees=True
                )
            return await carry_out(process.rt, actor=second, approval_id=approval_id)

        try:
            approval_id = await self.world.api.called(ask)
            if not isinstance(approval_id, str):
                return False
            said = await self.world.api.called(agree)
        except (Problem, NoAnswer) as refusal:
            self.world.note(second.name, f"agrees to {action} {job_id[-6:]}? {refusal}")
            return False
        self.world.note(second.name, f"agrees to {action} {job_id[-6:]}: {said}")
        if said != f"1 {'retried' if action == 'retry' else 'discarded'}.":
            return False
        if action == "retry":
            self._note_retry(job_id, second)
        return True

    async def _read_on(self, job_id: str) -> None:
        """Wait for the PSP's word, which is good for minutes: no day may be skipped meanwhile."""
        pause = self.random.uniform(2, 60)
        _, wait = self.visits.get(job_id, (0.0, _AGAIN))
        self.visits[job_id] = (self.world.loop.time() + pause, wait)
        await asyncio.sleep(pause)

    def _look_later(self, job_id: str) -> None:
        _, wait = self.visits.get(job_id, (0.0, _AGAIN))
        self.visits[job_id] = (self.world.loop.time() + wait, min(wait * _HOPES, _LONGEST))

    async def _discard(self, job_id: str, actor: Actor) -> bool:
        """Give up what nobody wants any more, and what was refused as often as it was retried."""
        hopeless = self.retried[job_id] >= _OFTEN

        async def work(process: Any) -> bool:
            async with process.rt.sessions.begin() as session:
                letter = await queries.letter(session, job_id=job_id)
                over = judge(letter).says == "declined"
                if not over and (letter.effect is None or not hopeless):
                    return False
                why = _OVER if over else _REFUSED
                await operations.discard(
                    session, rt=process.rt, actor=actor, job_id=job_id, why=why
                )
            return True

        try:
            done = await self.world.api.called(work)
        except SecondNeeded:
            return await self._both(job_id, actor, "discard")
        except (Problem, NoAnswer) as refusal:
            self.world.note(actor.name, f"may not discard {job_id[-6:]}: {refusal}")
            return False
        if done is True:
            self.world.note(actor.name, f"gives up the letter {job_id[-6:]}")
        return done is True
