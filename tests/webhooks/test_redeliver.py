"""Sending again by hand, and what slow shops, lost leases and shutdowns do to deliveries."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from app import jobs
from app.audit.models import AuditRow
from app.runtime import Runtime
from app.webhooks import operations, processing
from app.webhooks.models import Delivery
from tests.support.receiver import Receiver, Reply, receiving
from tests.webhooks.shop import (
    OWNER,
    TENANT,
    add_endpoint,
    add_event,
    make_runner,
    skip_waiting,
    the_delivery,
    the_jobs,
    work,
)

DOWN = Reply(status=500, body=b"broken")


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def _redeliver(rt: Runtime, delivery_id: str) -> None:
    async with rt.sessions.begin() as session:
        await operations.redeliver(
            session, **TENANT, delivery_id=delivery_id, actor=OWNER, ids=rt.ids, now=rt.clock()
        )


async def test_redelivering_sends_the_same_event_once_more_and_leaves_the_schedule(
    rt: Runtime, shop: Receiver
) -> None:
    shop.script.extend([DOWN, DOWN])
    await add_endpoint(rt, url=shop.url)
    event = await add_event(rt)
    await work(rt)
    delivery = await the_delivery(rt)
    await _redeliver(rt, delivery.id)
    await _redeliver(rt, delivery.id)
    await work(rt)
    assert len(shop.requests) == 2
    failed = await the_delivery(rt)
    assert (failed.state, failed.tries, len(failed.log)) == ("retrying", 1, 2)
    assert failed.log[1]["manual"] is True
    assert failed.next_try_at == delivery.next_try_at
    await _redeliver(rt, delivery.id)
    await work(rt)
    assert (await the_delivery(rt)).state == "delivered"
    await skip_waiting(rt)
    await work(rt)
    assert [request.headers["webhook-id"] for request in shop.requests] == [event] * 3
    assert {job.state for job in await the_jobs(rt)} == {"done"}
    async with rt.sessions.read() as session:
        actions = list((await session.execute(select(AuditRow.action))).scalars())
    assert actions == ["delivery.redelivered"] * 2


async def test_redelivering_what_was_given_up_or_delivered_works_too(
    rt: Runtime, shop: Receiver
) -> None:
    await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    await work(rt)
    delivery = await the_delivery(rt)
    shop.script.append(DOWN)
    await _redeliver(rt, delivery.id)
    await work(rt)
    again = await the_delivery(rt)
    assert (again.state, again.last_status) == ("delivered", 500)
    assert again.delivered_at == delivery.delivered_at
    async with rt.sessions.begin() as session:
        await session.execute(update(Delivery).values(state="exhausted"))
    await _redeliver(rt, delivery.id)
    await work(rt)
    assert (await the_delivery(rt)).state == "delivered"


async def test_an_endpoint_that_was_deleted_or_switched_off_gets_nothing_more(
    rt: Runtime, shop: Receiver
) -> None:
    shop.reply = DOWN
    deleted = await add_endpoint(rt, url=shop.url)
    disabled = await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    await work(rt)
    change = TENANT | {"actor": OWNER, "ids": rt.ids, "now": rt.clock()}
    async with rt.sessions.begin() as session:
        await operations.delete_endpoint(session, endpoint_id=deleted, **change)
        await operations.update_endpoint(session, endpoint_id=disabled, disabled=True, **change)
    await skip_waiting(rt)
    await work(rt)
    assert len(shop.requests) == 2
    async with rt.sessions.read() as session:
        found = list((await session.execute(select(Delivery))).scalars())
    assert {delivery.state for delivery in found} == {"exhausted"}
    assert {job.state for job in await the_jobs(rt)} == {"done"}


async def test_a_slow_endpoint_delays_no_other_one(rt: Runtime) -> None:
    """F33."""
    async with receiving(Reply(wait=60)) as slow, receiving() as quick:
        await add_endpoint(rt, url=slow.url)
        for _ in range(40):
            await add_event(rt)
        await processing.fan_out(rt)
        runner = make_runner(rt)
        running = asyncio.create_task(runner.run())
        await slow.wait_for(4)
        await add_endpoint(rt, url=quick.url, merchant_id="mer_2")
        for _ in range(20):
            await add_event(rt, merchant_id="mer_2")
        await quick.wait_for(20, seconds=13)  # The slow one holds its places for 15 s.
        assert len(slow.requests) == 4
        await runner.stop(0.1)
        await running


async def test_a_worker_that_lost_its_lease_writes_nothing(rt: Runtime, shop: Receiver) -> None:
    await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    await processing.fan_out(rt)
    async with rt.sessions.begin() as session:
        (first,) = await jobs.claim(session, queue="webhooks", limit=4, owner="a", lease=30)
    await skip_waiting(rt)
    async with rt.sessions.begin() as session:
        (second,) = await jobs.claim(session, queue="webhooks", limit=4, owner="b", lease=30)
    shop.script.append(DOWN)
    with pytest.raises(jobs.LeaseLost):
        await processing.deliver(rt, first)
    assert (await the_delivery(rt)).tries == 0
    await processing.deliver(rt, second)
    assert second.finished
    assert (await the_delivery(rt)).state == "delivered"


async def test_a_try_cut_by_a_shutdown_is_made_again(rt: Runtime, shop: Receiver) -> None:
    shop.script.append(Reply(wait=30))
    await add_endpoint(rt, url=shop.url)
    event = await add_event(rt)
    runner = make_runner(rt)
    running = asyncio.create_task(runner.run())
    await shop.wait_for(1)
    await runner.stop(0.05)
    await running
    assert (await the_delivery(rt)).state == "queued"
    await work(rt)
    assert (await the_delivery(rt)).state == "delivered"
    assert [request.headers["webhook-id"] for request in shop.requests] == [event] * 2
