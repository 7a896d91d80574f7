"""Payments of Alice's shop for the tests of its pages, played through with the PSP in memory."""

from typing import Any

from litestar import Litestar

from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.browser import Browser
from tests.support.cast import Cast, Person
from tests.support.psp import BookPsp


class Shop:
    """Alice's shop: its payments, and browsers of the people who look at it."""

    def __init__(self, app: Litestar, rt: Runtime, psp: BookPsp, cast: Cast) -> None:
        self.app = app
        self.cast = cast
        self.psp = psp
        self.story = Story(rt, psp, cast.shop.id)
        self.base = f"/m/{cast.shop.id}/test"

    def browser(self, person: Person | None = None) -> Browser:
        return Browser(self.app, person or self.cast.alice)

    async def paid(self, amount: int = 10_000, **fields: Any) -> str:
        return (await self.story.charge(amount, **fields)).id

    def of(self, payment_id: str, action: str = "") -> str:
        return f"{self.base}/payments/{payment_id}" + (f"/{action}" if action else "")
