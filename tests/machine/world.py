"""One whole installation in this process, with everything around it: shops, a PSP, a calendar."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
from litestar import Litestar
from sqlalchemy import select

from app.accounts.identity import FULL
from app.accounts.sessions import operations as sessions
from app.audit.operations import SYSTEM
from app.ids import Ids
from app.jobs import Job
from app.merchants import operations as merchants
from app.payments.attempts import installation_of
from app.payments.settling import settle_due
from app.psp import registry
from app.runtime import Runtime
from tests.machine import clockwork
from tests.machine.book import Books
from tests.support import databases
from tests.support.browser import Browser
from tests.support.cast import Cast, Person, make_cast
from tests.support.receiver import Receiver, receiving
from tests.support.runtime import make_runtime, test_settings
from web import limits
from web.api.auth import KeyRing
from web.asgi import create_app
from web.front import Front, Metrics
from workers import cron
from workers.jobs import JOBS, queues
from workers.runner import Runner

BASE = "https://localhost"


class World:
    """A running system whose time moves only when it is told to."""

    def __init__(self, rt: Runtime, clock: clockwork.StillClock, receiver: Receiver) -> None:
        self.rt = rt
        self.clock = clock
        self.receiver = receiver
        self.books = Books(rt.settings, clock)
        rt.connections = self.books
        self.book = self.books.main
        self.cast: Cast
        self.live_secret = ""
        self.app: Litestar
        self.client: httpx.AsyncClient
        self.runner: Runner

    async def begin(self) -> None:
        """People the world and start its processes."""
        if not self.rt.sessions.sqlite:
            await clockwork.add_postgres_clock(self.rt.sessions.engine)
            clockwork.use_postgres_clock(self.rt.sessions.engine)
            await self.rt.sessions.engine.dispose()
            await clockwork.tell_postgres(self.rt.sessions.engine, self.clock)
        async with self.rt.sessions.begin() as session:
            await registry.ensure_rows(session, self.books, now=self.clock())
            await installation_of(session, self.rt)
        self.cast = await make_cast(self.rt)
        async with self.rt.sessions.begin() as session:
            _, self.live_secret = await merchants.create_key(
                session,
                ids=self.rt.ids,
                now=self.clock(),
                actor=SYSTEM,
                merchant_id=self.cast.shop.id,
                livemode=True,
                name="Live",
            )
        self._start()

    def _start(self) -> None:
        self.app = _app(self.rt)
        transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type] # Litestar's types are narrower.
        self.client = httpx.AsyncClient(transport=transport, base_url=BASE)
        self.runner = Runner(self.rt, kinds=JOBS, queues=queues("w"), owner="w", lease=15)

    async def restart(self) -> None:
        """Stop the web process and the workers and start new ones: nothing in memory survives."""
        await self.stop()
        self._start()

    async def stop(self) -> None:
        """Stop the web process."""
        await self.client.aclose()
        await self.app.state.limiter.close()

    async def pass_time(self, **delta: float) -> None:
        """Let time pass, for hosts and the database alike."""
        self.clock.forward(**delta)
        if not self.rt.sessions.sqlite:
            await clockwork.tell_postgres(self.rt.sessions.engine, self.clock)

    async def work(self) -> int:
        """Let the workers do everything that is due."""
        return await self.runner.drain()

    async def settle(self) -> None:
        """Release what is due to be available."""
        while await settle_due(self.rt):
            pass

    async def sweep(self) -> None:
        """Take up what was lost."""
        await cron.sweep(self.rt)

    async def forget(self) -> None:
        """Forget what is old."""
        await cron.forget(self.rt)

    async def jobs(self, state: str, *kinds: str) -> list[Job]:
        """Return the jobs of a state, oldest first."""
        async with self.rt.sessions.read() as session:
            query = select(Job).where(Job.state == state).order_by(Job.id)
            if kinds:
                query = query.where(Job.kind.in_(kinds))
            return list(await session.scalars(query))

    @asynccontextmanager
    async def browser(self, person: Person) -> AsyncIterator[Browser]:
        """Sign somebody in; a session of this moment, because days may have passed."""
        async with self.rt.sessions.begin() as session:
            opened = await sessions.open_session(
                session,
                ids=self.rt.ids,
                now=self.clock(),
                user_id=person.id,
                stage=FULL,
                address="192.0.2.10",
                agent="Tests",
                confirmed_at=self.clock(),
            )
        signed_in = Person(
            person.id,
            person.email,
            person.password,
            person.totp_secret,
            person.recovery_codes,
            opened,
        )
        async with Browser(self.app, signed_in) as browser:
            yield browser


_MADE: list[tuple[Litestar, Any]] = []


def _app(rt: Runtime) -> Litestar:
    """Return the application as a new process has it: the routes are made once, they hold nothing.

    Making them takes longer than a whole history.
    """
    if not _MADE:
        app = create_app(rt)
        _MADE.append((app, app.asgi_handler._app))  # type: ignore[attr-defined] # It is our Front.
    app, inner = _MADE[0]
    limiter = limits.from_url(
        rt.settings.redis_url,
        rate=rt.settings.rate_limit_per_second,
        burst=rt.settings.rate_limit_burst,
    )
    fresh = {"rt": rt, "limiter": limiter}
    app.state.update(fresh | {"keyring": KeyRing(), "metrics": Metrics(), "hurried": {}})
    app.asgi_handler = Front(inner, settings=rt.settings, ids=rt.ids, metrics=app.state.metrics)
    return app


class EvenIds(Ids):
    """Ids whose jitter is always the longest, so that two runs wait for the same time."""

    def uniform(self, low: float, high: float) -> float:
        return max(low, high)


@asynccontextmanager
async def opened(
    kind: str, template: str, folder: Path, *, seed: int = 0, even: bool = False
) -> AsyncIterator[World]:
    """Open a world on a database of its own; random numbers come from the seed."""
    async with databases.copied(kind, template, folder) as url, receiving() as receiver:
        clock = clockwork.StillClock()
        changes: dict[str, Any] = {
            "sandbox_webhook_secret": "whsec_new,whsec_old",
            "stripe_test_secret_key": "sk_test_other",
            "stripe_test_webhook_secret": "whsec_of_the_other_connection",
            "rate_limit_per_second": 100_000.0,
            "rate_limit_burst": 1_000_000,
        }
        rt = make_runtime(test_settings(url, folder, **changes), clock)
        if rt.sessions.sqlite:
            clockwork.replace_sqlite_clock(rt.sessions.engine, clock)
        rt.ids = (EvenIds if even else Ids)(clock, Random(seed).randbytes)
        world = World(rt, clock, receiver)
        try:
            await world.begin()
            yield world
            await world.stop()
        finally:
            await rt.close()
