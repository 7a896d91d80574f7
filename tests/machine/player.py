"""Plays a shop against a world and checks each answer against the model; the base of all steps."""

import inspect
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

from tests.machine import model
from tests.machine.model import Expected, Shape, Used
from tests.machine.world import World

Step = TypeVar("Step", bound=Callable[..., Awaitable[None]])

STEPS: dict[str, tuple[str, ...]] = {}  # Each step's name with the names of its numbers.
_STORED = {200, 201, 402, 409, 412, 422}
_NOT_STORED = {"idempotency-key-reused", "idempotency-key-expired"}
_ID = re.compile(r"\b(?:pay|re|att|call|evt|we|whd|key|mer|conn|job|req|usr)_[0-9a-z]{34}\b")


def step(function: Step) -> Step:
    """Make a method one of the steps that histories are made of."""
    names = tuple(inspect.signature(function).parameters)[1:]
    STEPS[function.__name__] = names
    return function


class Player:
    """What the shop knows: its payments, refunds, keys, addresses, and what it was answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.secrets = {
            "alice": world.cast.shop.secret,
            "charlie": world.cast.other_shop.secret,
            "live": world.live_secret,
        }
        self.keys = [world.cast.shop.key.id]
        self.payments: dict[str, Shape] = {}
        self.refunds: dict[str, Shape] = {}
        self.used: list[Used] = []
        self.asked: set[str] = set()  # Payments whose cancel was accepted.
        self.endpoints: list[model.Endpoint] = []
        self.count = 0
        self.told: list[str] = []  # What was answered, in a form that two runs can be compared by.
        self._names: dict[str, str] = {}

    async def play(self, name: str, **numbers: int) -> None:
        """Do one step; a second passes with it."""
        await self.world.pass_time(seconds=1)
        self.told.append(f"{name} {numbers}")
        await getattr(self, name)(**numbers)

    def tell(self, *what: Any) -> None:
        """Keep what was answered; ids are numbered by their first appearance."""
        text = json.dumps(what, sort_keys=True, default=str)
        self.told.append(_ID.sub(self._name, text))

    def _name(self, found: re.Match[str]) -> str:
        kind = found[0].partition("_")[0]
        return self._names.setdefault(found[0], f"{kind}#{len(self._names)}")

    def number(self) -> int:
        """Return the next number of this history, for names."""
        self.count += 1
        return self.count

    async def get(self, path: str, shop: str = "alice", **headers: str) -> httpx.Response:
        """Read with a shop's key."""
        sent = {"Authorization": f"Bearer {self.secrets[shop]}"} | headers
        return await self.world.client.get(path, headers=sent)

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send without a key of its own, as to webhook endpoints."""
        headers = {"Authorization": f"Bearer {self.secrets['alice']}"}
        return await self.world.client.request(method, path, headers=headers, json=body)

    async def raw_post(self, path: str, body: Any, key: str, shop: str) -> httpx.Response:
        """Post with a key; what is answered is not looked at."""
        headers = {"Authorization": f"Bearer {self.secrets[shop]}", "Idempotency-Key": key}
        return await self.world.client.post(path, headers=headers, json=body)

    async def post(
        self, path: str, body: Any, *, key: str = "", shop: str = "alice", reads: str = ""
    ) -> httpx.Response:
        """Post with a new key (or `key`) and remember the answer; `reads`: where its object is."""
        key = key or f"key-{self.number()}"
        answer = await self.raw_post(path, body, key, shop)
        self.remember(answer, path, body, key=key, shop=shop, reads=reads)
        return answer

    def remember(
        self, answer: httpx.Response, path: str, body: Any, *, key: str, shop: str, reads: str
    ) -> None:
        """Remember what a key was used for, if the answer was kept."""
        assert answer.status_code < 500, answer.text
        said = answer.json()
        self.tell(answer.status_code, said.get("code"), said.get("status"), said.get("param"))
        if answer.status_code not in _STORED or said.get("code") in _NOT_STORED:
            return
        resource = None
        if answer.status_code in {200, 201}:
            resource = f"{reads}/{said['id']}"
        self.used.append(
            Used(
                shop=shop,
                path=path,
                body=body,
                key=key,
                status=answer.status_code,
                resource=resource,
                refusal=b"" if resource else answer.content,
                at=self.world.clock().timestamp(),
            )
        )

    @staticmethod
    def expect(answer: httpx.Response, expected: Expected) -> Shape:
        """Check an answer against its prediction; return what it said."""
        said: Shape = answer.json()
        found = (answer.status_code, said.get("code") if answer.status_code >= 400 else None)
        assert found == expected, (found, expected, answer.text)
        return said

    async def see(self, payment_id: str) -> Shape:
        """Read a payment, check it, and remember it."""
        answer = await self.get(f"/v1/payments/{payment_id}?expand[]=attempts")
        now = self.expect(answer, (200, None))
        model.check_payment(self.payments.get(payment_id), now)
        self.payments[payment_id] = now
        self.tell(
            payment_id,
            now["status"],
            now["status_reason"],
            now["amount_captured"],
            now["amount_refunded"],
            now["fee"],
            now["failure"] and now["failure"]["code"],
            [(one["kind"], one["state"]) for one in now["attempts"]],
        )
        return now

    async def see_refund(self, refund_id: str) -> Shape:
        """Read a refund, check it, and remember it."""
        now = self.expect(await self.get(f"/v1/refunds/{refund_id}"), (200, None))
        model.check_refund(self.refunds.get(refund_id), now)
        self.refunds[refund_id] = now
        self.tell(refund_id, now["status"], now["status_reason"], now["amount"])
        return now

    async def pick(self, which: int, *statuses: str) -> Shape | None:
        """Choose a payment, in three of four cases one of these statuses if there is one."""
        if not self.payments:
            return None
        found = [one for one, seen in self.payments.items() if seen["status"] in statuses]
        chosen = found if found and which % 4 else list(self.payments)
        return await self.see(chosen[which % len(chosen)])

    async def see_all(self) -> None:
        """Look at everything there is."""
        for payment_id in list(self.payments):
            await self.see(payment_id)
        for refund_id in list(self.refunds):
            await self.see_refund(refund_id)
