"""Shops and their customers: what they ask for, what they are told, what they do about silence."""

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import msgspec

from app.merchants.keys import SCOPES, KeyIdentity
from tests.simulation.api import Answer, NoAnswer
from tests.simulation.book import Intent, Refusal

if TYPE_CHECKING:
    from tests.simulation.world import World

FINAL = {"succeeded", "failed", "canceled", "expired"}
_TRIES = 40
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_LOOKS = 10  # At a payment, ever less often: the last one a quarter of an hour after the first.


class Told(msgspec.Struct, kw_only=True):
    """One answer that a shop got: what it asked, under which key, and what it heard."""

    at: float
    shop: str
    what: str
    key: str | None
    sent: str
    status: int
    id: str | None
    state: str | None
    body: str


class Shop:
    """A merchant with its own key, address and canary."""

    def __init__(self, world: "World", name: str, merchant_id: str) -> None:
        self.world = world
        self.name = name
        self.merchant_id = merchant_id
        self.canary = f"canary-of-{name}-{world.random.randrange(10**9)}"
        self.identity = KeyIdentity(
            key_id=f"key_{name}",
            merchant_id=merchant_id,
            livemode=False,
            scopes=frozenset(SCOPES),
            api_version="2026-11-22",
            hint=f"cf_test_{name}",
        )
        self.told: list[Told] = []
        self.keys: dict[str, str] = {}  # Each key with the path that it was meant for.
        self.sent: dict[str, set[str]] = {}  # Each key with what was asked under it.
        self.payments: list[str] = []

    async def ask(self, path: str, sent: dict[str, Any], key: str) -> Answer | None:
        """POST with a key, again with the same key until somebody answers; None: nobody did."""
        self.keys[key] = path
        self.sent.setdefault(key, set()).add(f"{path} {json.dumps(sent, sort_keys=True)}")
        for number in range(_TRIES):
            try:
                answer = await self.world.api.post(self.identity, path, sent, key=key)
            except NoAnswer:
                answer = None
            if answer is not None:
                self._hear(path, key, sent, answer)
                if answer.status < 500 and answer.status != 429:
                    return answer
            pause = _PAUSES[min(number, len(_PAUSES) - 1)]
            await asyncio.sleep(pause * self.world.random.uniform(0.5, 1.5))
        return None

    async def read(self, path: str) -> Answer | None:
        """GET; None when nobody answers."""
        try:
            answer = await self.world.api.get(self.identity, path)
        except NoAnswer:
            return None
        self._hear(path, None, {}, answer)
        return answer

    def _hear(self, path: str, key: str | None, sent: dict[str, Any], answer: Answer) -> None:
        self.told.append(
            Told(
                at=self.world.loop.time(),
                shop=self.name,
                what=path,
                key=key,
                sent=json.dumps(sent, sort_keys=True),
                status=answer.status,
                id=answer.body.get("id") if answer.status < 300 else None,
                state=answer.body.get("status") if answer.status < 300 else None,
                body=answer.text,
            )
        )
        state = answer.body.get("status") if answer.status < 300 else answer.body.get("code")
        asked = "reads" if key is None else "asks"
        self.world.note(self.name, f"{asked} {path[-24:]}: {answer.status} {state}")


