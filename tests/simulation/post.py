"""What travels between us, the PSP and the shops: events in, messages out."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from app.egress import Answer, Egress, EgressFailed
from tests.simulation.api import NoAnswer
from tests.support.runtime import resolve

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_EVENT_TRIES = (1.0, 5.0, 30.0, 300.0, 1800.0, 3600.0, 7200.0, 14_400.0)


class Received(msgspec.Struct, kw_only=True):
    """A message as a shop received it, its signature checked."""

    at: float
    shop: str
    id: str
    body: str
    valid: bool


class Post:
    """Carries events from the PSP to us, and our messages to the shops."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.emitted: dict[str, str] = {}  # Event id to kind, as the PSP sent it.
        self.taken: set[str] = set()  # Answered 200.
        self.forged: set[str] = set()
        self.received: list[Received] = []
        self.secrets: dict[str, tuple[str, str]] = {}  # By URL: shop and secret.
        self.shops_away = False
        self.under_way = 0

    # From the PSP.

    def emit(self, kind: str, body: dict[str, Any], sure: bool) -> None:
        """Send an event of the PSP, perhaps late, twice, or after a later one; or never.

        `sure`: it is not lost. What was done at the PSP by hand is known from its event alone;
        to find it without one is reconciliation's business.
        """
        world, hit = self._world, self._world.faults.hit
        event_id = world.book.name("evt")
        self.emitted[event_id] = kind
        if hit("event.forged"):
            forged = world.book.name("evt")
            self.forged.add(forged)
            world.outside(self._forge(forged, kind, body))
        if not sure and hit("event.lost", kind):
            return
        copies = 2 if hit("event.doubled", kind) else 1
        for _ in range(copies):
            wait = world.random.expovariate(2)
            if hit("event.late", kind):
                wait = world.random.choice((60.0, 3600.0, 40_000.0))
            self.under_way += 1
            world.outside(self._deliver(event_id, kind, body, wait))

    async def _forge(self, event_id: str, kind: str, body: dict[str, Any]) -> None:
        raw, headers = self._world.book.signed(event_id, kind, body, secret="whsec_guessed")
        if self._world.random.random() < 0.5:
            raw, headers = self._world.book.signed(event_id, kind, body)
            raw = raw.replace(b"installation", b"installatiom") + b" "
        try:
            status = await self._world.api.event(raw, headers)
        except NoAnswer:
            return
        if status == 200:
            self._world.broken("I12", f"the forged event {event_id} was taken")

    async def _deliver(self, event_id: str, kind: str, body: dict[str, Any], wait: float) -> None:
        await asyncio.sleep(wait)
        for pause in _EVENT_TRIES:
            raw, headers = self._world.book.signed(event_id, kind, body)
            try:
                status = await self._world.api.event(raw, headers)
            except NoAnswer:
                status = 0
            if status == 200:
                self.taken.add(event_id)
                break
            await asyncio.sleep(pause)
        self.under_way -= 1

    # To the shops.

    def egress(self, process: "Process") -> Egress:
        """Return the way out of a process."""
        return SimEgress(self)

    async def carry(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Bring a message to its shop; return the shop's status. Raises EgressFailed."""
        world, hit = self._world, self._world.faults.hit
        await asyncio.sleep(world.travel())
        if self.shops_away:
            raise EgressFailed("connect", "no connection: the shop is away")
        if hit("shop.silent"):
            await asyncio.sleep(seconds)
            raise EgressFailed("timeout", f"no full answer within {seconds:g} s")
        if hit("shop.error"):
            return world.random.choice((500, 503, 404, 302))
        self._receive(url, body, headers)
        await asyncio.sleep(world.travel())
        if hit("shop.answer_lost"):
            raise EgressFailed("protocol", "the answer was not HTTP (reset)")
        return 200

    def _receive(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        shop, secret = self.secrets[url]
        message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        good = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
        sent = [one.partition(",")[2] for one in headers["webhook-signature"].split()]
        self.received.append(
            Received(
                at=self._world.loop.time(),
                shop=shop,
                id=headers["webhook-id"],
                body=body.decode(),
                valid=good in sent,
            )
        )
        said = json.loads(body)
        what = said["data"]["object"]
        self._world.note(shop, f"hears {said['type']} of {what['id'][-6:]}")


class SimEgress(Egress):
    """Sends nothing into any network."""

    def __init__(self, post: Post) -> None:
        super().__init__(allow_loopback=True, resolve=resolve)
        self._post = post

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> Answer:
        status = await self._post.carry(url, body, headers, seconds)
        return Answer(status=status, body=b"ok", truncated=False, encoding=None)
