"""Endpoints are made, changed and read by their own merchant and mode; each change is audited."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.audit.models import AuditRow
from app.egress import CheckedUrl, UrlNotAllowed
from app.errors import NotFound
from app.jobs import Job
from app.runtime import Runtime
from app.webhooks import bodies, operations, processing, queries
from app.webhooks.models import Delivery, Endpoint, Event
from tests.support.receiver import receiving
from tests.support.runtime import Clock
from tests.webhooks.shop import (
    OWNER,
    TENANT,
    add_endpoint,
    add_event,
    the_delivery,
    the_endpoint,
    verified,
    work,
)

STRANGER: dict[str, Any] = {"merchant_id": "mer_charlie", "livemode": False}
OTHER_MODE: dict[str, Any] = {"merchant_id": "mer_1", "livemode": True}


def _doing(rt: Runtime) -> dict[str, Any]:
    return {"actor": OWNER, "ids": rt.ids, "now": rt.clock()}


async def _create(
    rt: Runtime, url: str = "https://shop.example/hooks", **more: Any
) -> tuple[Endpoint, str]:
    checked = await rt.egress.check_url(url)
    async with rt.sessions.begin() as session:
        return await operations.create_endpoint(
            session,
            **TENANT | _doing(rt) | {"event_types": [], "sealer": rt.sealer, "url": checked} | more,
        )


async def _audit(rt: Runtime) -> list[AuditRow]:
    async with rt.sessions.read() as session:
        return list((await session.execute(select(AuditRow).order_by(AuditRow.id))).scalars())


async def test_a_new_endpoint_has_a_secret_that_is_stored_sealed_and_never_audited(
    rt: Runtime,
) -> None:
    endpoint, secret = await _create(rt, event_types=["refund.created", "payment.succeeded"])
    assert secret.startswith("whsec_")
    stored = await the_endpoint(rt, endpoint.id)
    assert secret not in stored.secret_sealed
    assert rt.sealer.open_text(stored.secret_sealed, bodies.secret_place(endpoint.id)) == secret
    assert stored.event_types == ["payment.succeeded", "refund.created"]
    (row,) = await _audit(rt)
    assert (row.action, row.object_id, row.actor_id) == (
        "webhook_endpoint.created",
        endpoint.id,
        "usr_alice",
    )
    assert row.after["url"] == "https://shop.example/hooks"
    assert "whsec" not in str(row.after)
    shown = queries.endpoint_object(stored)
    assert "whsec" not in str(shown)
    assert queries.endpoint_object(stored, secret).secret == secret


async def test_two_endpoints_never_share_a_secret(rt: Runtime) -> None:
    assert (await _create(rt))[1] != (await _create(rt))[1]


async def test_an_address_inside_is_refused_before_anything_is_stored(rt: Runtime) -> None:
    with pytest.raises(UrlNotAllowed):
        await _create(rt, "https://169.254.169.254/latest")
    assert await _audit(rt) == []


@pytest.mark.parametrize("name", ["payment.paid", "", "endpoint.test", "PAYMENT.CREATED"])
async def test_an_unknown_event_type_is_refused(rt: Runtime, name: str) -> None:
    with pytest.raises(operations.UnknownEventType) as refused:
        await _create(rt, event_types=["payment.created", name])
    assert refused.value.param == "event_types"


async def test_the_number_of_endpoints_is_limited_by_merchant_and_mode(rt: Runtime) -> None:
    made = [await add_endpoint(rt) for _ in range(operations.MOST_ENDPOINTS)]
    with pytest.raises(operations.TooManyEndpoints):
        await _create(rt)
    await _create(rt, livemode=True)
    async with rt.sessions.begin() as session:
        await operations.delete_endpoint(session, **TENANT, endpoint_id=made[0], **_doing(rt))
    await _create(rt)


async def test_an_update_changes_what_it_names_and_says_what_was_before(rt: Runtime) -> None:
    endpoint = await add_endpoint(rt, description="first", event_types=["payment.failed"])
    async with rt.sessions.begin() as session:
        await operations.update_endpoint(
            session,
            **TENANT,
            endpoint_id=endpoint,
            **_doing(rt),
            url=CheckedUrl("https://new.example/h"),
        )
    found = await the_endpoint(rt, endpoint)
    assert (found.url, found.description, found.event_types) == (
        "https://new.example/h",
        "first",
        ["payment.failed"],
    )
    (row,) = await _audit(rt)
    assert row.before["url"] == "https://shop.example/hooks"
    assert row.after["url"] == "https://new.example/h"


async def test_an_update_that_changes_nothing_leaves_no_trace(rt: Runtime) -> None:
    endpoint = await add_endpoint(rt)
    async with rt.sessions.begin() as session:
        await operations.update_endpoint(
            session, **TENANT, endpoint_id=endpoint, **_doing(rt), disabled=False, description=None
        )
    assert await _audit(rt) == []


async def test_switching_on_again_forgets_the_failures(rt: Runtime) -> None:
    endpoint = await add_endpoint(
        rt, status="disabled", status_reason="HTTP 410", failing_since=rt.clock()
    )
    async with rt.sessions.begin() as session:
        await operations.update_endpoint(
            session, **TENANT, endpoint_id=endpoint, **_doing(rt), disabled=False
        )
    found = await the_endpoint(rt, endpoint)
    assert (found.status, found.status_reason, found.failing_since) == ("active", None, None)


async def test_switching_a_failing_endpoint_on_leaves_it_failing(rt: Runtime) -> None:
    endpoint = await add_endpoint(rt, status="failing", status_reason="HTTP 500")
    async with rt.sessions.begin() as session:
        await operations.update_endpoint(
            session, **TENANT, endpoint_id=endpoint, **_doing(rt), disabled=False
        )
    assert (await the_endpoint(rt, endpoint)).status == "failing"


async def test_a_second_rotation_drops_the_oldest_secret(rt: Runtime) -> None:
    endpoint, first = await _create(rt)
    made = [first]
    for _ in range(2):
        async with rt.sessions.begin() as session:
            made.append(
                (
                    await operations.rotate_secret(
                        session,
                        **TENANT,
                        endpoint_id=endpoint.id,
                        sealer=rt.sealer,
                        **_doing(rt),
                    )
                )[1]
            )
    found = await the_endpoint(rt, endpoint.id)
    assert found.old_secret_sealed is not None
    old = rt.sealer.open_text(found.old_secret_sealed, bodies.old_secret_place(endpoint.id))
    present = rt.sealer.open_text(found.secret_sealed, bodies.secret_place(endpoint.id))
    assert [old, present] == made[1:]
    assert len(set(made)) == 3
    assert not any("whsec" in str((row.before, row.after)) for row in await _audit(rt))


async def test_a_test_event_arrives_signed(rt: Runtime) -> None:
    async with receiving() as shop:
        endpoint, secret = await _create(rt, shop.url, event_types=["refund.failed"])
        async with rt.sessions.begin() as session:
            event = await operations.send_test_event(
                session, **TENANT, endpoint_id=endpoint.id, sealer=rt.sealer, **_doing(rt)
            )
        await work(rt)
    (request,) = shop.requests
    assert request.headers["webhook-id"] == event
    assert verified(request, secret)["type"] == "endpoint.test"


async def test_nothing_is_sent_by_hand_to_an_endpoint_that_is_off(rt: Runtime) -> None:
    endpoint = await add_endpoint(rt)
    await add_event(rt)
    await processing.fan_out(rt)
    delivery = await the_delivery(rt)
    async with rt.sessions.begin() as session:
        await session.execute(update(Endpoint).values(status="disabled"))
    async with rt.sessions.begin() as session:
        with pytest.raises(operations.EndpointDisabled):
            await operations.send_test_event(
                session, **TENANT, endpoint_id=endpoint, sealer=rt.sealer, **_doing(rt)
            )
        with pytest.raises(operations.EndpointDisabled):
            await operations.redeliver(session, **TENANT, delivery_id=delivery.id, **_doing(rt))
    assert await _audit(rt) == []


@pytest.mark.parametrize("who", [STRANGER, OTHER_MODE])
async def test_a_stranger_finds_nothing_and_changes_nothing(
    rt: Runtime, who: dict[str, Any]
) -> None:
    endpoint = await add_endpoint(rt)
    event = await add_event(rt)
    await processing.fan_out(rt)
    delivery = await the_delivery(rt)
    doing, sealer = _doing(rt), rt.sealer
    attempts: list[Callable[[Any], Awaitable[Any]]] = [
        lambda s: operations.update_endpoint(
            s, **who, endpoint_id=endpoint, **doing, disabled=True
        ),
        lambda s: operations.delete_endpoint(s, **who, endpoint_id=endpoint, **doing),
        lambda s: operations.rotate_secret(s, **who, endpoint_id=endpoint, sealer=sealer, **doing),
        lambda s: operations.send_test_event(
            s, **who, endpoint_id=endpoint, sealer=sealer, **doing
        ),
        lambda s: operations.redeliver(s, **who, delivery_id=delivery.id, **doing),
        lambda s: queries.endpoint(s, **who, endpoint_id=endpoint),
        lambda s: queries.delivery(s, sealer=sealer, **who, delivery_id=delivery.id),
        lambda s: queries.event(s, sealer=sealer, **who, event_id=event),
    ]
    for attempt in attempts:
        async with rt.sessions.begin() as session:
            with pytest.raises(NotFound):
                await attempt(session)
    async with rt.sessions.read() as session:
        assert (await queries.endpoints(session, **who)).data == []
        assert (await queries.deliveries(session, **who)).data == []
        assert (await queries.deliveries(session, **who, endpoint_id=endpoint)).data == []
        assert (await queries.events(session, sealer=sealer, **who)).data == []
        stats = await queries.stats(session, **who, since=rt.clock() - timedelta(days=1))
        assert stats.endpoints == 0
    assert await _audit(rt) == []
    assert (await the_endpoint(rt, endpoint)).status == "active"


async def test_a_deleted_endpoint_is_not_found_and_its_deliveries_stay(rt: Runtime) -> None:
    endpoint = await add_endpoint(rt)
    await add_event(rt)
    await processing.fan_out(rt)
    async with rt.sessions.begin() as session:
        await operations.delete_endpoint(session, **TENANT, endpoint_id=endpoint, **_doing(rt))
    async with rt.sessions.begin() as session:
        with pytest.raises(operations.EndpointNotFound):
            await operations.delete_endpoint(session, **TENANT, endpoint_id=endpoint, **_doing(rt))
        with pytest.raises(operations.EndpointNotFound):
            await queries.endpoint(session, **TENANT, endpoint_id=endpoint)
        assert (await queries.endpoints(session, **TENANT)).data == []
        assert len((await queries.deliveries(session, **TENANT)).data) == 1


async def test_events_are_listed_newest_first_in_pages_and_by_filter(
    rt: Runtime, clock: Clock
) -> None:
    made = []
    for number in range(5):
        kind = "payment.created" if number % 2 else "payment.succeeded"
        made.append(await add_event(rt, type=kind, payment_id=None))
        clock.forward(minutes=1)
    newest = made[::-1]

    async def listed(**more: Any) -> tuple[list[str], bool]:
        async with rt.sessions.read() as session:
            page = await queries.events(session, sealer=rt.sealer, **TENANT, **more)
        return [event.id for event in page.data], page.has_more

    def cursor(**more: Any) -> dict[str, Any]:
        return {"cursor": queries.Cursor(**more)}

    assert await listed() == (newest, False)
    assert await listed(**cursor(limit=2)) == (newest[:2], True)
    assert await listed(**cursor(limit=2, starting_after=newest[1])) == (newest[2:4], True)
    assert await listed(**cursor(limit=2, starting_after=newest[3])) == (newest[4:], False)
    assert await listed(**cursor(limit=2, ending_before=newest[4])) == (newest[2:4], True)
    assert await listed(**cursor(limit=2, ending_before=newest[2])) == (newest[:2], False)
    assert await listed(type="payment.created") == ([newest[1], newest[3]], False)
    assert await listed(payment_id="pay_none") == ([], False)
    async with rt.sessions.read() as session:
        event = await queries.event(session, sealer=rt.sealer, **TENANT, event_id=made[2])
    assert event.data == {
        "object": {"id": "pay_1", "object": "payment"},
        "sequence": None,
        "previous_status": None,
    }
    later = await listed(created_gte=event.created_at)
    earlier = await listed(created_lt=event.created_at)
    assert (later[0], earlier[0]) == (newest[:3], newest[3:])


async def test_deliveries_show_event_log_body_and_answer(rt: Runtime) -> None:
    async with receiving() as shop:
        endpoint = await add_endpoint(rt, url=shop.url)
        event = await add_event(rt)
        await work(rt)
    async with rt.sessions.read() as session:
        page = await queries.deliveries(session, **TENANT, endpoint_id=endpoint, event_id=event)
        (shown,) = page.data
        detail = await queries.delivery(session, sealer=rt.sealer, **TENANT, delivery_id=shown.id)
        assert (await queries.deliveries(session, **TENANT, state="exhausted")).data == []
        assert (await queries.deliveries(session, **TENANT, payment_id="pay_9")).data == []
    assert (shown.event_type, shown.state, shown.log[0].status) == (
        "payment.created",
        "delivered",
        200,
    )
    assert shown.updated_at >= shown.created_at
    assert detail.url == shop.url
    assert detail.answer == "ok"
    assert (detail.body or "").encode() == shop.requests[0].body


async def test_the_stats_count_what_needs_attention(rt: Runtime, clock: Clock) -> None:
    for status in ("active", "failing", "failing", "disabled"):
        await add_endpoint(rt, status=status)
    await add_endpoint(rt, status="failing", deleted_at=rt.clock())
    await add_event(rt)
    await processing.fan_out(rt)
    async with rt.sessions.begin() as session:
        first = await session.scalar(select(func.min(Delivery.id)))
        await session.execute(update(Delivery).values(state="retrying"))
        await session.execute(
            update(Delivery).where(Delivery.id == first).values(state="exhausted")
        )
    async with rt.sessions.read() as session:
        now = rt.clock()
        stats = await queries.stats(session, **TENANT, since=now - timedelta(days=1))
        later = await queries.stats(session, **TENANT, since=now + timedelta(days=1))
    assert (stats.endpoints, stats.failing, stats.disabled) == (4, 2, 1)
    assert (stats.retrying, stats.exhausted) == (2, 1)
    assert (later.retrying, later.exhausted) == (0, 0)


async def test_answers_and_bodies_are_forgotten_in_time_but_not_what_is_still_to_be_sent(
    rt: Runtime, clock: Clock
) -> None:
    async with receiving() as shop:
        await add_endpoint(rt, url=shop.url)
        done = await add_event(rt)
        await work(rt)
        waiting = await add_event(rt)
        await processing.fan_out(rt)

    async def kept() -> tuple[bool, dict[str, bool]]:
        await processing.forget(rt)
        async with rt.sessions.read() as session:
            answers = await session.scalar(select(func.count(Delivery.answer_sealed)))
            rows = await session.execute(select(Event.id, Event.body_sealed))
            return bool(answers), {row.id: bool(row.body_sealed) for row in rows}

    clock.forward(days=29)
    assert await kept() == (True, {done: True, waiting: True})
    clock.forward(days=2)
    assert await kept() == (False, {done: True, waiting: True})
    clock.forward(days=60)
    assert await kept() == (False, {done: False, waiting: True})
    async with rt.sessions.read() as session:
        told = await queries.event(session, sealer=rt.sealer, **TENANT, event_id=done)
        assert await session.scalar(select(func.count(Job.id))) == 2
    assert told.data is None
