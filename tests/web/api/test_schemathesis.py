"""The served document is true: a tool that believes it finds nothing wrong with the answers.

It works on a shop with a past, whose ids it is told, so that operations do what they are for.
More of it: `pytest tests/web/api/test_schemathesis.py --examples 100`.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import cast as cast_to

import httpx
import msgspec
import pytest
import uvicorn
from litestar import Litestar

from app.cli.ports import free_port
from app.psp import registry
from tests.support.cast import make_shop
from tests.support.psp import BookConnections
from tests.support.runtime import Clock, make_runtime, test_settings
from tests.web.api import schemathesis_hooks as hooks
from tests.web.api.seeded import Seeded, seed
from tests.web.api.shop import Api
from web.api.openapi import Route
from web.api.reference import all_routes
from web.asgi import create_app
from workers.jobs import JOBS, queues
from workers.runner import Runner

# 402, 409, 412 and 422 are right answers to valid input: a rule or the present state says no.
# So is 404: most ids that are well formed belong to nothing. Warnings say that the run was idle.
CONFIG = """
[warnings]
fail-on = true

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "402", "403", "404", "409", "412", "422", "429"]
"""
# Ids come from us alone: those of answers would switch off the endpoint that others work with.
CONFIG += "".join(
    f"[phases.{phase}]\nextra-data-sources = {{ responses = false }}\n\n"
    for phase in ("examples", "coverage", "fuzzing")
)
LIMITS = {"rate_limit_burst": 1_000_000, "rate_limit_per_second": 100_000.0}
HOOKS = Path(hooks.__file__)
SHARE = 0.7  # Of the examples that get what is there; the others make up their own.


class Served(msgspec.Struct):
    """The running application, and who may ask it what."""

    url: str
    secret: str = ""
    shop: Seeded | None = None
    app: Litestar | None = None
    server: uvicorn.Server | None = None

    def done(self) -> set[tuple[str, str]]:
        """Return the operations that have been answered with a success, by method and address."""
        assert self.app is not None
        (counter,) = self.app.state.metrics.requests.collect()
        return {
            (one.labels["method"].lower(), re.sub(r":\w+", "", one.labels["route"]))
            for one in counter.samples
            if one.labels.get("status", "").startswith("2") and one.value > 0
        }


async def _serve(served: Served, settings: Any, ready: threading.Event) -> None:
    clock = Clock()
    connections = BookConnections(settings, clock)
    rt = make_runtime(settings, clock, connections)
    async with rt.sessions.begin() as session:
        await registry.ensure_rows(session, connections, now=clock())
        served.secret = (await make_shop(rt, session, "Alice's demo shop")).secret
    past = create_app(rt)  # Its own, so that only what comes later is counted.
    runner = Runner(rt, kinds=JOBS, queues=queues("test"), owner="test", lease=15)
    transport = httpx.ASGITransport(app=cast_to("Any", past))
    async with httpx.AsyncClient(transport=transport, base_url=served.url) as client:
        served.shop = await seed(Api(client, served.secret, runner), connections.book, spare=8)
    await past.state.limiter.close()
    served.app = create_app(rt)
    port = int(served.url.rpartition(":")[2])
    config = uvicorn.Config(served.app, port=port, log_level="error", access_log=False)
    served.server = uvicorn.Server(config)
    ready.set()
    await served.server.serve(sockets=None)


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    """Serve the application as in production, with a shop that has lived."""
    made = Served(f"http://localhost:{free_port()}")
    settings = test_settings(database_url, tmp_path, public_url=made.url, **LIMITS)
    ready = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(made, settings, ready)), daemon=True
    )
    thread.start()
    assert ready.wait(60)
    for _ in range(200):
        try:
            if httpx.get(f"{made.url}/healthz").status_code == 200:
                break
        except httpx.TransportError:
            threading.Event().wait(0.05)
    yield made
    assert made.server is not None
    made.server.should_exit = True
    thread.join(10)


def _known(route: Route, shop: Seeded) -> dict[str, list[Any]]:
    """Return what there is, by the place of an operation where it fits."""
    known: dict[str, list[Any]] = {
        f"path.{name}": shop.for_path(route.name, name)
        for name in re.findall(r"\{(\w+)\}", route.path)
    }
    query = route.operation.query
    names = {field.encode_name for field in msgspec.structs.fields(query)} if query else set()
    if "payment" in names:
        known["query.payment"] = shop.payments
    cursors = {
        "list_payments": shop.payments,
        "list_refunds": shop.refunds,
        "list_events": shop.events,
        "list_ledger_entries": shop.entries,
        "list_webhook_endpoints": shop.endpoints[-1:],
        "list_webhook_deliveries": shop.deliveries,
    }
    if "starting_after" in names:
        known["query.starting_after"] = cursors[route.name]
    if route.name == "create_refund":
        known |= {"body.payment": shop.by_status["succeeded"], "body.amount": [1, 2, 3]}
    if route.name == "create_webhook_endpoint":
        known["body.url"] = ["https://demo-shop.example/hook"]
    return known


def _config(known: dict[str, dict[str, list[Any]]]) -> str:
    """Return the tool's configuration: a dictionary for each place of each operation."""
    words, bindings = [], []
    for operation, places in known.items():
        bound = []
        for place, values in places.items():
            name = f"{operation}-{place.replace('.', '-')}"
            words.append(f"[dictionaries.{name}]\nvalues = {json.dumps(values)}\n")
            bound.append(f'"{place}" = {{ dictionary = "{name}", probability = {SHARE} }}\n')
        if bound:
            head = f'[[operations]]\ninclude-operation-id = "{operation}"\n'
            bindings.append(f"{head}[operations.parameters]\n{''.join(bound)}")
    return "\n".join([CONFIG, *words, *bindings])


@pytest.mark.timeout(3_600)
def test_schemathesis_finds_nothing_and_reaches_everything(
    served: Served, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """F57."""
    assert served.shop is not None
    known = {route.name: _known(route, served.shop) for route in all_routes()}
    config, there = tmp_path / "schemathesis.toml", tmp_path / "known.json"
    config.write_text(_config(known))
    there.write_text(json.dumps(known))
    examples = str(pytestconfig.getoption("--examples") or 5)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)),
        *("run", f"{served.url}/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {served.secret}"),
        *("--checks", "all", "--max-examples", examples, "--seed", "1", "--no-color"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), hooks.KNOWN: str(there)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d+ generated, \d+ passed", done.stdout), done.stdout[-2000:]
    reached = served.done()
    missed = [one.name for one in all_routes() if (one.method, one.path) not in reached]
    assert missed == [], f"{len(all_routes()) - len(missed)} operations were reached"
