"""The list of payments: tabs, filters, search, pages and the file of exactly what is shown."""

import csv
import io

import pytest

from tests.web.dashboard.money import Shop
from web.dashboard.export import safe


async def names(shop: Shop, query: str = "") -> list[str]:
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/payments{query}")
    assert page.status == 200
    return [
        part.partition("</a>")[0].partition(">")[2]
        for part in page.text.split('class="row-link fw-medium"')[1:]
    ]


async def rows(shop: Shop, query: str = "") -> list[dict[str, str]]:
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/payments.csv{query}")
    assert page.status == 200
    assert page.response.headers["content-type"].startswith("text/csv")
    assert "attachment" in page.response.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(page.text)))


async def some(shop: Shop) -> None:
    await shop.paid(1_000, reference="A-1", email="one@shop.example")
    await shop.paid(2_000, reference="A-2", email="two@shop.example")
    shop.psp.script.extend(["ok", "declined"])
    await shop.story.charge(3_000, reference="A-3")
    await shop.story.create(4_000, reference="A-4")
    shop.psp.script.extend(["ok", "never"])
    await shop.story.charge(5_000, reference="A-5")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["A-5", "A-4", "A-3", "A-2", "A-1"]),
        ("?status=succeeded", ["A-2", "A-1"]),
        ("?status=declined", ["A-3"]),
        ("?status=progress", ["A-5", "A-4"]),
        ("?status=attention", ["A-5"]),
        ("?status=refunded", []),
        ("?min=20&max=30.00", ["A-3", "A-2"]),
        ("?currency=usd", []),
        ("?email=two@shop.example", ["A-2"]),
        ("?psp=sandbox&status=succeeded", ["A-2", "A-1"]),
        ("?q=20.00", ["A-2"]),
        ("?q=20.00+EUR&status=succeeded", ["A-2"]),
        ("?q=20.00+USD", []),
        ("?from=2001-01-01&to=2001-12-31", []),
        ("?from=2001-01-01", ["A-5", "A-4", "A-3", "A-2", "A-1"]),
    ],
)
async def test_tabs_and_filters_choose_and_the_file_agrees(
    shop: Shop, query: str, expected: list[str]
) -> None:
    await some(shop)
    assert await names(shop, query) == expected
    assert [row["reference"] for row in await rows(shop, query)] == expected


async def test_an_exact_hit_goes_straight_to_the_payment(shop: Shop) -> None:
    await some(shop)
    payment = await shop.paid(reference="ONE", email="one@shop.example")
    async with shop.browser() as browser:
        for text in ("ONE", payment):
            hit = await browser.get(f"{shop.base}/payments?q={text}")
            assert (hit.status, hit.location) == (303, shop.of(payment))
        two = await browser.get(f"{shop.base}/payments?q=one@shop.example")
        assert two.status == 200
        assert "2 shown" in two.words


async def test_filters_that_cannot_be_read_are_named_and_left_out(shop: Shop) -> None:
    await shop.paid(reference="A-1")
    query = "?status=nope&currency=zzz&from=yesterday&min=abc&after=pay_nothing&unknown=1"
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/payments{query}")
    assert page.status == 200
    for text in ("nope", "zzz", "yesterday", "abc"):
        assert f"“{text}”" in page.words
    assert "A-1" in page.words


async def test_no_results_say_why_when_we_know(shop: Shop) -> None:
    await shop.paid(reference="A-1")
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/payments?q=A-1&currency=usd")
        assert "A-1 exists, but another filter leaves it out." in page.words
        none = await browser.get(f"{shop.base}/payments?q=nothing")
        assert "No payment fits these filters" in none.words
        assert "exists" not in none.words


async def test_an_empty_shop_says_what_will_appear(shop: Shop) -> None:
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/payments")
    assert "No payments yet" in page.words
    assert len(await rows(shop)) == 0


async def test_pages_go_older_and_newer_by_cursor(shop: Shop) -> None:
    for number in range(27):
        await shop.story.create(1_000 + number, reference=f"N-{number:02}")
    async with shop.browser() as browser:
        first = await browser.get(f"{shop.base}/payments")
        assert "25 shown" in first.words
        older = first.text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
        second = await browser.get(older.replace("&amp;", "&"))
        assert "2 shown" in second.words
        assert "N-00" in second.words
        newer = second.text.partition('rel="prev"')[0].rpartition('href="')[2].partition('"')[0]
        back = await browser.get(newer.replace("&amp;", "&"))
        assert "N-26" in back.words
        assert "25 shown" in back.words
    assert len(await rows(shop)) == 27


async def test_a_bar_says_that_there_are_newer_ones(shop: Shop) -> None:
    first = await shop.paid(reference="A-1")
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/payments")
        assert f"news?since={first}" in page.text
        news = f"{shop.base}/payments/news?since={first}"
        assert "new payment" not in (await browser.get(news, background=True)).words
        await shop.paid(reference="A-2")
        await shop.paid(reference="A-3")
        assert "2 new payments, show" in (await browser.get(news, background=True)).words


async def test_htmx_gets_the_list_alone(shop: Shop) -> None:
    await shop.paid(reference="A-1")
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/payments?q=A-1", fragment=True)
    assert page.status == 200
    assert page.text.lstrip().startswith('<div id="payments">')


@pytest.mark.parametrize("sign", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
async def test_the_file_runs_no_formula(shop: Shop, sign: str) -> None:
    """S15."""
    assert safe(sign) == f"'{sign}"
    await shop.paid(reference=f"{sign}x", description=sign, name=sign)
    (row,) = await rows(shop)
    assert row["reference"] == f"'{sign}x"
    assert row["customer_name"].startswith("'")
    assert row["amount"] == "100.00"


async def test_charlie_and_the_other_mode_see_nothing(shop: Shop) -> None:
    await shop.paid(reference="A-1")
    async with shop.browser(shop.cast.charlie) as browser:
        for path in ("payments", "payments.csv", "payments/news", "overview", "wallets", "live"):
            assert (await browser.get(f"{shop.base}/{path}")).status == 404
        own = f"/m/{shop.cast.other_shop.id}/test"
        assert "A-1" not in (await browser.get(f"{own}/payments?q=A-1")).words.replace(
            "Search A-1", ""
        )
        assert "A-1" not in (await browser.get(f"{own}/payments.csv")).text
    async with shop.browser() as browser:
        live = await browser.get(f"{shop.base.replace('/test', '/live')}/payments")
        assert live.status == 200
        assert "No payments yet" in live.words
