"""I20, S41: no planted secret comes out by any route, nor by any way in which one can fail."""

import io
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from redis.asyncio import Redis
from sqlalchemy import insert, select

from app import jobs
from app.accounts.models import User
from app.db import Sessions, make_engine
from app.jobs import MAX_FAILURES, Claim, Job
from app.psp import registry
from app.psp.registry import Connections
from app.queue import ArqDoorbell
from app.runtime import Runtime
from tests.payments.story import Story
from tests.psp.stripe.wire import refusal, reply, wired
from tests.support.browser import Browser
from tests.support.cast import Cast
from tests.support.gates import OpenGates
from tests.support.runtime import Clock, make_runtime, test_settings
from tests.web import canaries as planted
from tests.web.api.shop import Api
from tests.web.canaries import Canaries, watching
from tests.web.dashboard.all_routes import HOW, Asker, all_of
from tests.web.dashboard.belongings import call_all, furnish, press_all
from tests.web.dashboard.money import Shop
from tests.web.dashboard.test_audit_rows import as_a_newcomer, as_an_admin, dead
from workers.runner import Known, Queue, Runner


@pytest.fixture
async def rt(
    database_url: str, tmp_path: Path, clock: Clock, redis_url: str
) -> AsyncIterator[Runtime]:
    """Return a runtime whose own secrets are canaries, with a Redis to look into."""
    settings = test_settings(
        database_url,
        tmp_path,
        redis_url=redis_url,
        sealing_keys={"k1": planted.SEALING_KEY},
        pepper=planted.PEPPER,
        sandbox_secret_key=planted.PSP_KEY,
        sandbox_webhook_secret=planted.PSP_WEBHOOK,
        metrics_public=True,
        rate_limit_burst=100_000,
    )
    made = make_runtime(settings, clock)
    made.queue = ArqDoorbell(redis_url)
    made.sessions = Sessions(make_engine(database_url), made.queue.ring)
    async with made.sessions.begin() as session:
        await registry.ensure_rows(session, made.connections, now=clock())
    yield made
    await made.close()


@pytest.fixture
def known(rt: Runtime, cast: Cast) -> Canaries:
    return Canaries(rt, cast)


