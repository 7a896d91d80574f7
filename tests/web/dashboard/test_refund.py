"""Refund, capture and cancel through the pages: once, within limits, with the effect told first."""

import asyncio

import pytest
from sqlalchemy import select

from app.accounts import totp
from app.audit.models import AuditRow
from app.merchants.models import Merchant
from app.payments.models import Refund
from app.runtime import Runtime
from tests.support.runtime import Clock
from tests.web.dashboard.money import Shop
from tests.web.test_faults import Cutting


async def refunds(rt: Runtime) -> list[Refund]:
    async with rt.sessions.read() as session:
        return list(await session.scalars(select(Refund).order_by(Refund.id)))


async def test_a_part_is_refunded_without_script(shop: Shop, rt: Runtime) -> None:
    payment = await shop.paid(12_840)
    async with shop.browser(shop.cast.bob) as browser:
        page = await browser.get(shop.of(payment, "refund"))
        assert page.status == 200
        assert "Refund 128.40 EUR" in page.words
        answer = await browser.submit(
            page, "/refund", part="part", amount="40.00", reason="requested_by_customer"
        )
        assert (answer.status, answer.location) == (303, shop.of(payment))
        after = await browser.get(shop.of(payment))
        assert "Refund of 40.00 EUR asked for." in after.words
        assert "You are giving 40.00 EUR back." in after.words
        await shop.story.work()
        done = await browser.get(shop.of(payment))
        assert "bob@example.com refunded 40.00 EUR" in done.words
        assert "You can refund up to 88.40 EUR." in done.words
    (made,) = await refunds(rt)
    assert (made.amount, made.source, made.reason) == (4_000, "dashboard", "requested_by_customer")
    async with rt.sessions.read() as session:
        row = await session.scalar(select(AuditRow).where(AuditRow.object_id == made.id))
    assert row is not None
    assert (row.actor_kind, row.actor_name) == ("user", "bob@example.com")


async def test_pressing_twice_refunds_once(shop: Shop, rt: Runtime) -> None:
    """F54, F69."""
    payment = await shop.paid(12_840)
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment, "refund"))
        answers = await asyncio.gather(
            *(browser.submit(page, "/refund", part="full") for _ in range(3))
        )
        assert {answer.status for answer in answers} == {303}
        assert (await browser.submit(page, "/refund", part="full")).status == 303
    assert [one.amount for one in await refunds(rt)] == [12_840]


async def test_a_refund_whose_commit_was_lost_is_not_said_to_have_failed(
    shop: Shop, rt: Runtime
) -> None:
    """F40: whoever believed that and opened a fresh form would refund a part twice."""
    payment = await shop.paid(12_840)
    calm = rt.sessions
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment, "refund"))
        kept = 0
        for n in range(1, 9):
            rt.sessions = cutting = Cutting(calm)
            cutting.cut_at(n, done=True)
            answer = await browser.submit(page, "/refund", part="part", amount="40.00")
            rt.sessions = calm
            if cutting.left > 0:
                break  # The way has no further commit.
            assert answer.status == 503
            assert "Look whether it happened before you try again." in answer.words
            assert "Nothing was" not in answer.words
            kept = len(await refunds(rt))
        assert kept == 1
        shown = await browser.submit(page, "/refund", part="part", amount="40.00")
        assert shown.status == 303
    assert [one.amount for one in await refunds(rt)] == [4_000]


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        ("", "Write an amount in EUR."),
        ("lots", "Write a number, like 128.40."),
        ("1.234", "EUR has 2 decimals."),
        ("128.41", "At most 128.40 EUR"),
        ("0.00", "more than nothing"),
        ("-5", "Write a number"),
        ("<b>9</b>", "Write a number"),
    ],
)
async def test_a_wrong_amount_is_said_at_the_field_and_kept(
    shop: Shop, rt: Runtime, amount: str, says: str
) -> None:
    payment = await shop.paid(12_840)
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment, "refund"))
        answer = await browser.submit(page, "/refund", part="part", amount=amount)
        assert answer.status == 422
        assert says in answer.words
        assert answer.form("/refund").value("amount") == amount
        assert 'aria-invalid="true"' in answer.text
        assert "<b>9" not in answer.text
        assert not await refunds(rt)
        corrected = await browser.submit(answer, "/refund", part="part", amount="1,50")
        assert corrected.status == 303
    assert [one.amount for one in await refunds(rt)] == [150]


async def test_what_was_left_must_still_be_left(shop: Shop, rt: Runtime) -> None:
    """F69: a stale page is refused."""
    payment = await shop.paid(12_840)
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment, "refund"))
        await shop.story.refund(payment, 1_000)
        answer = await browser.submit(page, "/refund", part="part", amount="5.00")
        assert answer.status == 422
        assert "Something else was refunded meanwhile." in answer.words
        again = await browser.submit(answer, "/refund")
        assert again.status == 303
    assert [one.amount for one in await refunds(rt)] == [1_000, 500]


