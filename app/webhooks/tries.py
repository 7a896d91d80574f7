"""One try of a delivery: what it needs, and what its outcome changes, in one transaction each."""

from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.audit import operations as audit
from app.runtime import Runtime
from app.secrets import Sealer
from app.webhooks import bodies, schedule
from app.webhooks.models import CUSTOMERS, Delivery, Endpoint, Event

_LOG_LINES = 50


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """All that one try needs, read in one statement."""

    delivery_id: str
    state: str
    endpoint_id: str
    merchant_id: str
    livemode: bool
    event_id: str
    url: str
    endpoint_status: str
    deleted: bool
    secrets: list[str]
    api_version: str
    body: bytes | None  # None: the customer was erased, or the body is no longer kept.
    sealer: Sealer | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a try ended."""

    ms: int
    status: int | None = None
    error: str | None = None  # None: the shop has it.
    excerpt: str | None = None


async def start(session: AsyncSession, rt: Runtime, *, job: jobs.Claim) -> Try | None:
    """Read what a try needs; None, and the job finished, when there is nothing to send."""
    current = await _read(session, rt, job.args["delivery_id"])
    manual = job.args.get("manual", False)
    if current is None or (current.state in {"delivered", "exhausted"} and not manual):
        return None
    if current.deleted:
        why = "the endpoint was deleted"
    elif current.endpoint_status == "disabled":
        why = "the endpoint is switched off"
    elif current.body is None:
        why = "the event's content is no longer kept"
    else:
        return current
    if current.state in {"queued", "retrying"}:
        await _update(session, current, state="exhausted", next_try_at=None, last_error=why)
    await jobs.finish(session, job=job, now=rt.clock())
    return None


async def _read(session: AsyncSession, rt: Runtime, delivery_id: str) -> Try | None:
    row = (
        await session.execute(
            select(Delivery.state, Event, Endpoint, CUSTOMERS.c.data_key_sealed)
            .join(Event, Event.id == Delivery.event_id)
            .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
            .outerjoin(CUSTOMERS, CUSTOMERS.c.payment_id == Event.payment_id)
            .where(Delivery.id == delivery_id)
        )
    ).first()
    if row is None:
        return None
    event: Event = row.Event
    endpoint: Endpoint = row.Endpoint
    sealer = bodies.sealer_of(rt.sealer, event.payment_id, row.data_key_sealed)
    body = None
    if sealer is not None and event.body_sealed:
        body = sealer.open(event.body_sealed, bodies.body_place(event.id))
    return Try(
        delivery_id=delivery_id,
        state=row.state,
        endpoint_id=endpoint.id,
        merchant_id=endpoint.merchant_id,
        livemode=endpoint.livemode,
        event_id=event.id,
        url=endpoint.url,
        endpoint_status=endpoint.status,
        deleted=endpoint.deleted_at is not None,
        secrets=_secrets(rt, endpoint),
        api_version=event.api_version,
        body=body,
        sealer=sealer,
    )


def _secrets(rt: Runtime, endpoint: Endpoint) -> list[str]:
    secrets = [rt.sealer.open_text(endpoint.secret_sealed, bodies.secret_place(endpoint.id))]
    until = endpoint.old_secret_until
    if endpoint.old_secret_sealed and until is not None and until > rt.clock():
        place = bodies.old_secret_place(endpoint.id)
        secrets.append(rt.sealer.open_text(endpoint.old_secret_sealed, place))
    return secrets


async def finish(
    session: AsyncSession, rt: Runtime, *, job: jobs.Claim, current: Try, outcome: Outcome
) -> None:
    """Note how a try ended: the delivery, its endpoint, and the job: done or due again.

    Raises LeaseLost: roll everything back.
    """
    now, manual = rt.clock(), bool(job.args.get("manual", False))
    held = (
        await session.execute(
            select(Delivery.state, Delivery.tries, Delivery.log)
            .where(Delivery.id == current.delivery_id)
            .with_for_update()
        )
    ).one()
    gone = outcome.status == 410
    tries = held.tries + (0 if manual else 1)
    values: dict[str, Any] = {
        "tries": tries,
        "log": [*held.log, _line(now, outcome, manual=manual)][-_LOG_LINES:],
        "last_status": outcome.status,
        "last_error": outcome.error,
    }
    if outcome.excerpt and current.sealer is not None:
        place = bodies.answer_place(current.delivery_id)
        values["answer_sealed"] = current.sealer.seal_text(outcome.excerpt, place)
    delay = None
    if outcome.error is None:
        values |= {"state": "delivered", "next_try_at": None}
        if held.state != "delivered":
            values["delivered_at"] = now
    elif held.state != "delivered" and not manual:
        delay = None if gone else schedule.next_delay(tries, rt.ids.uniform(0, 1))
        values["state"] = "exhausted" if delay is None else "retrying"
        values["next_try_at"] = None if delay is None else now + timedelta(seconds=delay)
    await _update(session, current, **values)
    await _note_endpoint(session, rt, current, outcome, tries=tries)
    if delay is None:
        await jobs.finish(session, job=job, now=now)
        return
    await jobs.check(session, job=job)
    await jobs.postpone(
        session, job=job, now=now, seconds=delay, reason=outcome.error or "", failed=False
    )
    job.finished = True  # This transaction has said when the job is due again.


def _line(now: Any, outcome: Outcome, *, manual: bool) -> dict[str, Any]:
    line = {"at": now.isoformat(), "status": outcome.status, "ms": outcome.ms}
    if outcome.error is not None:
        line["error"] = outcome.error
    if manual:
        line["manual"] = True
    return line


async def _update(session: AsyncSession, current: Try, **values: Any) -> None:
    await session.execute(
        update(Delivery)
        .where(Delivery.id == current.delivery_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def _note_endpoint(
    session: AsyncSession, rt: Runtime, current: Try, outcome: Outcome, *, tries: int
) -> None:
    now = rt.clock()
    changed: dict[str, Any]
    expected = ["active", "failing"]
    if outcome.status == 410:
        changed = {
            "status": "disabled",
            "status_reason": "The shop answered 410 Gone: it wants no more events here.",
            "failing_since": None,
        }
    elif outcome.error is None and current.endpoint_status == "failing":
        changed = {"status": "active", "status_reason": None, "failing_since": None}
        expected = ["failing"]
    elif outcome.error is not None and current.endpoint_status == "active" and tries > 1:
        # One failed try is a hiccup; the second one of the same event is not.
        changed = {
            "status": "failing",
            "status_reason": outcome.error[:200],
            "failing_since": now,
        }
        expected = ["active"]
    else:
        return
    result = await session.execute(
        update(Endpoint)
        .where(Endpoint.id == current.endpoint_id, Endpoint.status.in_(expected))
        .values(**changed, updated_at=now)
        .returning(Endpoint.id)
        .execution_options(synchronize_session=False)
    )
    if result.first() is not None and outcome.status == 410:
        await audit.record(
            session,
            ids=rt.ids,
            now=now,
            actor=audit.SYSTEM,
            action="webhook_endpoint.disabled",
            object_id=current.endpoint_id,
            merchant_id=current.merchant_id,
            livemode=current.livemode,
            before={"status": current.endpoint_status},
            after={"status": "disabled"},
            reason="HTTP 410",
        )
