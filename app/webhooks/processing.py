"""Hand events to endpoints: one delivery and one job for each pair, then the tries."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import Table, bindparam, exists, false, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.egress import EgressFailed
from app.lanes import LaneFull
from app.runtime import Runtime
from app.webhooks import signing, tries
from app.webhooks.models import Delivery, Endpoint, Event

_EXCERPT_BYTES = 2048
# An event is stamped by one host and an endpoint by another. Better one event from just before
# the endpoint was made than the first one after it lost.
_CLOCKS_DIFFER = timedelta(seconds=10)
_ANSWERS_KEPT = timedelta(days=30)


async def fan_out(rt: Runtime, limit: int = 500) -> int:
    """Make a delivery and its job for each new event and each endpoint that wants it.

    Returns the number of events taken, so that the caller repeats until 0. One transaction:
    an event is marked together with its deliveries, or not at all.
    """
    # On SQLite an update that takes nothing would lock the whole file all the same.
    if rt.sessions.sqlite and not await rt.sessions.look(_NEW, {}):
        return 0
    async with rt.sessions.begin() as session:
        events = await _take_events(session, limit)
        if not events:
            return 0
        endpoints = await _endpoints_of(session, events)
        pairs = [
            (event, endpoint)
            for event in events
            for endpoint in endpoints.get((event.merchant_id, event.livemode), ())
            if _wants(endpoint, event)
        ]
        if pairs:
            await _insert_deliveries(session, rt, pairs)
    return len(events)


# Not IS false: the index of what is new is none for that.
_NEW = select(Event.id).where(Event.fanned_out == false()).limit(1)
# A second worker skips the rows that this one holds, instead of waiting for them.
_CHOSEN = (
    select(Event.id)
    .where(Event.fanned_out == false())
    .order_by(Event.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_EVENTS = cast("Table", Event.__table__)
_TAKE = (
    update(_EVENTS)
    .where(_EVENTS.c.id.in_(_CHOSEN))
    .values(fanned_out=True)
    .returning(
        *[
            _EVENTS.c[name]
            for name in (
                "id",
                "merchant_id",
                "livemode",
                "type",
                "payment_id",
                "endpoint_id",
                "created_at",
            )
        ]
    )
)


async def _take_events(session: AsyncSession, limit: int) -> Sequence[Any]:
    taken = await session.execute(_TAKE, {"most": limit})
    return sorted(taken.all(), key=lambda event: event.id)


async def _endpoints_of(
    session: AsyncSession, events: Sequence[Any]
) -> dict[tuple[str, bool], list[Any]]:
    tenants = {(event.merchant_id, event.livemode) for event in events}
    found = await session.execute(
        select(
            Endpoint.id,
            Endpoint.merchant_id,
            Endpoint.livemode,
            Endpoint.event_types,
            Endpoint.created_at,
        ).where(
            tuple_(Endpoint.merchant_id, Endpoint.livemode).in_(tenants),
            Endpoint.status != "disabled",
            Endpoint.deleted_at.is_(None),
        )
    )
    endpoints: dict[tuple[str, bool], list[Any]] = {}
    for endpoint in found:
        endpoints.setdefault((endpoint.merchant_id, endpoint.livemode), []).append(endpoint)
    return endpoints


def _wants(endpoint: Any, event: Any) -> bool:
    if event.endpoint_id is not None:
        return bool(event.endpoint_id == endpoint.id)
    if endpoint.created_at > event.created_at + _CLOCKS_DIFFER:
        return False
    return not endpoint.event_types or event.type in endpoint.event_types


async def _insert_deliveries(
    session: AsyncSession, rt: Runtime, pairs: Sequence[tuple[Any, Any]]
) -> None:
    now = rt.clock()
    deliveries, work = [], []
    for event, endpoint in pairs:
        delivery_id = rt.ids("whd")
        deliveries.append(
            {
                "id": delivery_id,
                "merchant_id": event.merchant_id,
                "livemode": event.livemode,
                "endpoint_id": endpoint.id,
                "event_id": event.id,
                "payment_id": event.payment_id,
                "state": "queued",
                "tries": 0,
                "log": [],
                "next_try_at": now,
                "created_at": now,
            }
        )
        work.append(
            jobs.row(
                id=rt.ids("job"),
                kind="webhooks.deliver",
                args={"delivery_id": delivery_id},
                queue="webhooks",
                now=now,
                merchant_id=event.merchant_id,
                livemode=event.livemode,
                payment_id=event.payment_id,
                fair_key=endpoint.id,
            )
        )
    await session.execute(insert(Delivery), deliveries)
    await jobs.insert_due(session, work)
    db.wake(session, ["webhooks"])


async def deliver(rt: Runtime, job: jobs.Claim) -> None:
    """Try one delivery: read, send, note; then done, or due again by the schedule.

    A crash after the send means that the shop gets the event twice, with the same webhook-id.
    With `manual` in the arguments it is one extra try that leaves the schedule as it is.
    """
    async with rt.sessions.begin() as session:
        current = await tries.start(session, rt, job=job)
    if current is None:
        return
    rt.failpoints.hit("webhooks.before_send")
    try:
        # Around the request alone: waiting for our own database tells nothing about the shop.
        async with rt.lanes.enter(current.endpoint_id, current.delivery_id) as lane:
            outcome = await _send(rt, current)
            lane.took(outcome.ms / 1000)
    except LaneFull as full:
        raise jobs.Postpone(full.seconds * rt.ids.uniform(0.8, 1.2), str(full)) from None
    rt.failpoints.hit("webhooks.after_answer")
    async with rt.sessions.begin() as session:
        await tries.finish(session, rt, job=job, current=current, outcome=outcome)


async def _send(rt: Runtime, current: tries.Try) -> tries.Outcome:
    began = rt.clock()
    body = current.body or b""
    headers = signing.headers(
        current.secrets,
        message_id=current.event_id,
        timestamp=int(began.timestamp()),
        body=body,
    ) | {
        "content-type": "application/json",
        "user-agent": "Counterfoil-Webhooks/1",
        "counterfoil-version": current.api_version,
    }
    try:
        answer = await rt.egress.post(
            current.url, body=body, headers=headers, seconds=rt.settings.deadlines.webhook
        )
    except EgressFailed as failed:
        return tries.Outcome(
            ms=_ms(rt.clock() - began), error=f"{failed.code}: {failed.detail}"[:300]
        )
    error = None
    if 300 <= answer.status < 400:
        error = f"HTTP {answer.status}: redirects are not followed"
    elif not 200 <= answer.status < 300:
        error = f"HTTP {answer.status}"
    if answer.encoding not in {None, "identity"}:
        excerpt = f"[{len(answer.body)} bytes, content-encoding {answer.encoding}]"[:200]
    else:
        excerpt = answer.body[:_EXCERPT_BYTES].decode("utf-8", "replace").replace("\0", "\ufffd")
    return tries.Outcome(
        ms=_ms(rt.clock() - began), status=answer.status, error=error, excerpt=excerpt
    )


def _ms(duration: timedelta) -> int:
    return max(0, duration // timedelta(milliseconds=1))


async def forget(rt: Runtime) -> None:
    """Forget the answers of shops after 30 days, and bodies after `retention_days`.

    What stays tells that the event was sent, when and with which status.
    """
    now = rt.clock()
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Delivery)
            .where(
                Delivery.created_at < now - _ANSWERS_KEPT,
                Delivery.state.in_(("delivered", "exhausted")),
                Delivery.answer_sealed.is_not(None),
            )
            .values(answer_sealed=None)
            .execution_options(synchronize_session=False)
        )
        waiting = exists().where(
            Delivery.event_id == Event.id, Delivery.state.in_(("queued", "retrying"))
        )
        await session.execute(
            update(Event)
            .where(
                Event.created_at < now - timedelta(days=rt.settings.retention_days),
                Event.body_sealed != "",
                ~waiting,
            )
            .values(body_sealed="")
            .execution_options(synchronize_session=False)
        )
