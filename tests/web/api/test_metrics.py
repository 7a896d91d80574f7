"""What `/metrics` tells about the flow of money."""

import typing
from datetime import timedelta

import httpx
import msgspec
from sqlalchemy import update

from app.jobs import Job
from app.ledger.models import PostingRow
from app.payments.models import PspCall
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookConnections, BookPsp
from tests.support.runtime import Clock, make_runtime
from web.asgi import create_app


async def metrics(rt: Runtime, clock: Clock) -> dict[str, float]:
    settings = msgspec.structs.replace(rt.settings, metrics_public=True)
    other = make_runtime(settings, clock, BookConnections(settings, clock))
    transport = httpx.ASGITransport(app=typing.cast("typing.Any", create_app(other)))
    async with httpx.AsyncClient(transport=transport, base_url=settings.public_url) as client:
        answer = await client.get("/metrics")
    await other.close()
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def calls(found: dict[str, float]) -> dict[str, float]:
    return {
        name.split('class="')[1].split('"')[0]: value
        for name, value in found.items()
        if name.startswith("counterfoil_psp_calls_5m{")
    }


async def test_calls_to_psps_are_counted_by_class_for_five_minutes(
    rt: Runtime, clock: Clock, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "declined"])
    await story.charge()
    found = calls(await metrics(rt, clock))
    assert found["declined"] == 1
    async with rt.sessions.begin() as session:
        await session.execute(update(PspCall).values(outcome=None, finished_at=None))
    assert set(calls(await metrics(rt, clock))) == {"unfinished"}
    async with rt.sessions.begin() as session:
        early = rt.clock() - timedelta(minutes=6)
        await session.execute(update(PspCall).values(started_at=early))
    assert calls(await metrics(rt, clock)) == {}


async def test_each_queue_tells_how_long_its_oldest_due_job_waits(
    rt: Runtime, clock: Clock, psp: BookPsp
) -> None:
    name = 'counterfoil_oldest_due_job_seconds{queue="%s"}'
    story = await Story.begin(rt, psp)
    await story.create(payment_method="pm_card_visa")
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).values(run_at=rt.clock() - timedelta(minutes=2)))
    found = await metrics(rt, clock)
    assert 120 <= found[name % "psp"] < 180
    assert found[name % "mail"] == 0


async def test_postings_that_no_ledger_has_recorded_are_counted(
    rt: Runtime, clock: Clock, psp: BookPsp
) -> None:
    name = 'counterfoil_ledger_postings_waiting{ledger="test:0"}'
    story = await Story.begin(rt, psp)
    await story.charge()
    assert (await metrics(rt, clock))[name] == 0
    async with rt.sessions.begin() as session:
        await session.execute(update(PostingRow).values(status="waiting"))
    assert (await metrics(rt, clock))[name] >= 1
