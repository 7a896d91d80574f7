"""The overview: how much there is, what needs somebody, how sales go, the latest payments."""

from datetime import timedelta

import pytest

from app.runtime import Runtime
from tests.support.runtime import Clock
from tests.web.dashboard.money import Shop
from tests.webhooks.shop import add_endpoint


async def test_an_empty_shop_is_shown_how_to_make_the_first_payment(shop: Shop) -> None:
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/overview")
    assert page.status == 200
    assert "No payments yet" in page.words
    assert "curl https://localhost/v1/payments" in page.words
    assert f"Authorization: Bearer {shop.cast.shop.key.hint}" in page.words
    assert shop.cast.shop.secret not in page.text
    assert "Nothing needs you." in page.words


async def test_wallets_charts_and_latest_payments(shop: Shop, clock: Clock) -> None:
    clock.offset = -timedelta(days=40)
    await shop.paid(1_000, reference="OLD")
    clock.offset = timedelta(0)
    await shop.paid(1_500, reference="A-1")
    shop.psp.script.extend(["ok", "declined"])
    await shop.story.charge(2_000, reference="A-2")
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/overview")
    assert page.status == 200
    words = page.words
    assert "Pending 24.15 EUR" in words
    assert "15.00 EUR +50.0% on the 30 days before" in words
    assert "50.0% of payments that customers tried to pay" in words
    assert "Declined A-2" in words
    assert "Nothing needs you." in words


async def test_each_currency_has_a_chart_of_its_own(shop: Shop) -> None:
    await shop.paid(1_500)
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/overview?currency=nonsense")
        assert "Volume a day in EUR" in page.text


async def test_what_needs_somebody_comes_worst_first_with_one_button(
    shop: Shop, rt: Runtime
) -> None:
    shop.psp.script.extend(["ok", "rejected"])
    stuck = (await shop.story.charge(6_400, reference="STUCK")).id
    shop.psp.script.extend(["ok", "never"])
    unknown = (await shop.story.charge(21_600, reference="UNKNOWN")).id
    endpoint = await add_endpoint(
        rt,
        merchant_id=shop.cast.shop.id,
        status="failing",
        status_reason="it answered 500",
        failing_since=rt.clock(),
    )
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/overview")
        assert "Needs attention 3" in page.words
        order = ["does not answer our messages", "waits for a person", "unknown outcome"]
        places = [page.words.index(text) for text in order]
        assert places == sorted(places)
        for address in (f"webhooks/{endpoint}", f"payments/{stuck}", f"payments/{unknown}"):
            assert f'href="{shop.base}/{address}"' in page.text
        shop.psp.script.extend(["ok", "never"])
        await shop.story.charge(1_000)
        many = await browser.get(f"{shop.base}/overview")
        assert "2 payments have an unknown outcome" in many.words
        assert f'href="{shop.base}/payments?status=attention"' in many.text


@pytest.mark.parametrize("target", ["wallets", "attention", "latest"])
async def test_each_live_part_is_had_alone(shop: Shop, target: str) -> None:
    await shop.paid()
    async with shop.browser() as browser:
        page = await browser.get(
            f"{shop.base}/overview", fragment=True, headers={"HX-Target": target}
        )
    assert "<html" not in page.text
    assert f'id="{target}"' in page.text
    for other in {"wallets", "attention", "latest"} - {target}:
        assert f'id="{other}"' not in page.text


async def test_the_live_question_tells_payments_from_the_wallet(shop: Shop) -> None:
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/overview")
        address = page.text.partition('id="live" hx-get="')[2].partition('"')[0]
        address = address.replace("&amp;", "&")
        assert (await browser.get(address, background=True)).status == 204
        await shop.story.create()
        changed = await browser.get(address, background=True)
        assert changed.response.headers["hx-trigger"] == "payments"
        await shop.paid()
        changed = await browser.get(address, background=True)
        assert changed.response.headers["hx-trigger"] == "payments, ledger"


async def test_charlie_sees_none_of_it(shop: Shop) -> None:
    await shop.paid(reference="A-1")
    async with shop.browser(shop.cast.charlie) as browser:
        assert (await browser.get(f"{shop.base}/overview")).status == 404
        page = await browser.get(f"/m/{shop.cast.other_shop.id}/test/overview")
    assert "No payments yet" in page.words
