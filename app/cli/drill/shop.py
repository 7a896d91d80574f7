"""The load: a shop's orders, each with its own little story, and each followed to its end."""

import asyncio
import random
from time import monotonic
from typing import Any

import msgspec

from app.cli.drill.client import Answer, Ask, Client
from app.cli.drill.customer import DECLINED, GOOD, Customer

# What the sandbox's customers pay with, and how often. Nothing that waits for a person: a drill
# must end by itself.
_TOKENS: dict[str, int] = {
    "pm_card_visa": 50,
    "pm_card_mastercard": 10,
    "pm_card_chargeDeclined": 6,
    "pm_card_insufficientFunds": 4,
    "pm_fault_reply_lost": 6,
    "pm_fault_500_then_ok": 3,
    "pm_fault_500_charged": 4,
    "pm_fault_429": 3,
    "pm_fault_not_charged_timeout": 4,
    "pm_fault_slow": 3,
    "pm_fault_garbage": 4,
    "pm_fault_webhook_first": 2,
    "pm_fault_webhook_twice": 3,
    "pm_fault_webhook_never": 3,
}
_TIDY_SECONDS = 30.0
_FINAL = {"succeeded", "failed", "canceled", "expired"}


class Order(msgspec.Struct, kw_only=True):
    """What one order led to, as far as the shop knows."""

    number: int
    reference: str
    amount: int
    currency: str
    kind: str
    token: str | None
    manual: bool  # The shop captures by itself.
    payment: str | None = None
    on_page: bool = False  # The customer has paid on the PSP's page, and was sent back.
    refunds: list[str] = []
    told: list[str] = []
    done: bool = False


