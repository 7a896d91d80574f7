"""More than can be served is refused at once, and the way in stays open."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db import Sessions, make_engine
from app.payments import queries
from app.runtime import Runtime
from tests.support.cast import Cast
from tests.web.api.shop import Api, problem
from web.asgi import create_app
from web.limits import Places

BASE = "https://localhost"


async def test_beyond_its_places_a_process_answers_503_at_once(
    rt: Runtime, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F56, F44: the third of two waits for nothing; signs of life and sign-in still answer."""
    rt.settings = msgspec.structs.replace(rt.settings, requests_at_once=2)
    app = create_app(rt)
    go, at_work = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(*args: Any, **kw: Any) -> Any:
        at_work.release()
        await go.wait()
        raise PoolTimeout

    monkeypatch.setattr(queries, "list_payments", slow)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type] # Litestar is ASGI.
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        headers = {"Authorization": f"Bearer {cast.shop.secret}"}
        held = [asyncio.create_task(client.get("/v1/payments", headers=headers)) for _ in range(2)]
        for _ in held:
            await at_work.acquire()
        told = [await client.get("/v1/balance", headers=headers) for _ in range(6)]
        for answer in told:
            assert "Nothing was done" in problem(answer, 503, "overloaded")["detail"]
        # Not all of them come back in the same second.
        assert len({answer.headers["retry-after"] for answer in told}) == 3
        page = await client.get("/payments")
        assert page.status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/sign-in")).status_code == 200
        go.set()
        for task in held:
            problem(await task, 503, "overloaded")
        assert (await client.get("/v1/balance", headers=headers)).status_code == 200
    await app.state.limiter.close()


def test_places_are_given_back_and_the_way_in_has_its_own() -> None:
    places = Places(4)
    assert [places.take("/v1/payments") for _ in range(5)] == [True] * 4 + [False]
    assert places.take("/sign-in")
    assert not places.take("/healthz")
    places.give_back()
    places.give_back()
    assert places.take("/v1/payments")


async def test_a_pool_without_a_free_connection_is_503_and_no_hang(
    api: Api, rt: Runtime, app: Litestar
) -> None:
    """F44."""
    engine = make_engine(rt.settings.database_url, pool_size=1, pool_timeout=0.05)
    rt.sessions, usual = Sessions(engine, patience=0.05), rt.sessions
    held = await engine.connect()
    try:
        problem(await api.get("/v1/payments"), 503, "overloaded")
        refused = await api.post("/v1/payments", {"amount": 100, "currency": "eur"})
        # Where in a request there was no connection is not known here: it may follow a commit.
        told = problem(refused, 503, "overloaded")["detail"]
        assert "It may or may not have happened" in told
        assert int(refused.headers["retry-after"]) >= 1
        assert (await api.client.get("/healthz")).status_code == 200
        assert (await api.client.get("/readyz")).status_code == 503
    finally:
        await held.close()
    assert (await api.get("/v1/payments")).status_code == 200
    await engine.dispose()
    rt.sessions = usual


async def test_a_database_that_is_away_is_503_with_a_time(
    api: Api, rt: Runtime, app: Litestar
) -> None:
    """F44, F49: the shop is told when to come back, and nothing that we do not know."""
    nowhere = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    engine = make_engine(nowhere, pool_size=1, pool_timeout=0.5)
    rt.sessions, usual = Sessions(engine), rt.sessions
    for answer, words in (
        (await api.get("/v1/payments"), "Try again soon."),
        (
            await api.post("/v1/payments", {"amount": 100, "currency": "eur"}),
            "It may or may not have happened: repeat it with the same Idempotency-Key.",
        ),
    ):
        assert problem(answer, 503, "database_unavailable")["detail"] == words
        assert int(answer.headers["retry-after"]) >= 1
    assert (await api.client.get("/healthz")).status_code == 200
    await engine.dispose()
    rt.sessions = usual


async def test_a_server_that_says_nothing_is_given_up(rt: Runtime) -> None:
    """F49, F50: a database host that was cut off takes the connection and never answers."""
    served: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = make_engine(f"postgresql+asyncpg://a@127.0.0.1:{port}/b", pool_size=1)
    with pytest.raises((TimeoutError, OSError)):
        async with asyncio.timeout(30), engine.connect():
            pass
    await engine.dispose()
    for writer in served:
        writer.close()
    server.close()
