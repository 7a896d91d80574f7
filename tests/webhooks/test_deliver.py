"""What a shop gets, what becomes of a delivery, and when it is tried again."""

import gzip
from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import select
from standardwebhooks import WebhookVerificationError

from app.audit.models import AuditRow
from app.payments.models import Customer, Payment
from app.runtime import Runtime
from app.secrets import SealBroken, Sealer
from app.settings import Deadlines
from app.webhooks import bodies, operations, processing, queries, schedule
from app.webhooks.models import Delivery
from tests.support.receiver import Receiver, Reply, receiving
from tests.support.runtime import Clock
from tests.webhooks.shop import (
    OWNER,
    TENANT,
    add_endpoint,
    add_event,
    skip_waiting,
    the_delivery,
    the_endpoint,
    the_jobs,
    verified,
    work,
)

DOWN = Reply(status=500, body=b"broken")


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def test_a_shop_gets_a_signed_event_and_the_delivery_says_so(
    rt: Runtime, shop: Receiver
) -> None:
    await add_endpoint(rt, url=shop.url)
    event = await add_event(rt, type="payment.succeeded", sequence=4, previous_status="processing")
    await work(rt)
    (request,) = shop.requests
    body = verified(request)
    assert body["type"] == "payment.succeeded"
    assert body["data"]["sequence"] == 4
    assert request.headers["webhook-id"] == event
    assert request.headers["content-type"] == "application/json"
    delivery = await the_delivery(rt)
    assert (delivery.state, delivery.tries, delivery.last_status) == ("delivered", 1, 200)
    assert delivery.delivered_at is not None
    assert delivery.next_try_at is None
    (line,) = delivery.log
    assert line["status"] == 200
    assert "error" not in line
    assert [job.state for job in await the_jobs(rt)] == ["done"]
    with pytest.raises(WebhookVerificationError):
        verified(request, "whsec_" + "A" * 32)


async def test_the_schedule_is_kept_to_its_end_and_a_dead_shop_makes_no_dead_letter(
    rt: Runtime, shop: Receiver
) -> None:
    """F33."""
    shop.reply = DOWN
    endpoint = await add_endpoint(rt, url=shop.url)
    event = await add_event(rt)
    for tries, promised in enumerate(schedule.DELAYS, 1):
        before = rt.clock()
        await work(rt)
        delivery, (job,) = await the_delivery(rt), await the_jobs(rt)
        assert (delivery.state, delivery.tries, len(shop.requests)) == ("retrying", tries, tries)
        assert job.state == "due"
        assert job.owner is None
        for due in (job.run_at, delivery.next_try_at):
            assert due is not None
            wait = (due - before).total_seconds()
            assert promised <= wait < promised * 1.1 + 5
        await work(rt)
        assert len(shop.requests) == tries  # Not before its time.
        await skip_waiting(rt)
    await work(rt)
    delivery, (job,) = await the_delivery(rt), await the_jobs(rt)
    assert (delivery.state, delivery.tries, delivery.next_try_at) == ("exhausted", 10, None)
    assert (job.state, job.failures, job.crashes) == ("done", 0, 0)
    assert {request.headers["webhook-id"] for request in shop.requests} == {event}
    assert [line["error"] for line in delivery.log] == ["HTTP 500"] * 10
    assert (await the_endpoint(rt, endpoint)).status == "failing"


async def test_every_try_has_its_own_time_in_the_signature(
    rt: Runtime, shop: Receiver, clock: Clock
) -> None:
    shop.script.append(DOWN)
    await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    await work(rt)
    clock.forward(seconds=100)
    await skip_waiting(rt)
    await work(rt)
    first, second = (int(request.headers["webhook-timestamp"]) for request in shop.requests)
    assert 100 <= second - first <= 105
    verified(shop.requests[1])


async def test_an_endpoint_fails_from_the_second_try_and_works_again_after_a_success(
    rt: Runtime, shop: Receiver
) -> None:
    shop.script.extend([DOWN, DOWN])
    endpoint = await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    seen = []
    for _ in range(3):
        await work(rt)
        found = await the_endpoint(rt, endpoint)
        seen.append((found.status, found.status_reason, found.failing_since is not None))
        await skip_waiting(rt)
    assert seen == [
        ("active", None, False),
        ("failing", "HTTP 500", True),
        ("active", None, False),
    ]
    assert (await the_delivery(rt)).state == "delivered"


