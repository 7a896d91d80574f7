"""A shop whose payments a test plays through: what is asked, what the workers do, what is left."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from app.audit.operations import Actor
from app.deadletters import operations as letters
from app.deadletters.processing import look_at
from app.inbox import operations as inbox
from app.janitor.processing import hurry
from app.jobs import Job
from app.merchants.models import Merchant
from app.payments import operations, queries, schemas
from app.payments.accepting import NewPayment, create_payment
from app.payments.models import Attempt, Customer, Payment, PspCall
from app.psp.port import PspEvent, RefundSeen
from app.psp.registry import SANDBOX
from app.runtime import Runtime
from app.webhooks.bodies import body_place
from app.webhooks.models import Event
from tests.support.gates import OpenGates
from tests.support.invariants import check_invariants
from tests.support.psp import BookPsp
from tests.support.runtime import OrderedIds
from workers.jobs import JOBS, queues
from workers.runner import Runner

ACTOR = Actor(kind="key", name="cf_test_…", request_id="req_test")


class LateIds(OrderedIds):
    """Ids whose jitter is always the longest, so that a test knows what is not due yet."""

    def uniform(self, low: float, high: float) -> float:
        return max(low, high)


class Story:
    """One shop in test mode, with the workers run by hand."""

    def __init__(self, rt: Runtime, psp: BookPsp, merchant_id: str) -> None:
        self.rt = rt
        self.psp = psp
        self.who: dict[str, Any] = {"merchant_id": merchant_id, "livemode": False}
        self.runner = Runner(rt, kinds=JOBS, queues=queues("test"), owner="test", lease=15)

    @classmethod
    async def begin(
        cls, rt: Runtime, psp: BookPsp, *, gates: bool = False, **terms: Any
    ) -> "Story":
        """Begin; with `gates` the PSP is left alone when it fails, as in real life."""
        rt.ids = LateIds(rt.clock)
        rt.made_gates = None if gates else OpenGates(rt)
        now = datetime.now(UTC)
        merchant = Merchant(
            id=rt.ids("mer"), name="Demo shop", created_at=now, updated_at=now, **terms
        )
        async with rt.sessions.begin() as session:
            session.add(merchant)
        return cls(rt, psp, merchant.id)

    @classmethod
    async def with_page(
        cls, rt: Runtime, psp: BookPsp, **fields: Any
    ) -> tuple["Story", schemas.PaymentShape, Attempt]:
        """Begin with a hosted payment whose page is open; return it and its attempt, too."""
        story = await cls.begin(rt, psp)
        made = await story.create(**fields)
        await story.work()
        (attempt,), _ = await story.attempts(made.id)
        assert attempt.state == "open"
        return story, made, attempt

    @classmethod
    async def with_refused_refund(
        cls, rt: Runtime, psp: BookPsp, amount: int = 3_000
    ) -> tuple["Story", schemas.PaymentShape, schemas.RefundShape]:
        """Begin with a payment of 10,000 of which the PSP has refused to give a part back."""
        return await cls.with_refund(rt, psp, "rejected", amount)

    @classmethod
    async def with_refund(
        cls, rt: Runtime, psp: BookPsp, word: str, amount: int = 3_000
    ) -> tuple["Story", schemas.PaymentShape, schemas.RefundShape]:
        """Begin with a payment of 10,000 and a refund that the PSP's script answers so."""
        story = await cls.begin(rt, psp)
        paid = await story.charge()
        psp.script.append(word)
        refund = await story.refund(paid.id, amount)
        await story.work()
        return story, paid, refund

    @classmethod
    async def with_refused_capture(cls, rt: Runtime, psp: BookPsp) -> tuple["Story", str, Job]:
        """Begin with a hold that the PSP has refused to capture, and the letter about it."""
        story = await cls.begin(rt, psp)
        made = await story.charge(capture_method="manual")
        psp.script.append("rejected")
        await story.capture(made.id)
        await story.work()
        (letter,) = await story.dead()
        return story, made.id, letter

    @classmethod
    async def with_refused_page(cls, rt: Runtime, psp: BookPsp) -> tuple["Story", str, Job]:
        """Begin with a page that the PSP has refused to make, and the letter about it."""
        story = await cls.begin(rt, psp)
        psp.pages_end = True
        psp.script.append("rejected")
        made = await story.create()
        await story.work()
        (letter,) = await story.dead()
        return story, made.id, letter

    async def create(self, amount: int = 10_000, **fields: Any) -> schemas.PaymentShape:
        new = NewPayment(amount=amount, currency="eur", **fields)
        async with self.rt.sessions.begin() as session:
            return await create_payment(session, rt=self.rt, actor=ACTOR, new=new, **self.who)

    async def charge(self, amount: int = 10_000, **fields: Any) -> schemas.PaymentShape:
        """Create an off-session payment and let the workers carry it through."""
        made = await self.create(amount, payment_method="pm_card_visa", **fields)
        await self.work()
        return await self.get(made.id)

    async def uncertain(self, fault: str) -> tuple[str, Attempt]:
        """Charge so that nobody knows the outcome; `fault` is `lost` or `never`, of the confirm."""
        self.psp.script.extend(["ok", fault])
        made = await self.charge()
        (attempt,), _ = await self.attempts(made.id)
        return made.id, attempt

    async def work(self) -> None:
        """Run all that is due until nothing is."""
        await self.runner.drain()

    async def hurry(self) -> None:
        """Make everything that waits for its time due now, and run it."""
        async with self.rt.sessions.begin() as session:
            for job in await session.scalars(select(Job).where(Job.state == "due")):
                job.run_at = datetime.now(UTC) - timedelta(seconds=1)  # Surely past there, too.
        await self.work()

    async def get(self, payment_id: str) -> schemas.PaymentShape:
        async with self.rt.sessions.read() as session:
            return await queries.get_payment(
                session, rt=self.rt, payment_id=payment_id, expand_attempts=True, **self.who
            )

    async def row(self, payment_id: str) -> Payment:
        async with self.rt.sessions.read() as session:
            return await queries.payment_row(session, payment_id=payment_id, **self.who)

    async def attempts(self, payment_id: str) -> tuple[list[Attempt], list[PspCall]]:
        async with self.rt.sessions.read() as session:
            return await queries.attempts_and_calls(session, payment_id=payment_id, **self.who)

    async def capture(self, payment_id: str, amount: int | None = None) -> schemas.PaymentShape:
        async with self.rt.sessions.begin() as session:
            return await operations.request_capture(
                session,
                rt=self.rt,
                actor=ACTOR,
                payment_id=payment_id,
                amount=amount,
                **self.who,
            )

    async def cancel(self, payment_id: str) -> schemas.PaymentShape:
        async with self.rt.sessions.begin() as session:
            return await operations.request_cancel(
                session, rt=self.rt, actor=ACTOR, payment_id=payment_id, **self.who
            )

    async def refund(self, payment_id: str, amount: int | None = None, **fields: Any) -> Any:
        async with self.rt.sessions.begin() as session:
            return await operations.request_refund(
                session,
                rt=self.rt,
                actor=ACTOR,
                payment_id=payment_id,
                amount=amount,
                **fields,
                **self.who,
            )

    async def resolved(self, payment_id: str) -> None:
        """Have the janitor look at a payment now, as reading it does, and run what follows.

        The last look is made to lie a minute back: within ten seconds nothing would happen.
        """
        async with self.rt.sessions.begin() as session:
            back = self.rt.clock() - timedelta(minutes=1)
            await session.execute(update(PspCall).values(started_at=back))
            await hurry(session, ids=self.rt.ids, rt=self.rt, payment_id=payment_id)
        await self.work()

    async def unbury(self, letter: Job) -> None:
        """Have a worker be killed before it wrote a letter: the job is due once more."""
        again = {"state": "due", "finished_at": None}
        past = self.rt.clock() - timedelta(seconds=1)
        async with self.rt.sessions.begin() as session:
            query = update(Job).where(Job.id == letter.id)
            await session.execute(query.values(**again, run_at=past))

    async def forget_calls(self) -> None:
        """Let so much time pass that nothing which was sent so far can still arrive."""
        async with self.rt.sessions.begin() as session:
            back = self.rt.clock() - timedelta(minutes=10)
            await session.execute(update(PspCall).values(started_at=back))

    async def told(self, payment_id: str) -> list[tuple[str, str | None]]:
        """Return what the shop was told: each event's type and the status before it, in order."""
        row = await self.row(payment_id)
        async with self.rt.sessions.read() as session:
            query = select(Event).where(Event.payment_id == payment_id).order_by(Event.sequence)
            events = list(await session.scalars(query))
            customer = await session.get(Customer, payment_id)
        assert customer is not None
        assert [event.sequence for event in events] == [*range(1, row.event_sequence + 1)]
        sealer = schemas.data_sealer(customer, self.rt.sealer)
        bodies = [sealer.open(event.body_sealed, body_place(event.id)) for event in events]
        return [(said["type"], said["data"]["previous_status"]) for said in map(json.loads, bodies)]

    async def get_refund(self, refund_id: str) -> schemas.RefundShape:
        async with self.rt.sessions.read() as session:
            return await queries.get_refund(session, refund_id=refund_id, **self.who)

    async def dead(self) -> list[Job]:
        async with self.rt.sessions.read() as session:
            return list(await session.scalars(select(Job).where(Job.state == "dead")))

    async def retry_letters(self) -> None:
        """Have an admin retry each dead letter, once the PSP was asked about it, and run all."""
        for letter in await self.dead():
            await look_at(self.rt, job_id=letter.id)
            async with self.rt.sessions.begin() as session:
                await letters.retry(
                    session, rt=self.rt, actor=ACTOR, job_id=letter.id, approved=True
                )
        await self.hurry()

    async def end(self) -> None:
        """Check what must always hold."""
        await check_invariants(self.rt)


async def receive(rt: Runtime, event_id: str, **fields: Any) -> bool:
    """Store an event of the PSP as its webhook does; False: it was stored before."""
    values: dict[str, Any] = {
        "id": event_id,
        "type": "payment_intent.succeeded",
        "created_at": datetime.now(UTC),
        "livemode": False,
        "about": "intent",
    }
    event = PspEvent(**values | fields)
    async with rt.sessions.begin() as session:
        return await inbox.store(
            session,
            ids=rt.ids,
            sealer=rt.sealer,
            connection_id=SANDBOX,
            event=event,
            body=b"{}",
            now=rt.clock(),
        )


async def refund_event(story: Story, refund: RefundSeen, charge_id: str, number: int = 1) -> None:
    """Have the PSP tell of a refund of a charge, and let the workers carry it through."""
    await receive(
        story.rt,
        f"evt_refund_{number}",
        type="refund.updated",
        about="refund",
        psp_reference=refund.psp_reference,
        charge_reference=charge_id,
        attempt_id=refund.attempt_id,
        installation=refund.installation,
    )
    await story.work()
