"""The sandbox as one ASGI application: the API on the bare wire, the pages through Litestar."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Litestar
from litestar.di import Provide
from litestar.logging import LoggingConfig
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.static_files import create_static_files_router
from litestar.template.config import TemplateConfig

from web.sandbox_psp import control, control_page, events, housekeeping, transport
from web.sandbox_psp.book import Book
from web.sandbox_psp.config import Config
from web.sandbox_psp.delivery import Courier
from web.sandbox_psp.door import Door
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.pages import Pages
from web.sandbox_psp.wire import Wire
from web.sandbox_psp.work import Sandbox

_HERE = Path(__file__).parent


def create_app(config: Config, door: Door) -> transport.App:
    """Open the book and return the application; raises sqlite3.Error for a book in use."""
    sandbox = Sandbox(config=config, book=Book(config.data / "book.db"))
    sandbox.load_settings()
    events.register_fixed(sandbox.work(), config.webhook_urls, config.webhook_secret)
    courier = Courier(sandbox)
    wire = Wire(sandbox, courier)
    pages = _pages(sandbox, courier, door)

    async def app(scope: transport.Scope, receive: transport.Receive, send: transport.Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            await wire(scope, receive, send)
        else:
            await pages(scope, receive, send)  # type: ignore[arg-type]  # Litestar narrows ASGI's types.

    return app


def _pages(sandbox: Sandbox, courier: Courier, door: Door) -> Litestar:
    @asynccontextmanager
    async def life(_: Litestar) -> AsyncIterator[None]:
        courier.start()
        house = asyncio.create_task(housekeeping.keep_house(sandbox, courier))
        yield
        house.cancel()
        await asyncio.gather(house, return_exceptions=True)
        await courier.stop()
        sandbox.book.close()

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )

    def provide(value: Any) -> Provide:
        return Provide(lambda: value, sync_to_thread=False)

    return Litestar(
        route_handlers=[
            Pages,
            control.Control,
            control_page.ControlPage,
            create_static_files_router(path="/static", directories=[_HERE / "static"]),
        ],
        dependencies={
            "sandbox": provide(sandbox),
            "courier": provide(courier),
            "door": provide(door),
        },
        exception_handlers={ApiError: control.api_refused},
        lifespan=[life],
        template_config=TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment)),
        logging_config=LoggingConfig(log_exceptions="always"),
        openapi_config=None,
    )
