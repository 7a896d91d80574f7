"""The pages of webhook endpoints, with a shop's server that answers."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Litestar
from sqlalchemy import select

from app.accounts import totp
from app.audit.models import AuditRow
from app.runtime import Runtime
from app.webhooks.models import Endpoint
from tests.support.browser import Browser, Page
from tests.support.cast import PASSWORD, Cast
from tests.support.receiver import Receiver, Reply, receiving
from tests.support.runtime import Clock
from tests.webhooks.shop import add_endpoint, add_event, the_delivery, verified, work

HOSTILE = "</pre><script>alert(1)</script>"


@pytest.fixture
async def server() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def secret_of(page: Page) -> str:
    start = page.text.index('id="secret">') + len('id="secret">')
    return page.text[start : page.text.index("<", start)]


async def endpoints(rt: Runtime) -> list[Endpoint]:
    async with rt.sessions.read() as session:
        return list(await session.scalars(select(Endpoint).order_by(Endpoint.id)))


async def of_shop(rt: Runtime, cast: Cast, server: Receiver, **more: Any) -> str:
    return await add_endpoint(rt, url=server.url, merchant_id=cast.shop.id, **more)


async def test_an_owner_adds_an_endpoint_and_its_test_event_verifies(
    app: Litestar, rt: Runtime, cast: Cast, server: Receiver
) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/webhooks"
        assert "No address yet in test mode" in (await alice.get(base)).words
        page = await alice.get(f"{base}/new")
        made = await alice.submit(
            page, base, url=server.url, description="Demo", event_types=["payment.succeeded"]
        )
        assert made.status == 200
        secret = secret_of(made)
        again = await alice.submit(
            page, base, url=server.url, description="Demo", event_types=["payment.succeeded"]
        )
        assert "had been sent before" in again.words
        assert secret not in again.text
        [endpoint] = await endpoints(rt)
        assert endpoint.event_types == ["payment.succeeded"]
        here = f"{base}/{endpoint.id}"
        page = await alice.get(here)
        assert "Nothing has been sent yet" in page.words
        answer = await alice.submit(page, "/test")
        assert (answer.status, answer.location) == (303, here)
        assert (await alice.submit(page, "/test")).status == 303
        await work(rt)
        [sent] = server.requests
        assert verified(sent, secret)["type"] == "endpoint.test"
        assert "endpoint.test" in (await alice.get(here)).words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://shop.example/hooks", "https"),
        ("https://10.0.0.1/hooks", "not on the public internet"),
        ("https://nowhere.invalid/", "name is not known"),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
async def test_an_address_that_is_refused_is_told_at_the_field(
    app: Litestar, rt: Runtime, cast: Cast, url: str, words: str
) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/webhooks"
        page = await alice.get(f"{base}/new")
        answer = await alice.submit(page, base, url=url, event_types=["refund.failed"])
        assert answer.status == 422
        assert 'id="url-error"' in answer.text
        assert words in answer.words
        form = answer.form(base, method="post")
        assert form.value("url") == url
        assert form.value("event_types") == "refund.failed"
        assert await endpoints(rt) == []


async def test_another_address_needs_password_and_code_and_a_description_does_not(
    app: Litestar, rt: Runtime, cast: Cast, server: Receiver, clock: Clock
) -> None:
    endpoint = await of_shop(rt, cast, server)
    async with Browser(app, cast.alice) as alice:
        clock.forward(minutes=6)
        here = f"/m/{cast.shop.id}/test/webhooks/{endpoint}"
        page = await alice.get(f"{here}/edit")
        assert (await alice.submit(page, "/edit", description="New")).status == 303
        page = await alice.get(f"{here}/edit")
        answer = await alice.submit(page, "/edit", url="https://other.example/")
        assert answer.status == 422
        assert (await endpoints(rt))[0].url == server.url
        code = totp.code_at(cast.alice.totp_secret, clock())
        answer = await alice.submit(
            answer,
            "/edit",
            url="https://other.example/",
            confirm_password=PASSWORD,
            confirm_code=code,
        )
        assert answer.status == 303
        [row] = await endpoints(rt)
        assert (row.url, row.description) == ("https://other.example/", "New")
    async with rt.sessions.read() as session:
        found = await session.scalars(
            select(AuditRow).where(AuditRow.action == "webhook_endpoint.updated")
        )
        last = found.all()[-1]
        assert last.before["url"] == server.url
        assert last.actor_id == cast.alice.id


async def test_the_page_tells_that_the_shop_fails_and_sends_again(
    app: Litestar, rt: Runtime, cast: Cast, server: Receiver
) -> None:
    endpoint = await of_shop(rt, cast, server)
    server.script.append(Reply(status=500, body=HOSTILE.encode()))
    await add_event(rt, merchant_id=cast.shop.id, object={"id": "pay_1", "note": HOSTILE})
    await work(rt)
    delivery = await the_delivery(rt)
    base = f"/m/{cast.shop.id}/test/webhooks"
    async with Browser(app, cast.bob) as bob:
        page = await bob.get(f"{base}/{endpoint}?delivery={delivery.id}")
        assert page.status == 200
        assert "Try 1 of 10 ended in 500" in page.words
        assert "1 message is tried again by itself" in page.words
        assert "Trying again" in page.words
        assert "<script>alert" not in page.text
        assert HOSTILE in page.words
        answer = await bob.submit(page, f"{delivery.id}/send")
        assert answer.status == 303
        assert answer.location.startswith(f"{base}/{endpoint}?delivery={delivery.id}")
        await work(rt)
        after = await bob.get(f"{base}/{endpoint}?delivery={delivery.id}", fragment=True)
        assert after.text.lstrip().startswith('<div class="stack" id="endpoint"')
        assert "Your shop has it" in after.words
        assert len(server.requests) == 2


async def test_all_that_wait_are_sent_with_one_press(
    app: Litestar, rt: Runtime, cast: Cast, server: Receiver
) -> None:
    endpoint = await of_shop(rt, cast, server)
    server.script.extend([Reply(status=503)] * 3)
    for _ in range(3):
        await add_event(rt, merchant_id=cast.shop.id)
    await work(rt)
    async with Browser(app, cast.alice) as alice:
        here = f"/m/{cast.shop.id}/test/webhooks/{endpoint}"
        page = await alice.get(f"{here}?state=retrying")
        assert "Send all 3 now" in page.words
        assert (await alice.submit(page, f"{endpoint}/send")).status == 303
        await work(rt)
        assert "Your shop takes our messages" in (await alice.get(here)).words
        assert "No delivery is in this state" in (await alice.get(f"{here}?state=retrying")).words


async def test_off_on_new_secret_and_delete(
    app: Litestar, rt: Runtime, cast: Cast, server: Receiver
) -> None:
    endpoint = await of_shop(rt, cast, server)
    async with Browser(app, cast.alice) as alice:
        here = f"/m/{cast.shop.id}/test/webhooks/{endpoint}"
        assert (await alice.submit(await alice.get(here), "/off")).status == 303
        page = await alice.get(here)
        assert "Switched off. Nothing is sent" in page.words
        assert (await alice.post(f"{here}/test", {"form_key": "a" * 26})).status == 303
        assert (await alice.submit(page, "/on")).status == 303
        rotated = await alice.submit(await alice.get(f"{here}/secret"), "/secret")
        assert secret_of(rotated).startswith("whsec_")
        assert "two signatures" in rotated.words
        answer = await alice.submit(await alice.get(f"{here}/delete"), "/delete")
        assert answer.status == 303
        assert (await alice.get(here)).status == 404
    assert server.requests == []


async def test_deliveries_come_in_pages(
    app: Litestar, rt: Runtime, cast: Cast, server: Receiver
) -> None:
    endpoint = await of_shop(rt, cast, server)
    for _ in range(23):
        await add_event(rt, merchant_id=cast.shop.id)
    await work(rt)
    async with Browser(app, cast.vera) as vera:
        here = f"/m/{cast.shop.id}/test/webhooks/{endpoint}"
        first = await vera.get(here)
        assert "20 shown" in first.words
        older = first.text.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0]
        second = await vera.get(older.replace("&amp;", "&"))
        assert "3 shown" in second.words
        newer = second.text.split('rel="prev"')[0].rsplit('href="', 1)[1].split('"')[0]
        assert "20 shown" in (await vera.get(newer.replace("&amp;", "&"))).words


async def test_who_may_do_what(app: Litestar, rt: Runtime, cast: Cast, server: Receiver) -> None:
    endpoint = await of_shop(rt, cast, server)
    await add_event(rt, merchant_id=cast.shop.id)
    await work(rt)
    delivery = await the_delivery(rt)
    here = f"/m/{cast.shop.id}/test/webhooks/{endpoint}"
    send = f"{here}/deliveries/{delivery.id}/send"
    async with Browser(app, cast.vera) as vera:
        page = await vera.get(f"{here}?delivery={delivery.id}")
        assert page.status == 200
        assert "Send again" not in page.words
        assert "More actions" not in page.text
        for path in (f"{here}/off", f"{here}/secret", f"{here}/delete", f"{here}/test", send):
            assert (await vera.post(path)).status == 403
        assert (await vera.get(f"{here}/edit")).status == 403
    async with Browser(app, cast.charlie) as charlie:
        for path in (here, f"{here}/edit"):
            assert (await charlie.get(path)).status == 404
        own = f"/m/{cast.other_shop.id}/test/webhooks/{endpoint}"
        for path in (own, f"{own}/edit", f"{own}?delivery={delivery.id}"):
            assert (await charlie.get(path)).status == 404
        for path in (f"{own}/off", f"{own}/delete", f"{own}/send"):
            assert (await charlie.post(path)).status == 404
        assert (await charlie.post(f"{own}/deliveries/{delivery.id}/send")).status == 404
        assert (await charlie.post(f"{own}/secret", {"form_key": "a" * 26})).status == 404
        assert (await charlie.post(f"{own}/test", {"form_key": "a" * 26})).status == 404
    assert len(server.requests) == 1