class Shop:
    """Sends orders at a rate (a second) until stopped, and follows each of them to its end."""

    def __init__(self, client: Client, customer: Customer, *, seed: int, rate: float) -> None:
        self._client = client
        self._customer = customer
        self._seed = seed
        self._rate = rate
        self._stopping = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._until = float("inf")
        self.orders: list[Order] = []
        self.broken: BaseException | None = None  # Our own fault, which ends the drill.

    async def sell(self) -> None:
        """Begin orders at random moments until `stop`."""
        chance = random.Random(f"{self._seed}:arrivals")
        self._stopping.clear()
        self._until = float("inf")
        while not self._stopping.is_set():
            order = self._draw(len(self.orders) + 1)
            self.orders.append(order)
            task = asyncio.create_task(self._follow(order))
            self._open.add(task)
            task.add_done_callback(self._ended)
            await asyncio.sleep(min(chance.expovariate(self._rate), 2.0))

    def stop(self) -> None:
        """Begin no more orders."""
        self._stopping.set()

    async def settled(self, seconds: float) -> int:
        """Wait until every order has come to its end; return how many have not."""
        self._until = monotonic() + seconds
        if self._open:
            await asyncio.wait(set(self._open), timeout=seconds)
        left = len(self._open)
        await self.abandon()
        if self.broken is not None:
            raise self.broken
        return left

    async def tidy(self) -> int:
        """End what nobody follows, as a shop does that comes back from a crash of its own.

        Returns how many open payments there were.
        """
        ends = monotonic() + _TIDY_SECONDS
        found = 0
        for status in ("requires_capture", "requires_action"):
            path = f"/v1/payments?status={status}&limit=100"
            for row in (await self._client.read(path, until=ends))["data"]:
                found += 1
                cancel = f"/v1/payments/{row['id']}/cancel"
                await self._client.act(cancel, {}, until=lambda: ends)
        return found

    async def abandon(self) -> None:
        """Follow no order any longer."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.broken = task.exception()
            self.stop()

    def _deadline(self) -> float:
        return self._until

    def _draw(self, number: int) -> Order:
        chance = random.Random(f"{self._seed}:order:{number}")
        kind = chance.choices(("sale", "hold", "page"), (55, 20, 25))[0]
        token = chance.choices(list(_TOKENS), list(_TOKENS.values()))[0]
        manual = kind == "hold" or (kind == "page" and chance.random() < 0.25)
        return Order(
            number=number,
            reference=f"drill-{self._seed}-{number:06}",
            amount=chance.randint(100, 20_000),
            currency=chance.choice(("eur", "eur", "usd", "jpy")),
            kind=kind,
            token=None if kind == "page" else token,
            manual=manual,
            refunds=[],
            told=[],
        )

    def plain(self) -> Order:
        """Draw an order that is paid at once with a good card."""
        order = self._draw(len(self.orders) + 1)
        order.kind, order.token, order.manual = "sale", "pm_card_visa", False
        self.orders.append(order)
        return order

    async def batch(self, count: int) -> list[Order]:
        """Have some plain orders accepted, however long that takes, and return them."""
        self._until = float("inf")
        orders = [self.plain() for _ in range(count)]

        async def one(order: Order) -> None:
            ask = await self._client.act("/v1/payments", self.wish(order), until=self._deadline)
            order.payment = ask.id

        await asyncio.gather(*[one(order) for order in orders])
        return orders

    @staticmethod
    def wish(order: Order) -> dict[str, Any]:
        """Return what the API is asked for."""
        body: dict[str, Any] = {
            "amount": order.amount,
            "currency": order.currency,
            "reference": order.reference,
            "description": f"Demo order {order.number}",
        }
        if order.token is not None:
            body["payment_method"] = order.token
        if order.manual:
            body["capture_method"] = "manual"
        return body

    async def _follow(self, order: Order) -> None:
        chance = random.Random(f"{self._seed}:story:{order.number}")
        body = self.wish(order)
        twice, gives_up = chance.random() < 0.15, chance.random() < 0.04
        ask = await self._client.act(
            "/v1/payments", body, until=self._deadline, twice=twice, give_up=gives_up
        )
        order.payment = ask.id
        if ask.id is None:
            order.done = gives_up or not ask.abandoned
            return
        if order.kind == "page":
            await self._on_page(order, ask, chance)
        if await self._awaited(order, _FINAL | {"requires_capture"}) == "requires_capture":
            await self._decide(order, chance)
        status = await self._awaited(order, _FINAL)
        if status == "succeeded" and chance.random() < 0.5:
            await self._refund(order, chance)
        order.done = True

    async def _on_page(self, order: Order, ask: Ask, chance: random.Random) -> None:
        """The customer pays on the PSP's page, or never; or while the shop ends it (F54)."""
        cards = [DECLINED, GOOD] if chance.random() < 0.2 else [GOOD]
        wish = chance.random()
        if wish < 0.25:
            await self._give_up(order, chance)
            return

        async def ended() -> bool:
            return await self._status(order) in _FINAL

        async def pay() -> None:
            address = str(ask.accepted[0].body["checkout_url"])
            order.on_page = await self._customer.pay(address, cards, ended)

        if wish < 0.45:
            await asyncio.gather(pay(), self._give_up(order, chance))
        else:
            await pay()

    async def _give_up(self, order: Order, chance: random.Random) -> None:
        """The shop ends the page, sometimes at once."""
        await asyncio.sleep(chance.uniform(0.0, 1.5))
        await self._again(f"/v1/payments/{order.payment}/cancel", {}, order)

    async def _decide(self, order: Order, chance: random.Random) -> None:
        """Take what is held, or a part, or let go of it; or two wishes at once, of which one wins.

        F54: capture against cancel.
        """
        part = {} if chance.random() < 0.5 else {"amount": chance.randint(1, order.amount)}
        capture = self._again(f"/v1/payments/{order.payment}/capture", part, order)
        cancel = self._again(f"/v1/payments/{order.payment}/cancel", {}, order)
        wish = chance.random()
        if wish < 0.2:
            await asyncio.gather(capture, cancel)
        elif wish < 0.75:
            cancel.close()
            await capture
        else:
            capture.close()
            await cancel

    async def _again(self, path: str, body: dict[str, Any], order: Order) -> None:
        """Ask until it is accepted or the payment has ended: it may be busy with another wish."""
        while True:
            ask = await self._client.act(path, body, until=self._deadline)
            if ask.accepted or ask.abandoned:
                return
            if await self._status(order) in _FINAL:
                return
            await asyncio.sleep(0.5)

    async def _refund(self, order: Order, chance: random.Random) -> None:
        """Give back all, or two parts at once that together may be too much (F54)."""
        if chance.random() < 0.5:
            wishes: list[dict[str, Any]] = [{"payment": order.payment}]
        else:
            amount = max(1, int(order.amount * chance.uniform(0.2, 0.8)))
            wishes = [{"payment": order.payment, "amount": amount}] * 2
        asks = await asyncio.gather(
            *[self._client.act("/v1/refunds", wish, until=self._deadline) for wish in wishes]
        )
        order.refunds += [ask.id for ask in asks if ask.id is not None]
        for refund in order.refunds:
            await self._poll(f"/v1/refunds/{refund}", {"succeeded", "failed"})

    async def _awaited(self, order: Order, wanted: set[str]) -> str:
        body = await self._poll(f"/v1/payments/{order.payment}", wanted, order)
        return str(body["status"])

    async def _status(self, order: Order) -> str:
        answer = await self._client.once("GET", f"/v1/payments/{order.payment}")
        return self._noted(order, answer)

    async def _poll(
        self, path: str, wanted: set[str], order: Order | None = None
    ) -> dict[str, Any]:
        pause = 0.5
        while True:
            answer = await self._client.once("GET", path)
            status = self._noted(order, answer)
            if status in wanted:
                body: dict[str, Any] = answer.body
                return body
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 4.0)

    @staticmethod
    def _noted(order: Order | None, answer: Answer) -> str:
        status = str(answer.body["status"]) if answer.good else ""
        if order is not None and status and order.told[-1:] != [status]:
            order.told.append(status)
        return status
