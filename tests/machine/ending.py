"""How a history ends: the faults stop, time passes, and everything is compared with the PSP."""

from app.payments.states import FINAL
from tests.machine.asking import Asking
from tests.machine.happening import Happening
from tests.machine.running import Running
from tests.machine.world import World
from tests.support.invariants import check_invariants
from tests.support.receiver import Reply

_HOURS = (0, 1, 1, 25, 25, 72, 72)


class History(Asking, Happening, Running):
    """A whole history: any steps in any order, then an end."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._sent = []

    async def end(self) -> None:
        """Let everything come to rest and hold it to the four records (I1 to I8, I10 to I14)."""
        book = self.world.book
        book.weather, book.plan = "ok", None
        book.script.clear()
        book.looks.clear()
        self.world.receiver.reply = Reply()
        for hours in _HOURS:
            book.decide()
            await self.world.pass_time(hours=hours)
            await self.world.settle()
            await self.world.sweep()
            await self.world.work()
        await self.see_all()
        await self._compare_payments()
        await self._compare_refunds()
        await self._nothing_waits()
        await self.read_balance()
        await self.shop_reads_its_events()
        self.check_deliveries()
        await check_invariants(self.world.rt)

    async def _compare_payments(self) -> None:
        """I3, I4, I6: final, or a person has it; as much as the PSP has taken, once."""
        held = {job.payment_id for job in await self.world.jobs("dead")}
        for payment_id, seen in self.payments.items():
            attempts = {one["id"] for one in seen["attempts"]}
            charges = [c for c in self.world.book.charges.values() if c.attempt_id in attempts]
            taken = [charge for charge in charges if charge.captured]
            assert len(taken) <= 1, f"{payment_id} was charged {len(taken)} times"
            waits = seen["status"] == "requires_capture" or payment_id in held
            assert seen["status"] in FINAL or waits, seen
            if seen["status_reason"] != "held_for_review":
                assert seen["amount_captured"] == sum(charge.captured for charge in taken), seen

    async def _compare_refunds(self) -> None:
        """I5: what came back is what the PSP has paid out, and no more than was taken."""
        held = {job.payment_id for job in await self.world.jobs("dead")}
        for payment_id, seen in self.payments.items():
            attempts = {one["id"] for one in seen["attempts"]}
            charges = [c for c in self.world.book.charges.values() if c.attempt_id in attempts]
            back = sum(
                one.amount
                for charge in charges
                for one in charge.refunds.values()
                if one.status == "succeeded"
            )
            assert back <= sum(charge.captured for charge in charges)
            if payment_id not in held:
                assert seen["amount_refunded"] == back, (seen, back)
        for seen in self.refunds.values():
            assert seen["status"] in {"succeeded", "failed"} or seen["payment"] in held, seen

    async def _nothing_waits(self) -> None:
        """I10, I16: what is still due waits for a moment to come, and tells which."""
        now = self.world.clock()
        late = [job.kind for job in await self.world.jobs("due") if job.run_at <= now]
        assert late == []
