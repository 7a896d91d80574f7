"""The page of one payment: the answer first, then the evidence; and asking the PSP again."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.jobs import Job
from app.runtime import Runtime
from tests.web.dashboard.money import Shop
from web.render.formats import MINUS

XSS = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


async def test_the_page_answers_first_and_shows_the_evidence(shop: Shop) -> None:
    payment = await shop.paid(
        12_840, reference="DEMO-10482", email="c@shop.example", metadata={"basket": "88121"}
    )
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment))
    assert page.status == 200
    words = page.words
    assert "Payment DEMO-10482, 128.40 EUR Succeeded" in words
    assert "The customer was charged once." in words
    assert "You can refund up to 128.40 EUR." in words
    assert "We told the PSP to charge 128.40 EUR. It did" in words
    assert "Wallet: 126.35 EUR pending" in words
    assert f"Fee of the platform {MINUS}2.05 EUR You get 126.35 EUR" in words
    assert "c@shop.example" in words
    assert "basket: 88121" in words
    assert "None" not in words


async def test_htmx_gets_the_live_part_alone_at_the_same_address(shop: Shop) -> None:
    payment = await shop.paid()
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment), fragment=True)
    assert page.status == 200
    assert "<html" not in page.text
    assert page.text.lstrip().startswith('<div class="stack" id="payment"')
    assert page.response.headers["vary"] == "HX-Request"


async def test_an_unknown_outcome_is_said_and_can_be_asked_about(shop: Shop, rt: Runtime) -> None:
    shop.psp.script.extend(["ok", "never"])
    payment = await shop.paid(21_600)
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment))
        assert "Outcome unknown" in page.words
        assert "do not ask the customer to pay again" in page.words
        assert "Next: we ask the PSP again" in page.words
        answer = await browser.submit(page, "/ask")
        assert (answer.status, answer.location) == (303, shop.of(payment))
        after = await browser.get(shop.of(payment))
        assert "We ask the PSP now." in after.words
    async with rt.sessions.read() as session:
        job = await session.scalar(select(Job).where(Job.kind == "janitor.resolve"))
    assert job is not None
    assert job.run_at <= rt.clock() + timedelta(seconds=1)


async def test_texts_of_the_shop_stay_text(shop: Shop) -> None:
    payment = await shop.paid(reference=XSS, description=XSS, name=XSS, metadata={XSS[:40]: XSS})
    async with shop.browser() as browser:
        for path in (shop.of(payment), f"{shop.base}/payments", f"{shop.base}/overview"):
            page = await browser.get(path)
            assert page.status == 200
            assert "<img" not in page.text
            assert "<script>alert" not in page.text


async def test_a_viewer_sees_it_and_no_button(shop: Shop) -> None:
    payment = await shop.paid()
    held = (await shop.story.charge(10_000, capture_method="manual")).id
    async with shop.browser(shop.cast.vera) as browser:
        page = await browser.get(shop.of(payment))
        assert page.status == 200
        assert "Refund…" not in page.words
        assert "Capture…" not in (await browser.get(shop.of(held))).words
        for action in ("refund", "capture", "cancel"):
            assert (await browser.get(shop.of(payment, action))).status == 403
        for action in ("refund", "capture", "cancel", "ask"):
            assert (await browser.post(shop.of(payment, action))).status == 403


@pytest.mark.parametrize("action", ["", "refund", "capture", "cancel"])
async def test_charlie_does_not_see_it(shop: Shop, action: str) -> None:
    payment = await shop.paid()
    charlie = shop.cast.charlie
    own = f"/m/{shop.cast.other_shop.id}/test/payments/{payment}"
    async with shop.browser(charlie) as browser:
        for base in (shop.of(payment), own, own.replace("/test/", "/live/")):
            page = await browser.get(f"{base}/{action}" if action else base)
            assert page.status == 404
            assert "100.00" not in page.text


@pytest.mark.parametrize("action", ["refund", "capture", "cancel", "ask"])
async def test_charlie_cannot_act_on_it(shop: Shop, action: str) -> None:
    payment = await shop.paid()
    own = f"/m/{shop.cast.other_shop.id}/test/payments/{payment}/{action}"
    async with shop.browser(shop.cast.charlie) as browser:
        for path in (shop.of(payment, action), own):
            answer = await browser.post(path, {} if action == "ask" else {"form_key": "k" * 20})
            assert answer.status == 404
    assert (await shop.story.get(payment)).amount_refunded == 0


async def test_the_live_question_names_what_changed(shop: Shop) -> None:
    payment = await shop.paid()
    async with shop.browser() as browser:
        page = await browser.get(shop.of(payment))
        address = page.text.partition('id="live" hx-get="')[2].partition('"')[0]
        address = address.replace("&amp;", "&")
        assert f"seen={payment}" in address
        assert (await browser.get(address, background=True)).status == 204
        await shop.story.refund(payment, 1_000)
        changed = await browser.get(address, background=True)
        assert changed.status == 200
        assert changed.response.headers["hx-trigger"] == "payment"
        foreign = f"/m/{shop.cast.other_shop.id}/test/live?page=payments&seen={payment}~x"
        assert (await browser.get(foreign, background=True)).status == 404
    async with shop.browser(shop.cast.charlie) as browser:
        first = await browser.get(foreign, background=True)
        again = await browser.get(foreign, background=True)
        assert f"{payment}~0-0-0-0-0-0-0&" in first.text.replace('"', "&")
        assert first.status == again.status == 200