async def test_the_effect_is_computed_by_the_server(shop: Shop) -> None:
    payment = await shop.paid(12_840)
    async with shop.browser() as browser:
        asked = f"{shop.of(payment, 'refund')}?part=part&amount=40.00"
        target = {"HX-Target": "refund-effect"}
        page = await browser.get(asked, fragment=True, headers=target)
        assert page.status == 200
        assert "<html" not in page.text
        assert "Fee given back to you 0.63 EUR" in page.words
        assert "126.35 → 86.98 EUR" in page.words
        assert "Left to refund after this 88.40 EUR" in page.words
        assert "Refund 40.00 EUR" in page.words
        wrong = await browser.get(asked.replace("40.00", "x"), fragment=True, headers=target)
        assert "Write an amount of at most 128.40 EUR" in wrong.words
    async with shop.browser(shop.cast.charlie) as browser:
        foreign = asked.replace(shop.cast.shop.id, shop.cast.other_shop.id)
        for path in (asked, foreign):
            assert (await browser.get(path, fragment=True, headers=target)).status == 404


async def test_a_large_refund_needs_password_and_code(
    shop: Shop, rt: Runtime, clock: Clock
) -> None:
    payment = await shop.paid(12_840)
    async with rt.sessions.begin() as session:
        merchant = await session.get(Merchant, shop.cast.shop.id)
        assert merchant is not None
        merchant.step_up_limit = 5_000
    clock.forward(minutes=14)
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment, "refund"))
        assert "needs your password and a code" in page.words
        answer = await browser.submit(page, "/refund", part="full")
        assert answer.status == 422
        assert "Password or code is not right." in answer.words
        wrong = await browser.submit(
            answer, "/refund", part="full", confirm_password="wrong", confirm_code="000000"
        )
        assert wrong.status == 422
        assert 'value="wrong"' not in wrong.text
        assert not await refunds(rt)
        small = await browser.submit(wrong, "/refund", part="part", amount="50.00")
        assert small.status == 303
        page = await browser.get(shop.of(payment, "refund"))
        code = totp.code_at(shop.cast.alice.totp_secret, clock())
        done = await browser.submit(
            page,
            "/refund",
            part="full",
            confirm_password=shop.cast.alice.password,
            confirm_code=code,
        )
        assert done.status == 303
    assert [one.amount for one in await refunds(rt)] == [5_000, 7_840]


async def test_a_refund_that_the_wallet_does_not_cover_is_told_before(
    shop: Shop, rt: Runtime
) -> None:
    payment = await shop.paid(12_840)
    async with rt.sessions.begin() as session:
        row = await session.merge(await shop.story.row(payment))
        row.amount_pending = 0  # As after settling, with the money spent elsewhere.
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment, "refund"))
    assert "does not cover this" in page.words


async def test_what_is_held_is_captured_in_part(shop: Shop) -> None:
    held = (await shop.story.charge(45_000, capture_method="manual")).id
    async with shop.browser() as browser:
        page = await browser.get(shop.of(held, "capture"))
        assert page.form("/capture").value("amount") == "450.00"
        wrong = await browser.submit(page, "/capture", amount="450.01")
        assert wrong.status == 422
        assert "At most 450.00 EUR" in wrong.words
        answer = await browser.submit(wrong, "/capture", amount="300.00")
        assert answer.status == 303
        again = await browser.submit(page, "/capture", amount="10.00")
        assert again.status == 422
        assert "being worked on" in again.words
        await shop.story.work()
        done = await browser.get(shop.of(held))
        assert (
            "You took 300.00 EUR of what was held; the other 150.00 EUR was let go." in done.words
        )
    assert (await shop.story.get(held)).amount_captured == 30_000


async def test_a_payment_is_cancelled_or_says_why_not(shop: Shop) -> None:
    held = (await shop.story.charge(45_000, capture_method="manual")).id
    async with shop.browser() as browser:
        page = await browser.get(shop.of(held, "cancel"))
        assert "Cancel 450.00 EUR payment" in page.words
        assert (await browser.submit(page, "/cancel")).status == 303
        await shop.story.work()
        assert "Cancelled" in (await browser.get(shop.of(held))).words
        open_page = await browser.get(shop.of((await shop.story.create()).id, "cancel"))
        paid = await shop.paid()
        late = await browser.post(
            shop.of(paid, "cancel"), {"form_key": open_page.form("/cancel").value("form_key")}
        )
        assert late.status == 422
        assert "The customer was faster: it is paid." in late.words


async def test_forms_without_key_or_token_do_nothing(shop: Shop, rt: Runtime) -> None:
    payment = await shop.paid()
    async with shop.browser() as browser:
        assert (await browser.post(shop.of(payment, "refund"), {"part": "full"})).status == 400
        assert (await browser.post(shop.of(payment, "refund"), {"nobody": "knows"})).status == 400
        key = {"part": "full", "form_key": "k" * 20}
        assert (await browser.post(shop.of(payment, "refund"), key, token="")).status == 403
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert (await browser.post(shop.of(payment, "refund"), key, headers=foreign)).status == 403
    assert not await refunds(rt)
