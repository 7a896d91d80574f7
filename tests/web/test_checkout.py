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
        assert words in one_line(page)
        assert ("not been charged" in one_line(page)) == ("not been charged" in words)
        assert ("refresh" in page.headers) == (status in {"processing", "requires_capture"})


async def set_attempt(rt: Runtime, payment_id: str, **values: Any) -> None:
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Attempt).where(Attempt.payment_id == payment_id).values(**values)
        )


async def set_payment(rt: Runtime, payment_id: str, **values: Any) -> None:
    async with rt.sessions.begin() as session:
        await session.execute(update(Payment).where(Payment.id == payment_id).values(**values))


@pytest.mark.parametrize(
    ("reason", "attempt"),
    [
        (None, {"state": "sent"}),  # The PSP decides later.
        (None, {"state": "succeeded"}),  # A capture runs, or follows an approval.
        ("outcome_unknown", {"state": "succeeded"}),
        ("held_for_operator", {"state": "succeeded"}),
        ("held_for_review", {"state": "needs_review", "code": "mismatch"}),
        ("canceling", {"state": "open"}),
        ("canceling", {"state": "unknown", "page_url": None, "session_reference": None}),
    ],
)
async def test_whoever_may_have_been_charged_is_never_told_the_opposite(
    api: Api, client: Any, rt: Runtime, reason: str | None, attempt: dict[str, Any]
) -> None:
    """The link of the shop's mail, opened once more after the customer has paid."""
    made, path = await hosted(api)
    await api.runner.drain()
    await set_attempt(rt, made["id"], **attempt)
    await set_payment(rt, made["id"], status="processing", status_reason=reason)
    for address in (path, f"{path}/return"):
        for headers in ({}, {"HX-Request": "true"}):
            page = await client.get(address, headers=headers)
            assert page.status_code == 200
            assert "Do not pay again." in one_line(page)
            assert "To pay" not in page.text
            assert "not been charged" not in one_line(page)
            assert "payment page" not in one_line(page)


async def test_a_page_that_is_still_being_made_after_a_refusal_is_surely_unpaid(
    api: Api, client: Any, rt: Runtime, psp: BookPsp
) -> None:
    """The PSP refused to make it, so nobody has ever had a page to pay on."""
    psp.script.append("rejected")
    made, path = await hosted(api)
    await api.runner.drain()
    seen = (await api.get(f"/v1/payments/{made['id']}")).json()
    assert (seen["status"], seen["status_reason"]) == ("processing", "held_for_operator")
    page = await client.get(path)
    assert "Taking you to the payment page" in page.text
    assert "You have not been charged." in one_line(page)


@pytest.mark.parametrize("status", ["failed", "canceled", "expired"])
@pytest.mark.parametrize(
    "attempt",
    [
        {"state": "succeeded", "code": "unexpected"},
        {"state": "closed", "code": "refunded_at_psp"},
        {"state": "needs_review", "code": "mismatch"},
    ],
    ids=lambda attempt: attempt["code"],
)
async def test_money_that_came_for_a_payment_without_any_is_told_to_the_customer(
    api: Api, client: Any, rt: Runtime, status: str, attempt: dict[str, Any]
) -> None:
    made, path = await hosted(api)
    await api.runner.drain()
    await set_attempt(rt, made["id"], **attempt)
    await set_payment(rt, made["id"], status=status)
    for address in (path, f"{path}/return"):
        page = one_line(await client.get(address))
        assert "A payment arrived that did not fit; it goes back to you." in page
        assert "not been charged" not in page


async def test_a_second_payment_is_told_beside_the_first(
    api: Api, client: Any, rt: Runtime
) -> None:
    made, path = await hosted(api)
    await api.runner.drain()
    await set_attempt(rt, made["id"], state="succeeded", code="unexpected")
    for status, first in (("succeeded", "has your payment."), ("requires_capture", "is held for")):
        await set_payment(rt, made["id"], status=status)
        page = one_line(await client.get(path))
        assert first in page
        assert "Another payment arrived that did not fit; it goes back to you." in page
        assert "charged once" not in page


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
