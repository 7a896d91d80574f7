"""A shop's HTTP client that writes down everything it was told, and asks again when unsure."""

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from time import monotonic
from typing import Any

import aiohttp
import msgspec

_SECONDS = 8.0
_LONGEST_PAUSE = 1.5
_PAGE = 100


class Answer(msgspec.Struct, frozen=True):
    """One answer: its status and decoded body; status 0 means that none came."""

    status: int
    body: Any = None
    replayed: bool = False

    @property
    def good(self) -> bool:
        """Whether the server said that it did what was asked."""
        return 200 <= self.status < 300

    @property
    def settled(self) -> bool:
        """Whether asking the same again makes no sense: done, or refused for good."""
        return self.good or (400 <= self.status < 500 and self.status != 429)


class Ask(msgspec.Struct, kw_only=True):
    """One thing that the shop wants, under one Idempotency-Key, with every answer to it."""

    path: str
    key: str
    body: dict[str, Any]
    answers: list[Answer] = []
    abandoned: bool = False

    @property
    def accepted(self) -> list[Answer]:
        """The answers that said yes."""
        return [answer for answer in self.answers if answer.good]

    @property
    def id(self) -> str | None:
        """The id that the first yes named."""
        return str(self.accepted[0].body["id"]) if self.accepted else None


class Client:
    """Talks to the API as a shop does. Every failure of the network is an unknown outcome."""

    def __init__(self, port: int, host: str, secret: str, seed: int) -> None:
        """Prepare; `port` is where to connect, `host` what the server is called."""
        self._base = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {secret}", "Host": host}
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=_SECONDS, connect=2.0),
            connector=aiohttp.TCPConnector(limit=0, force_close=False),
        )
        self._chance = random.Random(f"{seed}:client")
        self._numbers = itertools.count(1)
        self.asks: list[Ask] = []
        self.requests = 0
        self.unanswered = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def once(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> Answer:
        """Send a request once; status 0 when no whole answer came."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        self.requests += 1
        try:
            async with self._session.request(
                method, self._base + path, data=data, headers=headers, allow_redirects=False
            ) as answer:
                raw = await answer.read()
                replayed = "Idempotent-Replayed" in answer.headers
                return Answer(answer.status, _decoded(raw), replayed)
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.unanswered += 1
            return Answer(0)

    async def act(
        self,
        path: str,
        body: dict[str, Any],
        *,
        until: Callable[[], float],
        twice: bool = False,
        give_up: bool = False,
    ) -> Ask:
        """Ask for something until an answer settles it or `until()` (monotonic seconds) is over.

        `twice` sends the first request two times at once; `give_up` abandons it when the first
        answer is lost, as a shop does whose own process dies.
        """
        ask = self._ask(path, body)
        pause = 0.1
        while True:
            sends = [self.once("POST", path, body, ask.key) for _ in range(2 if twice else 1)]
            answers = await asyncio.gather(*sends)
            ask.answers += answers
            if any(answer.settled for answer in answers):
                return ask
            ask.abandoned = give_up or monotonic() > until()
            if ask.abandoned:
                return ask
            twice = False
            await asyncio.sleep(self._chance.uniform(0.05, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def act_once(self, path: str, body: dict[str, Any]) -> Answer:
        """Ask for something with a key of its own, and leave it at that."""
        ask = self._ask(path, body)
        ask.answers.append(await self.once("POST", path, body, ask.key))
        return ask.answers[0]

    def _ask(self, path: str, body: dict[str, Any]) -> Ask:
        ask = Ask(path=path, key=f"drill-{next(self._numbers):06}", body=body, answers=[])
        self.asks.append(ask)
        return ask

    async def read(self, path: str, *, until: float) -> Any:
        """Read something, again until it is answered. Raises TimeoutError."""
        while True:
            answer = await self.once("GET", path)
            if answer.good:
                return answer.body
            if monotonic() > until:
                raise TimeoutError(f"{path} was not answered ({answer.status}).")
            await asyncio.sleep(0.3)

    async def everything(self, path: str, *, until: float) -> list[dict[str, Any]]:
        """Read every page of a list, newest first. Raises TimeoutError."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.read(f"{path}?limit={_PAGE}{cursor}", until=until)
            rows += page["data"]
            if not page["has_more"]:
                return rows
            cursor = f"&starting_after={rows[-1]['id']}"


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode(errors="replace")
