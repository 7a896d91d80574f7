"""The review queue and the risk settings, through the pages and without script."""

import asyncio
from typing import Any

from sqlalchemy import func, select

from app.audit.models import AuditRow
from app.risk import queries
from app.risk.models import RiskBlock
from app.runtime import Runtime
from tests.web.dashboard.money import Shop


async def held(shop: Shop, amount: int = 12_840, **fields: str) -> str:
    """Create an off-session payment whose customer and card are of two countries."""
    made = await shop.story.create(
        amount, payment_method="pm_card_visa", country="DE", card_country="NG", **fields
    )
    await shop.story.work()
    return made.id


async def on_the_page(shop: Shop) -> str:
    """Create a hosted payment of two countries, whose customer has agreed on the PSP's page."""
    shop.psp.pages_end = True
    made = await shop.story.create(12_840, country="DE", card_country="NG", reference="HOSTED")
    await shop.story.work()
    (attempt,), _ = await shop.story.attempts(made.id)
    shop.psp.pay(attempt.id)
    await shop.story.resolved(made.id)
    return made.id


def review(shop: Shop, payment_id: str = "") -> str:
    return f"{shop.base}/reviews" + (f"/{payment_id}" if payment_id else "")


async def audited(rt: Runtime, action: str) -> int:
    async with rt.sessions.read() as session:
        query = select(func.count()).where(AuditRow.action.like(action))
        return await session.scalar(query) or 0


async def test_the_queue_is_empty_in_words(shop: Shop) -> None:
    async with shop.browser() as browser:
        page = await browser.get(review(shop))
    assert page.status == 200
    assert "Nothing waits for you" in page.words


async def test_what_waits_is_listed_oldest_first_and_counted_where_people_look(
    shop: Shop, rt: Runtime
) -> None:
    first = await held(shop, 12_840, reference="A-1")
    await held(shop, 5_000, reference="<b>A-2</b>")
    async with shop.browser() as browser:
        page = await browser.get(review(shop))
        assert page.words.index("A-1") < page.words.index("A-2")
        assert "<b>A-2" not in page.text
        assert "The customer is in DE, the card is from NG." in page.words
        assert "2 need attention" in page.words
        overview = await browser.get(f"{shop.base}/overview")
        assert "2 payments wait for your review" in overview.words
        assert "person of the platform" not in overview.words
        payment = await browser.get(shop.of(first))
        assert "The risk check asks a person to look first." in payment.words
        assert "The risk check asks a person to look Us" in payment.words
        assert f'href="{review(shop, first)}"' in payment.text
        assert f'href="{shop.of(first)}/cancel"' in payment.text
    async with shop.browser(shop.cast.ada) as ada:
        health = await ada.get("/admin/health")
        assert "Payments that wait for a review 2" in health.words
        assert "Asked The built-in rules" in health.words


async def test_an_operator_approves_with_a_reason(shop: Shop, rt: Runtime) -> None:
    payment_id = await held(shop)
    async with shop.browser(shop.cast.bob) as browser:
        page = await browser.get(review(shop, payment_id))
        assert "Approved, 128.40 EUR is charged to the saved card." in page.words
        short = await browser.submit(page, review(shop, payment_id), decision="approve", reason="x")
        assert short.status == 422
        assert "Write 3 to 1,000 characters." in short.words
        done = await browser.submit(
            short, review(shop, payment_id), decision="approve", reason="I called the customer."
        )
        assert (done.status, done.location) == (303, review(shop))
        assert "The payment is approved." in (await browser.get(review(shop))).words
        await shop.story.work()
        after = await browser.get(shop.of(payment_id))
        assert "bob@example.com approved the payment" in after.words
        assert "I called the customer." in after.words
        seen = await browser.get(review(shop, payment_id))
        assert "Approved by bob@example.com" in seen.words
        assert "<textarea" not in seen.text
    assert (await shop.story.get(payment_id)).status == "succeeded"
    assert await audited(rt, "payment.review_approved") == 1
    await shop.story.end()


