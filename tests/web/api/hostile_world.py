"""A shop with a past that many hostile requests share, on an event loop of its own."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from typing import cast as cast_to

import httpx
import msgspec
import structlog

from app.psp import registry
from tests.support import databases
from tests.support.cast import make_shop
from tests.support.psp import BookConnections
from tests.support.runtime import Clock, make_runtime, test_settings
from tests.web.api.hostile_requests import Operation, Sender, operations
from tests.web.api.seeded import seed
from tests.web.api.shop import Api
from web.asgi import create_app
from workers.jobs import JOBS, queues
from workers.runner import Runner

T = TypeVar("T")
LIMITS = {"rate_limit_burst": 1_000_000, "rate_limit_per_second": 100_000.0}


class World(msgspec.Struct):
    """The application, what its spec offers, and who sends requests to it."""

    loop: asyncio.Runner
    api: Api
    operations: list[Operation]
    sender: Sender

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        """Run something on the world's own loop, without the log of each refusal."""
        with structlog.testing.capture_logs():
            return self.loop.run(doing)

    def named(self, name: str) -> Operation:
        """Return an operation by its id."""
        return next(one for one in self.operations if one.id == name)


@contextmanager
def hosted(kind: str, template: str, folder: Path) -> Iterator[World]:
    """Make the world, for tests that are no coroutines because Hypothesis drives them."""
    with asyncio.Runner() as loop:
        stack = AsyncExitStack()
        try:
            yield loop.run(_begin(stack, loop, (kind, template, folder)))
        finally:
            loop.run(stack.aclose())


async def _begin(
    stack: AsyncExitStack, loop: asyncio.Runner, where: tuple[str, str, Path]
) -> World:
    return await stack.enter_async_context(_opened(loop, *where))


@asynccontextmanager
async def _opened(
    loop: asyncio.Runner, kind: str, template: str, folder: Path
) -> AsyncIterator[World]:
    async with databases.copied(kind, template, folder) as url:
        clock = Clock()
        configured = test_settings(url, folder, **LIMITS)
        connections = BookConnections(configured, clock)
        rt = make_runtime(configured, clock, connections)
        async with rt.sessions.begin() as session:
            await registry.ensure_rows(session, connections, now=clock())
            shop = await make_shop(rt, session, "Alice's demo shop")
        app = create_app(rt)
        transport = httpx.ASGITransport(app=cast_to("Any", app))
        runner = Runner(rt, kinds=JOBS, queues=queues("test"), owner="test", lease=15)
        async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
            api = Api(client, shop.secret, runner)
            past = await seed(api, connections.book)
            spec = (await client.get("/v1/openapi.json")).json()
            sender = Sender(app, shop.secret, past)
            yield World(loop, api, operations(spec, past), sender)
        await app.state.limiter.close()
        await rt.close()
