"""Fixtures of the dashboard's pages."""

from collections.abc import AsyncIterator

import pytest
from litestar import Litestar

from app.runtime import Runtime
from tests.support.browser import Browser
from tests.support.cast import Cast
from tests.support.psp import BookPsp
from tests.web.dashboard.money import Shop


@pytest.fixture
def shop(app: Litestar, rt: Runtime, psp: BookPsp, cast: Cast) -> Shop:
    """Return Alice's shop, whose payments a test plays through."""
    return Shop(app, rt, psp, cast)


@pytest.fixture
async def ada(app: Litestar, cast: Cast) -> AsyncIterator[Browser]:
    """Return the browser of an admin who has signed in."""
    async with Browser(app, cast.ada) as browser:
        yield browser
