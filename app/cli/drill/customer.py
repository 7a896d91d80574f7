"""A customer with a browser: from our address to the PSP's page, to pay there and come back."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp

GOOD, DECLINED = "4242424242424242", "4000000000000002"
_SECONDS = 8.0
_PAUSE = 0.5
_FORM = {"expiry": "12 / 40", "cvc": "123", "name": "Demo customer"}

Ended = Callable[[], Awaitable[bool]]


class _Page(NamedTuple):
    """What came of a request: its status (0: no whole answer) and where it leads."""

    status: int
    onward: str


class Customer:
    """Tries whatever fails again, as one who reloads a page; pays for any number of orders."""

    def __init__(self, port: int, host: str) -> None:
        """Prepare; `port` is where to find our pages, `host` what their server is called."""
        self._ours = f"http://127.0.0.1:{port}"
        self._host = host
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS, connect=2.0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def pay(self, address: str, cards: Sequence[str], ended: Ended) -> bool:
        """Pay at our address with the first card that is not declined; then come back to us.

        False: no card was taken, or the payment ended first, as `ended` or the PSP's page tells.
        """
        page = await self._page_of_psp(address, ended)
        if page is None:
            return False
        for card in cards:
            back = await self._with(page, card, ended)
            if back is not None:
                return bool(back) and await self._come_back(back, ended)
        return False

    async def _page_of_psp(self, address: str, ended: Ended) -> str | None:
        """Wait on our page until it leads to the PSP's."""
        while True:
            seen = await self._ask("GET", self._at_ours(address))
            if seen.status == 303 and seen.onward:
                return seen.onward
            if await ended():
                return None
            await asyncio.sleep(_PAUSE)

    async def _with(self, page: str, card: str, ended: Ended) -> str | None:
        """Press “pay” until there is an answer; return the way back, None when declined.

        Empty: nobody can pay on that page any more.
        """
        while True:
            seen = await self._ask("POST", page, _FORM | {"number": card})
            if seen.status == 402:
                return None
            if seen.status == 303:
                onward = urljoin(page, seen.onward)
                return "" if urlsplit(onward).path == urlsplit(page).path else onward
            if seen.status in {404, 410} or await ended():
                return ""
            await asyncio.sleep(_PAUSE)

    async def _come_back(self, address: str, ended: Ended) -> bool:
        while (await self._ask("GET", self._at_ours(address))).status != 200:
            if await ended():
                break
            await asyncio.sleep(_PAUSE)
        return True

    def _at_ours(self, address: str) -> str:
        return f"{self._ours}{urlsplit(address).path}"

    async def _ask(self, method: str, url: str, form: dict[str, str] | None = None) -> _Page:
        headers = {"Host": self._host} if url.startswith(f"{self._ours}/") else {}
        try:
            async with self._session.request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                return _Page(answer.status, answer.headers.get("Location", ""))
        except (aiohttp.ClientError, OSError, TimeoutError):
            return _Page(0, "")
