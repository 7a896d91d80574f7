"""The customer's way: at once, to the PSP's page, back, and never charged without being told."""

from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from app.jobs import Job
from app.payments.models import Attempt, Payment
from app.runtime import Runtime
from tests.support.psp import BookPsp
from tests.support.runtime import Clock
from tests.web.api.shop import Api

RETURN = "https://shop.example/thanks?order=1"
CANCEL = "https://shop.example/cart"


async def hosted(api: Api, **fields: Any) -> tuple[dict[str, Any], str]:
    made = await api.create(
        5_000, reference="DEMO-1", return_url=RETURN, cancel_url=CANCEL, **fields
    )
    return made, made["checkout_url"].removeprefix("https://localhost")


async def attempt_of(rt: Runtime, payment_id: str) -> str:
    async with rt.sessions.read() as session:
        found = await session.scalar(select(Attempt.id).where(Attempt.payment_id == payment_id))
    assert found is not None
    return str(found)


async def resolves(rt: Runtime) -> int:
    async with rt.sessions.read() as session:
        query = select(func.count()).select_from(Job).where(Job.kind == "janitor.resolve")
        return int(await session.scalar(query) or 0)


def one_line(page: httpx.Response) -> str:
    return " ".join(page.text.split())


async def test_the_address_works_at_once_and_waits_visibly(api: Api, client: Any) -> None:
    made, path = await hosted(api, customer={"email": "customer@example.com"})
    page = await client.get(path)
    assert page.status_code == 200
    assert "You have not been charged." in one_line(page)
    assert "DEMO-1" in page.text
    assert page.headers["refresh"] == f"3; url={path}"
    assert 'hx-trigger="every 2s"' in page.text
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "form-action 'none'" in page.headers["content-security-policy"]
    assert "<form" not in page.text
    assert "customer@example.com" not in page.text
    assert made["status"] == "requires_action"


async def test_it_goes_on_to_the_page_of_the_psp(api: Api, client: Any, rt: Runtime) -> None:
    made, path = await hosted(api)
    await api.runner.drain()
    async with rt.sessions.read() as session:
        query = select(Attempt.page_url).where(Attempt.payment_id == made["id"])
        page_url = await session.scalar(query)
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, page_url)
    part = await client.get(path, headers={"HX-Request": "true"})
    assert part.headers["hx-redirect"] == path


async def test_an_address_that_no_browser_should_follow_is_not_followed(
    api: Api, client: Any, rt: Runtime
) -> None:
    _made, path = await hosted(api)
    await api.runner.drain()
    async with rt.sessions.begin() as session:
        await session.execute(update(Attempt).values(page_url="javascript:alert(1)"))
    answer = await client.get(path)
    assert answer.status_code == 200
    assert "javascript" not in answer.text


async def test_the_return_brings_the_look_forward_and_then_tells_the_truth(
    api: Api, client: Any, rt: Runtime, psp: BookPsp, clock: Clock
) -> None:
    made, path = await hosted(api)
    await api.runner.drain()
    psp.pay(await attempt_of(rt, made["id"]))
    asked = len(psp.requests)
    page = await client.get(f"{path}/return")
    assert "Checking your payment" in page.text
    assert page.headers["refresh"] == f"3; url={path}/return"
    assert len(psp.requests) == asked, "web never calls a PSP"
    assert await resolves(rt) == 1
    await client.get(f"{path}/return")
    assert await resolves(rt) == 1
    await api.runner.drain()
    page = await client.get(f"{path}/return")
    assert "You were charged once." in one_line(page)
    onward = f"{RETURN}&payment={made['id']}&status=succeeded"
    assert page.headers["refresh"] == f"5; url={onward}"
    assert onward.replace("&", "&amp;") in page.text
    again = await client.get(path)
    assert "You were charged once." in one_line(again)


async def test_who_comes_back_without_paying_can_go_on_or_leave(
    api: Api, client: Any, rt: Runtime
) -> None:
    made, path = await hosted(api)
    await api.runner.drain()
    page = await client.get(f"{path}/return")
    assert "you have not been charged" in one_line(page)
    assert f'href="{path}"' in page.text
    back = f"{CANCEL}?payment={made['id']}&amp;status=requires_action"
    assert back in page.text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("canceled", "You have not been charged."),
        ("expired", "You have not been charged."),
        ("failed", "You have not been charged."),
        ("requires_capture", "The amount is held for"),
        ("processing", "Do not pay again."),
    ],
)
async def test_every_state_says_whether_the_customer_was_charged(
    api: Api, client: Any, rt: Runtime, status: str, words: str
) -> None:
    made, path = await hosted(api)
    async with rt.sessions.begin() as session:
        await session.execute(update(Payment).where(Payment.id == made["id"]).values(status=status))
    for address in (path, f"{path}/return"):
        page = await client.get(address)
        assert page.status_code == 200
        if status != "processing" or address.endswith("/return"):
            assert words in one_line(page)
        assert ("refresh" in page.headers) == (status in {"processing", "requires_capture"})


async def test_a_wrong_token_opens_nothing(api: Api, client: Any, charlie: Api) -> None:
    made, path = await hosted(api)
    _other, other_path = await hosted(charlie)
    _, _, signature = other_path.partition(".")
    wrong = [
        f"/checkout/{made['id']}",
        f"/checkout/{made['id']}.",
        f"/checkout/{made['id']}.{signature}",
        path[:-1],
        f"{path}0",
        "/checkout/x.y",
        "/checkout/%00",
        f"/checkout/pay_{'0' * 34}.{'0' * 40}",
    ]
    for address in wrong:
        for end in ("", "/return"):
            answer = await client.get(address + end)
            assert answer.status_code == 404, address
            assert "DEMO-1" not in answer.text


async def test_a_payment_without_a_page_has_no_checkout(api: Api, client: Any, rt: Runtime) -> None:
    from app.payments.schemas import checkout_token

    made = await api.create(payment_method="pm_card_visa")
    assert made["checkout_url"] is None
    token = checkout_token(rt.sealer, made["id"])
    assert (await client.get(f"/checkout/{token}")).status_code == 404


async def test_text_of_the_shop_stays_text(api: Api, client: Any) -> None:
    made = await api.create(description="<script>alert(1)</script>")
    path = made["checkout_url"].removeprefix("https://localhost")
    page = await client.get(path)
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text
