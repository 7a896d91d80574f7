"""Rows that the tests of webhooks start from."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update
from standardwebhooks import Webhook

from app.audit.operations import Actor
from app.jobs import Job
from app.runtime import Runtime
from app.webhooks import operations, processing
from app.webhooks.models import Delivery, Endpoint
from tests.support.receiver import Received
from workers.runner import Known, Queue, Runner

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OWNER = Actor(kind="user", id="usr_alice", name="alice@shop.example")
TENANT: dict[str, Any] = {"merchant_id": "mer_1", "livemode": False}


async def add_endpoint(rt: Runtime, *, url: str = "https://shop.example/hooks", **more: Any) -> str:
    """Insert an endpoint as it is after creating; return its id."""
    endpoint_id = rt.ids("we")
    now = rt.clock()
    row = {
        "id": endpoint_id,
        "merchant_id": "mer_1",
        "livemode": False,
        "url": url,
        "event_types": [],
        "secret_sealed": rt.sealer.seal_text(SECRET, f"webhook_endpoints:{endpoint_id}:secret"),
        "status": "active",
        "api_version": "2026-11-22",
        "created_at": now,
        "updated_at": now,
    }
    async with rt.sessions.begin() as session:
        await session.execute(insert(Endpoint).values(**row | more))
    return endpoint_id


async def add_event(rt: Runtime, **more: Any) -> str:
    """Emit an event of no payment; return its id."""
    event_id = rt.ids("evt")
    values: dict[str, Any] = {
        "id": event_id,
        "merchant_id": "mer_1",
        "livemode": False,
        "type": "payment.created",
        "object": {"id": "pay_1", "object": "payment"},
        "sequence": None,
        "previous_status": None,
        "payment_id": None,
        "refund_id": None,
        "sealer": rt.sealer,
        "now": rt.clock(),
    }
    async with rt.sessions.begin() as session:
        await operations.emit(session, **values | more)
    return event_id


def make_runner(rt: Runtime) -> Runner:
    """Return a runner of the webhooks queue, as a worker has it."""
    return Runner(
        rt,
        kinds={"webhooks.deliver": Known(processing.deliver)},
        queues=[Queue("webhooks", 32, processing.fan_out)],
        owner="test",
        lease=30,
    )


async def work(rt: Runtime) -> None:
    """Run everything of the webhooks queue that is due now."""
    await make_runner(rt).drain()


async def skip_waiting(rt: Runtime) -> None:
    """Make every job that waits for its time due now."""
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Job).where(Job.state == "due").values(run_at=datetime(2026, 1, 1, tzinfo=UTC))
        )


async def the_delivery(rt: Runtime) -> Delivery:
    """Return the only delivery there is."""
    async with rt.sessions.read() as session:
        return (await session.execute(select(Delivery))).scalar_one()


async def the_endpoint(rt: Runtime, endpoint_id: str) -> Endpoint:
    """Return an endpoint as it is now."""
    async with rt.sessions.read() as session:
        return (await session.execute(select(Endpoint).filter_by(id=endpoint_id))).scalar_one()


async def the_jobs(rt: Runtime) -> list[Job]:
    """Return every job, oldest first."""
    async with rt.sessions.read() as session:
        return list((await session.execute(select(Job).order_by(Job.id))).scalars())


def verified(request: Received, secret: str = SECRET) -> dict[str, Any]:
    """Verify a request with the reference library, as a shop does; return its body.

    Raises WebhookVerificationError.
    """
    body: dict[str, Any] = Webhook(secret).verify(request.body, request.headers)
    return body
