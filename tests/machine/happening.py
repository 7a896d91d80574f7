"""Steps of the world around a shop: customers, the PSP, its events, workers, time, admins."""

import asyncio

from sqlalchemy import func, select

from app.errors import Conflict
from app.inbox.models import ReceivedEvent
from app.psp.port import RefundSeen
from app.psp.registry import SANDBOX, STRIPE_TEST
from tests.deadletters import letters
from tests.machine.book import SECRETS, WEATHER, event_body
from tests.machine.player import Player, step
from tests.support.psp import Charge

_KINDS = ("checkout", "intent", "declined", "refunded")
_FAULTS = ("declined", "rejected", "pending", "lost", "never", "not_sent", "busy")


class Happening(Player):
    """Everything that a shop does not do itself."""

    _sent: list[tuple[bytes, str]]

    def _charge(self, which: int) -> Charge | None:
        charges = self.world.book.in_order()
        return charges[which % len(charges)] if charges else None

    @step
    async def customer_pays(self, which: int) -> None:
        pages = self.world.book.open_pages()
        if pages:
            page = pages[which % len(pages)]
            self.world.book.pay(page.attempt_id)

    @step
    async def customer_is_declined(self, which: int) -> None:
        pages = self.world.book.open_pages()
        if pages:
            pages[which % len(pages)].declined = "card_declined"

    @step
    async def workers_run(self) -> None:
        await self.world.work()
        await self.see_all()

    @step
    async def everything_restarts(self) -> None:
        await self.world.restart()

    @step
    async def hours_pass(self, n: int) -> None:
        await self.world.pass_time(hours=n)
        await self.world.work()

    @step
    async def minutes_pass(self, n: int) -> None:
        await self.world.pass_time(minutes=n * 7)
        await self.world.sweep()
        await self.world.work()

    @step
    async def days_pass(self, n: int) -> None:
        await self.world.pass_time(days=n * 4)
        await self.world.settle()
        await self.world.sweep()
        await self.world.forget()
        old = self.world.clock().timestamp() - 30 * 86_400
        for used in self.used:
            used.expired |= used.at < old

    @step
    async def money_becomes_available(self) -> None:
        await self.world.settle()
        await self.world.work()

    @step
    async def psp_has_a_bad_hour(self, kind: int) -> None:
        self.world.book.weather = WEATHER[kind % len(WEATHER)]

    @step
    async def psp_answers_badly_once(self, kind: int) -> None:
        self.world.book.script.append(_FAULTS[kind % len(_FAULTS)])

    @step
    async def psp_decides(self) -> None:
        self.world.book.decide()

    @step
    async def refund_is_made_at_the_psp(self, which: int) -> None:
        charge = self._charge(which)
        if charge is None or charge.captured < 2:
            return
        back = sum(one.amount for one in charge.refunds.values() if one.status != "failed")
        if back:
            return  # Refunds of ours may be on their way; those find no room at the PSP then.
        name = f"re_hand_{charge.id}"
        seen = RefundSeen(
            psp_reference=name, amount=1, currency=charge.currency, status="succeeded"
        )
        charge.refunds = charge.refunds | {name: seen}
        await self._event(charge, "refunded")

    async def _event(self, charge: Charge, kind: str, times: int = 1) -> None:
        body = event_body(f"evt_{self.number()}", charge, kind, self.world.clock())
        self._sent.append((body, SANDBOX))
        await self._deliver(body, SANDBOX, times=times, new=True)

    async def _deliver(self, body: bytes, connection: str, *, times: int, new: bool) -> None:
        """Deliver an event some times at once: stored once, answered alike (I12)."""
        signed = self.world.books.books[connection].sign(body)
        answers = await asyncio.gather(
            *(
                self.world.client.post(f"/psp/{connection}/events", content=body, headers=signed)
                for _ in range(times)
            )
        )
        assert {one.status_code for one in answers} == {200}
        assert sum(one.json()["new"] for one in answers) == int(new)

    @step
    async def psp_sends_an_event(self, which: int, kind: int) -> None:
        charge = self._charge(which)
        if charge is not None:
            await self._event(charge, _KINDS[kind % len(_KINDS)])

    @step
    async def psp_sends_an_event_many_times(self, which: int, n: int) -> None:
        """F26: duplicates, all at the same time."""
        charge = self._charge(which)
        if charge is not None:
            await self._event(charge, "intent", times=n + 1)

    @step
    async def psp_sends_an_old_event_again(self, which: int) -> None:
        """F26, F27, F29: again, in another order, perhaps days later."""
        if self._sent:
            body, connection = self._sent[which % len(self._sent)]
            await self._deliver(body, connection, times=2, new=False)

    async def _events_stored(self) -> int:
        async with self.world.rt.sessions.read() as session:
            return int(await session.scalar(select(func.count()).select_from(ReceivedEvent)) or 0)

    @step
    async def somebody_forges_an_event(self, which: int, kind: int) -> None:
        """F30: wrong secret, stale, of the future, one byte off, another connection's secret."""
        charge = self._charge(which)
        if charge is None:
            return
        body = event_body(f"evt_{self.number()}", charge, "intent", self.world.clock())
        book = self.world.book
        headers = (
            book.sign(body, secret="whsec_wrong"),
            book.sign(body, ago=301),
            book.sign(body, ago=-301),
            book.sign(body[:-1] + b" "),
            book.sign(body, secret=SECRETS[STRIPE_TEST]),
            {},
        )[kind % 6]
        before = await self._events_stored()
        answer = await self.world.client.post(
            f"/psp/{SANDBOX}/events", content=body, headers=headers
        )
        self.expect(answer, (400, "event_not_verified"))
        assert await self._events_stored() == before

    @step
    async def another_system_shares_the_psp(self, which: int) -> None:
        """Its events are true and none of ours."""
        charge = self._charge(which)
        if charge is not None:
            stranger = Charge(
                id=f"pi_theirs_{self.number()}",
                attempt_id="att_theirs",
                installation="another",
                amount=charge.amount,
                currency=charge.currency,
                capture_method="automatic",
            )
            await self._event(stranger, "intent")

    @step
    async def another_connection_speaks_of_a_payment(self, which: int) -> None:
        """A true event of one connection about what another one holds: no effect."""
        charge = self._charge(which)
        if charge is not None:
            body = event_body(f"evt_{self.number()}", charge, "intent", self.world.clock())
            self._sent.append((body, STRIPE_TEST))
            await self._deliver(body, STRIPE_TEST, times=1, new=True)

    @step
    async def admin_retries_a_letter(self, which: int) -> None:
        await self._decide(which, discard=False)

    @step
    async def admin_gives_a_letter_up(self, which: int) -> None:
        await self._decide(which, discard=True)

    async def _decide(self, which: int, *, discard: bool) -> None:
        """F59, F68: once; a second admin hears that it was decided; what is unknown stays."""
        dead = await self.world.jobs("dead")
        if not dead:
            return
        dead.sort(key=lambda job: (job.payment_id or "", job.kind))
        job = dead[which % len(dead)]
        way = letters.discard if discard else letters.retry
        verdict = await letters.verdict(self.world.rt, job.id)
        open_way = verdict.discard if discard else verdict.retry
        self.tell(job.kind, verdict.says, open_way)
        done = 0
        for _ in range(2):
            try:
                await way(self.world.rt, job.id)
                done += 1
            except Conflict:
                continue
        assert done == int(open_way), (verdict, done)

    @step
    async def shop_reads_its_events(self) -> None:
        """I11: the numbers of each payment's events have no gap."""
        numbers: dict[str, list[int]] = {}
        path = "/v1/events?limit=100"
        while path:
            answer = await self.get(path)
            for one in answer.json()["data"]:
                if one["payment"] is not None:
                    numbers.setdefault(one["payment"], []).append(one["data"]["sequence"])
            path = answer.links.get("next", {}).get("url", "")
            if not answer.json()["has_more"]:
                break
        for payment_id, found in numbers.items():
            assert sorted(found) == [*range(1, len(found) + 1)], payment_id
        self.tell(sorted((name, len(found)) for name, found in numbers.items()))
