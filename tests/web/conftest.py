"""The web application in this process, and who talks to it."""

from collections.abc import AsyncIterator
from typing import Any
from typing import cast as cast_to

import httpx
import pytest
from litestar import Litestar

from app.runtime import Runtime
from tests.support.cast import Cast
from tests.support.psp import BookPsp
from tests.web.api.shop import Api
from web.asgi import create_app
from workers.jobs import JOBS, queues
from workers.runner import Runner

BASE = "https://localhost"


@pytest.fixture
async def app(rt: Runtime, psp: BookPsp) -> AsyncIterator[Litestar]:
    """Return the application on this test's runtime, with the PSP in memory."""
    made = create_app(rt)
    yield made
    await made.state.limiter.close()


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client without any credential."""
    transport = httpx.ASGITransport(app=cast_to(Any, app))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as made:
        yield made


@pytest.fixture
def runner(rt: Runtime) -> Runner:
    """Return the workers, run by hand: `await runner.drain()`."""
    return Runner(rt, kinds=JOBS, queues=queues("test"), owner="test", lease=15)


@pytest.fixture
def api(client: httpx.AsyncClient, cast: Cast, runner: Runner) -> Api:
    """Return the API as Alice's shop plugin uses it."""
    return Api(client, cast.shop.secret, runner)


@pytest.fixture
def charlie(client: httpx.AsyncClient, cast: Cast, runner: Runner) -> Api:
    """Return the API as Charlie's shop plugin uses it."""
    return Api(client, cast.other_shop.secret, runner)
