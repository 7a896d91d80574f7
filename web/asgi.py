"""Puts the shells together: one application for API, checkout, PSP events and dashboard."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.static_files import create_static_files_router

from app import logging, memory, runtime, settings
from app.accounts.queries import demo_users_present
from app.psp import registry
from app.runtime import Runtime
from app.settings import SettingsError
from web import checkout, errors, limits, policy_reports, psp_events
from web.api import health
from web.api.auth import KeyRing
from web.api.reference import reference
from web.api.router import api
from web.dashboard.routes import ROUTERS
from web.deps import API_BODY_BYTES
from web.front import Front, Metrics
from web.render import STATIC_DIR


def create_app(rt: Runtime | None = None) -> Litestar:
    """Build the application; without `rt` from the environment, as a server process does."""
    if rt is None:
        rt = runtime.build(settings.from_environment(os.environ))
        logging.configure(rt.settings.log_level)
    configured = rt.settings
    limiter = limits.from_url(
        configured.redis_url,
        rate=configured.rate_limit_per_second,
        burst=configured.rate_limit_burst,
    )
    metrics = Metrics()

    @asynccontextmanager
    async def life(app: Litestar) -> AsyncIterator[None]:
        await _start(app.state.rt)
        memory.settle()
        try:
            yield
        finally:
            await limiter.close()
            await app.state.rt.close()

    app = Litestar(
        route_handlers=_routers(rt),
        lifespan=[life],
        exception_handlers={Exception: errors.answer},
        state=State(
            {
                "rt": rt,
                "limiter": limiter,
                "keyring": KeyRing(),
                "metrics": metrics,
                "hurried": {},
                "reports": policy_reports.Reports(metrics.registry),
            }
        ),
        request_max_body_size=API_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    app.asgi_handler = Front(app.asgi_handler, settings=configured, ids=rt.ids, metrics=metrics)
    return app


def _routers(rt: Runtime) -> Sequence[Router]:
    static = create_static_files_router(
        path="/static",
        directories=[STATIC_DIR],
        opt={"permission": "public"},
        # The address names the content, so a changed file has another address.
        cache_control=None,
        include_in_schema=False,
    )
    routers = [
        api,
        psp_events.router,
        checkout.router,
        health.router,
        policy_reports.router,
        static,
    ]
    routers += ROUTERS
    return [*routers, reference] if rt.settings.docs_served else routers


async def _start(rt: Runtime) -> None:
    """Check what only the database can tell. Raises SettingsError: the server does not start."""
    async with rt.sessions.begin() as session:
        if not rt.settings.loopback and await demo_users_present(session):
            raise SettingsError(["BIND_HOST must be a loopback address while there are demo users"])
        await registry.ensure_rows(session, rt.connections, now=rt.clock())
