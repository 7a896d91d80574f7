"""Which events reach which endpoints."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from app import jobs
from app.runtime import Runtime
from app.secrets import SealBroken
from app.webhooks import operations
from app.webhooks.models import Delivery, Event
from app.webhooks.processing import _CHOSEN, _NEW, fan_out
from tests.webhooks.shop import add_endpoint, add_event


async def _deliveries(rt: Runtime) -> set[tuple[str, str]]:
    async with rt.sessions.read() as session:
        found = await session.execute(select(Delivery.endpoint_id, Delivery.event_id))
        return {(row.endpoint_id, row.event_id) for row in found}


async def test_an_events_body_is_exactly_what_the_standard_says_and_is_sealed(rt: Runtime) -> None:
    now = rt.clock()
    row = operations.event_row(
        id="evt_1",
        merchant_id="mer_1",
        livemode=False,
        type="payment.succeeded",
        object={"id": "pay_1", "description": "Käse ☕"},
        sequence=3,
        previous_status="processing",
        payment_id="pay_1",
        refund_id=None,
        sealer=rt.sealer,
        now=now,
    )
    assert "pay_1" not in row["body_sealed"]
    body = json.loads(rt.sealer.open_text(row["body_sealed"], "events:evt_1:body"))
    assert list(body) == ["type", "timestamp", "data"]
    assert body["timestamp"] == now.isoformat().replace("+00:00", "Z")
    assert body["data"] == {
        "object": {"id": "pay_1", "description": "Käse ☕"},
        "sequence": 3,
        "previous_status": "processing",
    }
    with pytest.raises(SealBroken):
        rt.sealer.open_text(row["body_sealed"], "events:evt_2:body")


async def test_emit_rings_the_queue_after_the_commit(rt: Runtime) -> None:
    await add_event(rt)
    assert rt.queue.rung == ["webhooks"]  # type: ignore[attr-defined] # The silent stand-in.


async def test_each_event_reaches_each_endpoint_that_wants_it_once(rt: Runtime) -> None:
    everything = await add_endpoint(rt)
    refunds = await add_endpoint(rt, event_types=["refund.created"])
    paid = await add_event(rt, type="payment.succeeded")
    refund = await add_event(rt, type="refund.created")
    assert await fan_out(rt) == 2
    assert await fan_out(rt) == 0
    assert await _deliveries(rt) == {(everything, paid), (everything, refund), (refunds, refund)}


async def test_no_event_crosses_merchants_modes_or_reaches_a_closed_endpoint(rt: Runtime) -> None:
    await add_endpoint(rt, merchant_id="mer_other")
    await add_endpoint(rt, livemode=True)
    await add_endpoint(rt, status="disabled")
    await add_endpoint(rt, deleted_at=rt.clock())
    await add_endpoint(rt, created_at=rt.clock() + timedelta(seconds=60))
    await add_event(rt)
    assert await fan_out(rt) == 1
    assert await _deliveries(rt) == set()


async def test_an_endpoint_whose_host_is_ahead_misses_nothing(rt: Runtime) -> None:
    """Seed 104 of the simulation: the event came after the endpoint, by a slower clock."""
    endpoint = await add_endpoint(rt, created_at=rt.clock() + timedelta(seconds=5))
    event = await add_event(rt)
    await fan_out(rt)
    assert await _deliveries(rt) == {(endpoint, event)}


async def test_a_test_event_reaches_its_endpoint_alone(rt: Runtime) -> None:
    await add_endpoint(rt)
    chosen = await add_endpoint(rt, event_types=["refund.created"])
    event = await add_event(rt, type="endpoint.test", endpoint_id=chosen)
    await fan_out(rt)
    assert await _deliveries(rt) == {(chosen, event)}


async def test_each_delivery_gets_one_job_that_is_fair_by_endpoint(rt: Runtime) -> None:
    endpoint = await add_endpoint(rt)
    event = await add_event(rt, payment_id="pay_1")
    await fan_out(rt)
    async with rt.sessions.read() as session:
        job = (await session.execute(select(jobs.Job))).scalar_one()
        delivery = (await session.execute(select(Delivery))).scalar_one()
    assert (job.kind, job.queue, job.fair_key) == ("webhooks.deliver", "webhooks", endpoint)
    assert job.args == {"delivery_id": delivery.id}
    assert (job.merchant_id, job.livemode, job.payment_id) == ("mer_1", False, "pay_1")
    assert (delivery.event_id, delivery.state, delivery.tries) == (event, "queued", 0)


async def test_a_large_backlog_goes_in_batches_and_workers_do_not_double_it(rt: Runtime) -> None:
    await add_endpoint(rt)
    async with rt.sessions.begin() as session:
        rows = [_row(rt) for _ in range(230)]
        await session.execute(insert(Event), rows)

    async def drain() -> int:
        total = 0
        while taken := await fan_out(rt, limit=50):
            total += taken
        return total

    assert sum(await asyncio.gather(drain(), drain(), drain())) == 230
    async with rt.sessions.read() as session:
        assert await session.scalar(select(func.count(Delivery.id))) == 230
        assert await session.scalar(select(func.count(jobs.Job.id))) == 230


async def test_a_failure_in_the_middle_leaves_the_event_to_the_next_try(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_endpoint(rt)
    await add_event(rt)

    def broken(**_values: Any) -> dict[str, Any]:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "row", broken)
        with pytest.raises(RuntimeError):
            await fan_out(rt)
    assert await _deliveries(rt) == set()
    assert await fan_out(rt) == 1
    assert len(await _deliveries(rt)) == 1


def _row(rt: Runtime) -> dict[str, Any]:
    return operations.event_row(
        id=rt.ids("evt"),
        merchant_id="mer_1",
        livemode=False,
        type="payment.created",
        object={},
        sequence=None,
        previous_status=None,
        payment_id=None,
        refund_id=None,
        sealer=rt.sealer,
        now=rt.clock(),
    )


@pytest.mark.parametrize("statement", [_NEW, _CHOSEN.limit(500)], ids=["look", "take"])
async def test_what_is_new_is_found_by_the_index_of_it(rt: Runtime, statement: Any) -> None:
    """Each ring and each quiet second asks, and the table holds all that ever happened."""
    dialect, plan = rt.sessions.engine.dialect, "EXPLAIN QUERY PLAN"
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    async with rt.sessions.snapshot() as session:
        if not rt.sessions.sqlite:
            plan = "EXPLAIN"
            await session.execute(text("SET LOCAL enable_seqscan = off"))
        lines = await session.execute(text(f"{plan} {compiled}"))
        found = " ".join(str(line) for line in lines)
    assert "ix_events_not_fanned_out" in found