async def test_a_hosted_payment_is_refused_and_the_customer_is_told_so(
    shop: Shop, rt: Runtime
) -> None:
    payment_id = await on_the_page(shop)
    made = await shop.story.get(payment_id)
    assert made.checkout_url is not None
    checkout = made.checkout_url.removeprefix("https://localhost")
    async with shop.browser() as browser:
        waits = await browser.get(f"{checkout}/return")
        assert "who looks at your order first" in waits.words
        page = await browser.get(review(shop, payment_id))
        assert "Approve and take 128.40 EUR" in page.words
        done = await browser.submit(
            page, review(shop, payment_id), decision="refuse", reason="A stolen card."
        )
        assert done.status == 303
        ending = await browser.get(shop.of(payment_id))
        assert "the held money is being let go" in ending.words
        await shop.story.work()
        ended = await browser.get(f"{checkout}/return")
        assert "The shop cannot take this payment" in ended.words
        assert "You have not been charged." in ended.words
        assert "stolen" not in ended.words
        assert "A person refused this payment" in (await browser.get(shop.of(payment_id))).words
    assert (await shop.story.get(payment_id)).status == "failed"
    await shop.story.end()


async def test_two_people_decide_at_once_and_one_of_them_is_told(shop: Shop, rt: Runtime) -> None:
    """F69."""
    payment_id = await held(shop)
    async with shop.browser() as alice, shop.browser(shop.cast.bob) as bob:
        pages = [await one.get(review(shop, payment_id)) for one in (alice, bob)]
        answers = await asyncio.gather(
            alice.submit(
                pages[0], review(shop, payment_id), decision="approve", reason="Fine with me."
            ),
            bob.submit(pages[1], review(shop, payment_id), decision="refuse", reason="Not at all."),
        )
        assert sorted(answer.status for answer in answers) == [303, 409]
        (late,) = [answer for answer in answers if answer.status == 409]
        assert "this payment meanwhile. Nothing was done twice." in late.words
        again = await alice.submit(
            pages[0], review(shop, payment_id), decision="approve", reason="Fine with me."
        )
        assert again.status in {303, 409}
    assert await audited(rt, "payment.review_%") == 1
    await shop.story.work()
    await shop.story.end()


async def test_a_page_from_before_a_cancel_decides_nothing(shop: Shop, rt: Runtime) -> None:
    payment_id = await held(shop)
    async with shop.browser() as browser:
        page = await browser.get(review(shop, payment_id))
        await shop.story.cancel(payment_id)
        late = await browser.submit(
            page, review(shop, payment_id), decision="approve", reason="Fine with me."
        )
        assert late.status == 409
        assert "cancelled, has lapsed or was captured meanwhile" in late.words
        odd = await browser.submit(page, review(shop, payment_id), decision="burn", reason="Hm, no")
        assert odd.status == 422
    assert shop.psp.requests == []
    await shop.story.end()


async def test_a_viewer_looks_on_and_a_stranger_finds_nothing(shop: Shop, rt: Runtime) -> None:
    payment_id = await held(shop)
    async with shop.browser(shop.cast.vera) as vera:
        page = await vera.get(review(shop, payment_id))
        assert page.status == 200
        assert "<textarea" not in page.text
        assert "not decide it" in page.words
        asked = {"decision": "approve", "reason": "Let me", "seen": "1", "form_key": "k" * 20}
        assert (await vera.post(review(shop, payment_id), asked)).status == 403
    async with shop.browser(shop.cast.charlie) as charlie:
        assert (await charlie.get(review(shop, payment_id))).status == 404
        own = review(shop, payment_id).replace(shop.cast.shop.id, shop.cast.other_shop.id)
        assert (await charlie.get(own)).status == 404
        assert (await charlie.post(own, asked)).status == 404
    assert (await shop.story.get(payment_id)).status == "processing"


async def test_a_payment_that_nobody_held_has_no_review(shop: Shop) -> None:
    paid = await shop.paid()
    async with shop.browser() as browser:
        for address in (paid, "pay_1", "%00"):
            assert (await browser.get(review(shop, address))).status == 404
        payment = await browser.get(shop.of(paid))
        assert "The risk check let it pass" in payment.words