async def test_410_switches_the_endpoint_off_and_ends_every_delivery_to_it(
    rt: Runtime, shop: Receiver
) -> None:
    """F33."""
    shop.script.extend([DOWN, Reply(status=410)])
    endpoint = await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    await work(rt)
    await add_event(rt)
    await work(rt)
    found = await the_endpoint(rt, endpoint)
    assert found.status == "disabled"
    assert "410" in (found.status_reason or "")
    await skip_waiting(rt)
    await work(rt)
    assert len(shop.requests) == 2
    async with rt.sessions.read() as session:
        states = list((await session.execute(select(Delivery.state))).scalars())
        (row,) = (await session.execute(select(AuditRow))).scalars()
    assert states == ["exhausted", "exhausted"]
    assert (row.action, row.actor_kind, row.object_id) == (
        "webhook_endpoint.disabled",
        "system",
        endpoint,
    )
    assert {job.state for job in await the_jobs(rt)} == {"done"}


@pytest.mark.parametrize("status", [300, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_goes_nowhere(
    rt: Runtime, shop: Receiver, status: int
) -> None:
    """F33, F34."""
    async with receiving() as other:
        shop.reply = Reply(status=status, headers={"location": other.url})
        await add_endpoint(rt, url=shop.url)
        await add_event(rt)
        await work(rt)
    delivery = await the_delivery(rt)
    assert (delivery.state, delivery.last_status) == ("retrying", status)
    assert "redirects are not followed" in (delivery.last_error or "")
    assert other.requests == []


@pytest.mark.parametrize("status", [199, 400, 401, 404, 418, 429, 503])
async def test_anything_but_2xx_is_tried_again(rt: Runtime, shop: Receiver, status: int) -> None:
    # 199 comes as a final answer here; a shop that sends it has not said yes.
    shop.reply = Reply(status=status, raw=b"HTTP/1.1 199 X\r\n\r\n" if status == 199 else None)
    await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    await work(rt)
    assert (await the_delivery(rt)).state == "retrying"


async def test_a_slow_shop_is_given_up_after_the_deadline(rt: Runtime, shop: Receiver) -> None:
    """F33."""
    shop.reply = Reply(wait=30)
    _set_deadline(rt, 0.2)
    await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    await work(rt)
    delivery = await the_delivery(rt)
    assert (delivery.state, delivery.last_status) == ("retrying", None)
    assert (delivery.last_error or "").startswith("timeout:")
    assert 150 <= delivery.log[0]["ms"] < 2000


async def test_a_shop_that_is_down_or_now_resolves_inwards_is_an_ordinary_failure(
    rt: Runtime,
) -> None:
    """F33, F34."""
    async with receiving() as closed:
        await add_endpoint(rt, url=closed.url)
    await add_endpoint(rt, url="https://unknown.invalid/hooks")
    await add_endpoint(rt, url="https://169.254.169.254/latest")
    await add_event(rt)
    await work(rt)
    async with rt.sessions.read() as session:
        found = list((await session.execute(select(Delivery))).scalars())
    codes = {(delivery.last_error or "").partition(":")[0] for delivery in found}
    assert codes == {"connect", "dns", "blocked"}
    assert {delivery.state for delivery in found} == {"retrying"}
    assert {job.failures for job in await the_jobs(rt)} == {0}


async def test_the_answer_is_kept_sealed_short_and_never_unpacked(
    rt: Runtime, shop: Receiver
) -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    shop.script.extend(
        [
            Reply(body=b"no\0\xff" + b"x" * 500_000, status=500),
            Reply(headers={"content-encoding": "gzip"}, body=bomb),
        ]
    )
    await add_endpoint(rt, url=shop.url)
    await add_event(rt)
    answers = []
    for _ in range(2):
        await work(rt)
        delivery = await the_delivery(rt)
        assert "xxxx" not in (delivery.answer_sealed or "xxxx")
        async with rt.sessions.read() as session:
            detail = await queries.delivery(
                session, sealer=rt.sealer, **TENANT, delivery_id=delivery.id
            )
        answers.append(detail.answer or "")
        await skip_waiting(rt)
    assert answers[0].startswith("no\ufffd\ufffdxxx")
    assert len(answers[0]) <= 2048
    assert answers[1] == f"[{len(bomb)} bytes, content-encoding gzip]"


async def test_both_secrets_sign_while_they_overlap_and_the_new_one_alone_after(
    rt: Runtime, shop: Receiver, clock: Clock
) -> None:
    async with rt.sessions.begin() as session:
        endpoint, old = await operations.create_endpoint(
            session,
            **TENANT,
            actor=OWNER,
            ids=rt.ids,
            sealer=rt.sealer,
            now=rt.clock(),
            url=await rt.egress.check_url(shop.url),
            event_types=[],
        )
    async with rt.sessions.begin() as session:
        _, new = await operations.rotate_secret(
            session,
            **TENANT,
            endpoint_id=endpoint.id,
            actor=OWNER,
            ids=rt.ids,
            sealer=rt.sealer,
            now=rt.clock(),
        )
    await add_event(rt)
    await work(rt)
    verified(shop.requests[0], old)
    verified(shop.requests[0], new)
    clock.forward(hours=24, seconds=1)
    await add_event(rt)
    await processing.fan_out(rt)
    await skip_waiting(rt)
    await work(rt)
    assert len(shop.requests[1].headers["webhook-signature"].split(" ")) == 1
    clock.forward(hours=-24, seconds=-1)
    await add_event(rt)
    await work(rt)
    verified(shop.requests[2], old)


async def _payment_event(rt: Runtime) -> str:
    now = rt.clock()
    sealer, sealed = rt.sealer.new_data_key("customers_of_payments:pay_1:data_key")
    async with rt.sessions.begin() as session:
        session.add(
            Payment(
                id="pay_1",
                **TENANT,
                connection_id="conn_sandbox",
                psp="sandbox",
                amount=100,
                currency="eur",
                status="processing",
                hosted=False,
                created_at=now,
                updated_at=now,
            )
        )
        await session.flush()
        session.add(Customer(payment_id="pay_1", **TENANT, data_key_sealed=sealed))
    return await add_event(rt, payment_id="pay_1", sequence=1, sealer=sealer)


async def test_an_event_of_a_payment_is_opened_with_its_own_key(
    rt: Runtime, shop: Receiver
) -> None:
    await add_endpoint(rt, url=shop.url)
    await _payment_event(rt)
    await work(rt)
    assert verified(shop.requests[0])["data"]["object"]["id"] == "pay_1"
    delivery = await the_delivery(rt)
    main: Sealer = rt.sealer
    assert delivery.answer_sealed is not None
    with pytest.raises(SealBroken):
        main.open_text(delivery.answer_sealed, bodies.answer_place(delivery.id))


async def test_after_a_customer_was_erased_nothing_is_sent_and_nothing_can_be_read(
    rt: Runtime, shop: Receiver
) -> None:
    shop.reply = DOWN
    await add_endpoint(rt, url=shop.url)
    event = await _payment_event(rt)
    await work(rt)
    async with rt.sessions.begin() as session:
        await session.delete(await session.get_one(Customer, "pay_1"))
    await skip_waiting(rt)
    await work(rt)
    assert len(shop.requests) == 1
    delivery = await the_delivery(rt)
    assert (delivery.state, delivery.last_error) == (
        "exhausted",
        "the event's content is no longer kept",
    )
    async with rt.sessions.read() as session:
        detail = await queries.delivery(
            session, sealer=rt.sealer, **TENANT, delivery_id=delivery.id
        )
        told = await queries.event(session, sealer=rt.sealer, **TENANT, event_id=event)
    assert (detail.body, detail.answer, told.data) == (None, None, None)


def _set_deadline(rt: Runtime, seconds: float) -> None:
    rt.settings = msgspec.structs.replace(rt.settings, deadlines=Deadlines(webhook=seconds))


def test_a_shop_has_fifteen_seconds() -> None:
    assert Deadlines().webhook == 15