@pytest.fixture
def log(known: Canaries, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    with watching(known, monkeypatch) as stream:
        yield stream


@pytest.mark.parametrize("how", HOW)
async def test_no_route_lets_a_secret_out_however_it_fails(
    app: Litestar,
    cast: Cast,
    shop: Shop,
    api: Api,
    known: Canaries,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    how: str,
) -> None:
    """I20, S41, S42: each route of the table, with secrets in fields, headers and addresses."""
    things, letters = await furnish(shop), await dead(shop)
    made = await api.create(customer=planted.PERSONAL)
    asker = Asker(app, things, api, known)
    async with Browser(app) as nobody:
        page = await nobody.get("/forgotten")
        await nobody.submit(page, "/forgotten", email=cast.alice.email)
    await api.runner.drain()
    asker.ids = {
        "checkout": made["checkout_url"].rpartition("/")[2],
        "link": known.letters()[-1],
        "job_id": letters[0],
    }
    asker.how = how
    routes = all_of(app)
    for method, path in routes:
        await asker.ask(method, path)
    assert len(asker.statuses) == len(routes)
    worked = [name for name, told in asker.statuses.items() if min(told) < 400]
    if how == "nothing":
        assert len(worked) > len(routes) * 0.8
        assert max(max(told) for told in asker.statuses.values()) < 500
    else:
        failed = [name for name, told in asker.statuses.items() if max(told) >= 500]
        assert len(failed) > len(routes) * (0.9 if how == "no statement" else 0.25)
    await api.runner.drain()
    await clean(known, log, capfd)


async def test_what_people_and_shops_do_leaves_no_secret_behind(
    app: Litestar,
    rt: Runtime,
    cast: Cast,
    shop: Shop,
    api: Api,
    clock: Clock,
    known: Canaries,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """I20, S41: every button and every operation, as those do who may, and the letters."""
    things, others = await furnish(shop), await furnish(shop, "2")
    letters = await dead(shop)
    await api.create(payment_method="pm_card_visa", customer=planted.PERSONAL)
    ran = [one async for one in press_all(app, rt, things, cast.alice)]
    ran += [one async for one in call_all(api, others)]
    async with Browser(app, cast.ada) as ada:
        ran += [one async for one in as_an_admin(ada, rt, cast, letters)]
    ran += [one async for one in as_a_newcomer(app, rt, clock)]
    assert len(ran) > 80
    await api.runner.drain()
    assert {"API key", "TOTP secret", "recovery code", "form token"} <= set(known.known.values())
    metrics = await api.get("/metrics")
    assert metrics.status_code == 200
    assert not known.found(metrics.text)
    await clean(known, log, capfd)


async def clean(known: Canaries, log: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    """Look for every secret that is known by now where none may be."""
    known.letters()
    told = [*known.refused, *await known.rows()]
    for line in log.getvalue().splitlines():
        told += [f"log, {kind}: {line[:1000]}" for kind in known.found(line)]
    printed = capfd.readouterr()
    told += [f"printed: {kind}" for kind in known.found(printed.out + printed.err)]
    told += [f"Redis: {kind}" for kind in known.found(await in_redis(known.rt.settings.redis_url))]
    assert not told, f"{len(told)} times:\n" + "\n".join(told[:20])


async def in_redis(url: str) -> str:
    """Return everything that Redis holds, as text."""
    parts = []
    async with Redis.from_url(url) as redis:
        keys = await redis.keys("*")
        assert keys, "nothing came to Redis at all"
        for key in keys:
            parts += [repr(key), repr(await redis.dump(key))]
    return "\n".join(parts)


PSP_SAYS = f"Invalid email {planted.EMAIL}, card {planted.CARD}, key {planted.PSP_KEY}"


@pytest.mark.parametrize(
    "answer",
    [
        reply(402, refusal("card_error", message=PSP_SAYS, code="card_declined")),
        reply(400, refusal(message=PSP_SAYS, param=planted.EMAIL)),
        reply(401, refusal(message=PSP_SAYS)),
        reply(500, f"<html>{PSP_SAYS}</html>".encode()),
        reply(200, {"id": planted.EMAIL, "object": PSP_SAYS, "amount": PSP_SAYS}),
    ],
    ids=["declined", "refused", "unauthorized", "error", "senseless"],
)
async def test_what_a_psp_says_is_kept_without_what_it_repeats(
    app: Litestar,
    rt: Runtime,
    cast: Cast,
    known: Canaries,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    answer: bytes,
) -> None:
    """I20: a PSP's message may name the customer, a card or our key; none of it is kept."""
    async with wired(answer) as wire:
        settings = test_settings(
            rt.settings.database_url,
            Path(rt.settings.data_dir),
            sandbox_url=wire.url,
            sandbox_secret_key=planted.PSP_KEY,
        )
        rt.connections, rt.made_gates = Connections(settings, rt.clock), OpenGates(rt)
        story = Story(rt, None, cast.shop.id)  # type: ignore[arg-type] # There is no book here.
        made = await story.create(payment_method="pm_card_visa", email=planted.EMAIL)
        await story.work()
        await story.hurry()
        assert wire.requests
        async with Browser(app, cast.alice) as alice, Browser(app, cast.ada) as ada:
            pages = [await alice.get(f"/m/{cast.shop.id}/test/payments/{made.id}")]
            pages.append(await ada.get("/admin/dead-letters"))
            async with rt.sessions.read() as session:
                letters = list(await session.scalars(select(Job.id).where(Job.state == "dead")))
            pages += [await ada.get(f"/admin/dead-letters/{job_id}") for job_id in letters]
        for page in pages:
            assert page.status == 200
            # The customer's address is shown to the shop from its sealed column.
            told = known.found(
                page.text, "form token", "form key", "checkout address", "customer e-mail"
            )
            assert not told
        await rt.connections.close()
    async with rt.sessions.begin() as session:
        await jobs.enqueue(
            session, id=rt.ids("job"), kind="x", args={}, queue="psp", now=rt.clock()
        )
    await rt.queue.close()
    await clean(known, log, capfd)


async def fails_at_the_database(rt: Runtime, _job: Claim) -> None:
    async with rt.sessions.begin() as session:
        for _ in range(2):
            await session.execute(
                insert(User).values(
                    id=rt.ids("usr"),
                    email=planted.EMAIL,
                    name=planted.NAME,
                    password_hash=planted.PASSWORD,
                    is_admin=False,
                    created_at=rt.clock(),
                )
            )


async def fails_with_a_value(rt: Runtime, _job: Claim) -> None:
    raise ValueError(
        f"{planted.PSP_KEY} {planted.EMAIL} {planted.CARD} {planted.PSP_WEBHOOK} "
        f"Cookie: session={planted.NAME}"
    )


async def fails_at_a_null(rt: Runtime, _job: Claim) -> None:
    async with rt.sessions.begin() as session:
        await session.execute(
            insert(User).values(id=None, email=planted.EMAIL, name=planted.NAME, is_admin=False)
        )


@pytest.mark.parametrize("work", [fails_at_the_database, fails_with_a_value, fails_at_a_null])
async def test_a_dead_letter_tells_its_cause_without_the_values(
    app: Litestar,
    rt: Runtime,
    cast: Cast,
    known: Canaries,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    work: Any,
) -> None:
    """I20: a job's exception goes into the log, its row and the page of the dead letters."""
    async with rt.sessions.begin() as session:
        values: dict[str, Any] = {"kind": "mail.send", "args": {}, "queue": "mail"}
        await jobs.enqueue(session, id=rt.ids("job"), now=rt.clock(), **values)
    runner = Runner(
        rt, kinds={"mail.send": Known(work)}, queues=[Queue("mail", 1)], owner="me", lease=15
    )
    for _ in range(MAX_FAILURES):
        async with rt.sessions.begin() as session:
            for job in await session.scalars(select(Job).where(Job.state == "due")):
                job.run_at = rt.clock() - timedelta(seconds=1)  # SQLite's clock ticks slowly.
        await runner.drain()
    async with rt.sessions.read() as session:
        (job,) = await session.scalars(select(Job))
    assert (job.state, len(job.history)) == ("dead", MAX_FAILURES)
    assert "Error" in (job.reason or "")
    async with Browser(app, cast.ada) as ada:
        page = await ada.get(f"/admin/dead-letters/{job.id}")
        assert page.status == 200
        assert not known.found(page.text, "form token", "form key")
    assert "job_failed" in log.getvalue()
    await rt.queue.close()
    await clean(known, log, capfd)