async def test_an_owner_sets_limits_of_a_currency_and_they_count(shop: Shop, rt: Runtime) -> None:
    base = f"{shop.base}/settings/risk"
    async with shop.browser() as browser:
        page = await browser.get(base)
        assert page.form(base).value("pass_up_to") == "100.00"
        assert page.form(base).value("customer_per_hour") == "500"
        done = await browser.submit(
            page, base, hold_above="50.00", refuse_above="1000", pass_up_to=""
        )
        assert done.status == 303
        yen = await browser.get(f"{base}?currency=jpy")
        assert yen.form(base).value("pass_up_to") == "10000"
        assert (await browser.submit(yen, base, hold_above="3000")).status == 303
        listed = await browser.get(base)
        assert "3,000 JPY" in listed.words.replace("JPY 3,000", "3,000 JPY")
    async with rt.sessions.read() as session:
        terms = await queries.terms(session, merchant_id=shop.cast.shop.id)
    assert (terms.of("eur").hold_above, terms.of("eur").refuse_above) == (5_000, 100_000)
    assert (terms.of("eur").pass_up_to, terms.of("jpy").hold_above) == (0, 3_000)
    assert terms.country_mismatch
    assert await audited(rt, "risk.settings_changed") == 2
    assert (await shop.story.charge(5_001)).status_reason == "held_for_review"
    assert (await shop.story.charge(5_000)).status == "succeeded"
    assert (await shop.story.charge(100_001)).status == "failed"


async def test_limits_that_cannot_be_are_told_at_their_field(shop: Shop, rt: Runtime) -> None:
    base = f"{shop.base}/settings/risk"
    async with shop.browser() as browser:
        page = await browser.get(base)
        for name, value in (
            ("currency", "XXX"),
            ("hold_above", "lots"),
            ("hold_above", "99999999999999"),
            ("refuse_above", "-1"),
            ("pass_up_to", "1.234"),
            ("customer_per_hour", "0"),
            ("customer_per_hour", "1.5"),
            ("merchant_per_hour", "9" * 5_000),
        ):
            changed: dict[str, Any] = {name: value}
            answer = await browser.submit(page, base, **changed)
            assert answer.status == 422, (name, value)
            assert f'id="{name}-error"' in answer.text, (name, value)
        crossed = await browser.submit(page, base, hold_above="20", refuse_above="10")
        assert 'id="refuse_above-error"' in crossed.text
    assert await audited(rt, "risk.settings_changed") == 0


async def test_a_block_keeps_a_hash_and_can_be_taken_off(shop: Shop, rt: Runtime) -> None:
    base = f"{shop.base}/settings/risk"
    async with shop.browser() as browser:
        page = await browser.get(base)
        blocks = f"{base}/blocks"
        done = await browser.submit(
            page, blocks, kind="email", value="bad@shop.example", note="Chargebacks in May"
        )
        assert done.status == 303
        twice = await browser.submit(page, blocks, kind="email", value=" BAD@shop.example ")
        assert twice.status == 422
        assert "on your list already" in twice.words
        for kind, value in (("email", "nobody"), ("country", "DEU"), ("method", "a b"), ("x", "y")):
            assert (await browser.submit(page, blocks, kind=kind, value=value)).status == 422
        listed = await browser.get(base)
        assert "Chargebacks in May" in listed.words
        assert "bad@shop.example" not in listed.text
        assert (await shop.story.charge(email="bad@shop.example")).status == "failed"
        assert (await browser.submit(listed, "/remove")).status == 303
        assert (await shop.story.charge(email="bad@shop.example")).status == "succeeded"
        assert (await browser.submit(listed, "/remove")).status == 404
    async with rt.sessions.read() as session:
        assert await session.scalar(select(func.count()).select_from(RiskBlock)) == 0
        told = await session.scalars(select(AuditRow.after).where(AuditRow.action.like("risk.%")))
        assert "bad@" not in str(list(told))
    assert await audited(rt, "risk.%blocked") == 2


async def test_an_operator_reads_the_risk_settings_and_changes_none(shop: Shop) -> None:
    base = f"{shop.base}/settings/risk"
    async with shop.browser(shop.cast.bob) as bob:
        page = await bob.get(base)
        assert page.status == 200
        assert "Keep the limits" not in page.words
        assert (await bob.post(base, {"currency": "EUR"})).status == 403