class Sale:
    """The life of one payment, as its shop and its customer play it."""

    def __init__(self, shop: Shop, number: int) -> None:
        self.shop = shop
        self.world = shop.world
        self.number = number
        self.random = random.Random(f"{shop.world.seed}:sale:{number}")
        self.hosted = self.random.random() < 0.5
        self.manual = self.random.random() < 0.35
        self.amount = self.random.choice((100, 101, 999, 1234, 5000, 12_345, 99_999))
        self.currency = self.random.choice(("eur", "eur", "usd", "jpy"))
        self.id: str | None = None
        self.state: str | None = None

    def key(self, what: str) -> str:
        return f"{self.shop.name}-{self.number}-{what}"

    async def play(self) -> None:
        """Create, be paid, capture or cancel, refund; now and then all at once."""
        await asyncio.sleep(self.random.expovariate(0.08))
        await self._create()
        if self.id is None:
            return
        others = [self._customer()] if self.hosted else []
        if self.random.random() < 0.15:
            others.append(self._cancel())
        if self.random.random() < 0.1:
            others.append(self._stranger())
        await asyncio.gather(self._follow(), *others)

    async def _create(self) -> None:
        sent: dict[str, Any] = {
            "amount": self.amount,
            "currency": self.currency,
            "description": self.shop.canary,
            "reference": self.key("order"),
            "metadata": {"key": self.key("create")},
            "capture_method": "manual" if self.manual else "automatic",
        }
        if self.hosted:
            sent["expires_in"] = self.random.choice((1800, 1800, 3600, 7200))
        else:
            bad = self.random.random() < 0.15
            sent["payment_method"] = "pm_card_chargeDeclined" if bad else "pm_card_visa"
        asked = [self.shop.ask("/v1/payments", sent, self.key("create"))]
        if self.random.random() < 0.2:  # A double click, or two processes of the shop.
            asked.append(self.shop.ask("/v1/payments", sent, self.key("create")))
        answers = await asyncio.gather(*asked)
        for answer in answers:
            if answer is not None and answer.status == 201:
                self.id = answer.body["id"]
                self.shop.payments.append(answer.body["id"])
        if self.id is not None and self.random.random() < 0.1:
            other = sent | {"amount": self.amount + 1}
            answer = await self.shop.ask("/v1/payments", other, self.key("create"))
            if answer is not None and answer.status != 422:
                self.world.broken("I8", f"a key with another body: {answer.status}")

    async def _look(self) -> str | None:
        answer = await self.shop.read(f"/v1/payments/{self.id}")
        if answer is not None and answer.status == 200:
            self.state = answer.body["status"]
        return self.state

    async def _follow(self) -> None:
        wait = 2.0
        for _ in range(_LOOKS):
            await asyncio.sleep(wait * self.random.uniform(0.7, 1.3))
            wait *= 1.8
            state = await self._look()
            if state == "requires_capture":
                await self._decide()
            if state in FINAL:
                break
        if self.state == "succeeded":
            await self._refund()

    async def _decide(self) -> None:
        path = f"/v1/payments/{self.id}"
        roll = self.random.random()
        part = self.random.randint(1, self.amount) if roll < 0.3 else None
        capture = self.shop.ask(
            f"{path}/capture", {} if part is None else {"amount": part}, self.key("capture")
        )
        if roll > 0.9:  # Two hands at once.
            await asyncio.gather(capture, self.shop.ask(f"{path}/cancel", {}, self.key("cancel")))
        elif roll > 0.75:
            capture.close()
            await self.shop.ask(f"{path}/cancel", {}, self.key("cancel"))
        else:
            await capture

    async def _cancel(self) -> None:
        await asyncio.sleep(self.random.expovariate(0.2))
        await self.shop.ask(f"/v1/payments/{self.id}/cancel", {}, self.key("cancel"))

    async def _refund(self) -> None:
        roll = self.random.random()
        if roll < 0.4:
            return
        parts = self.random.choice(
            ((None,), (0.5,), (0.3, 0.3), (0.8, 0.8), (0.34, 0.33, 0.33), (1.0, 0.01))
        )
        asked = []
        for number, part in enumerate(parts):
            key = self.key(f"refund-{number}")
            sent: dict[str, Any] = {"payment": self.id, "metadata": {"key": key}}
            if part is not None:
                sent["amount"] = max(1, int(self.amount * part))
            asked.append(self.shop.ask("/v1/refunds", sent, key))
        await asyncio.gather(*asked)

    async def _stranger(self) -> None:
        """Another shop tries this payment's address."""
        others = [one for one in self.world.shops if one is not self.shop]
        other = self.random.choice(others)
        answer = await other.read(f"/v1/payments/{self.id}")
        if answer is not None and answer.status < 400:
            self.world.broken("I13", f"{other.name} reads a payment of {self.shop.name}")
        key = f"{other.name}-tries-{self.number}"
        path = f"/v1/payments/{self.id}/cancel"
        answer = await other.ask(path, {}, key)
        if answer is not None and answer.status < 400:
            self.world.broken("I13", f"{other.name} cancels a payment of {self.shop.name}")

    async def _customer(self) -> None:
        """Pay on the PSP's page, hear a no first, or leave."""
        plan = self.random.choice(("pay", "pay", "pay", "no_then_pay", "no", "leave", "late"))
        for _ in range(200):
            intent = self._page()
            if intent is not None or self.state in FINAL:
                break
            await asyncio.sleep(self.random.uniform(2, 8))
        if plan == "leave":
            return
        await asyncio.sleep(self.random.expovariate(0.1) + (1700 if plan == "late" else 0))
        if plan in {"no", "no_then_pay"}:
            self._pay(accepted=False)
            await asyncio.sleep(self.random.expovariate(0.1))
        if plan != "no":
            self._pay(accepted=True)

    def _page(self) -> Intent | None:
        book = self.world.book
        book.expire_pages()
        pages = [i for i in book.intents.values() if i.payment_id == self.id and i.session]
        return next((i for i in reversed(pages) if i.session_status == "open"), None)

    def _pay(self, *, accepted: bool) -> None:
        intent = self._page()
        if intent is not None:
            self.world.note("customer", f"{'pays' if accepted else 'is declined'} {self.id}")
            self.world.book.take(intent, accepted)


def by_hand(world: "World", chance: random.Random) -> None:
    """Somebody refunds at the PSP itself, takes or cancels a hold; a bank takes a refund back."""
    held = [i for i in world.book.intents.values() if i.status == "requires_capture"]
    if held and world.faults.hit("hand.capture"):
        world.book.take_by_hand(chance.choice(held))
    elif held and world.faults.hit("hand.cancel"):
        world.book.let_go_by_hand(chance.choice(held))
    paid = [i for i in world.book.intents.values() if i.status == "succeeded"]
    if not paid:
        return
    intent = chance.choice(paid)
    done = [one for one in intent.refunds if one.status == "succeeded"]
    if done and world.faults.hit("hand.take_back"):
        world.book.change_refund(intent, chance.choice(done), "failed")
    elif world.faults.hit("hand.refund"):
        left = intent.captured - sum(r.amount for r in intent.refunds if r.status != "failed")
        if left > 1:
            try:
                world.book.give_back(intent, chance.randint(1, left), None, None)
            except Refusal:
                world.note("psp", "refuses a refund by hand")
