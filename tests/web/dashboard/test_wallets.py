"""Wallets: what there is in each currency, and the lines that made it so."""

from tests.web.dashboard.money import Shop


async def test_the_balance_and_its_lines_agree(shop: Shop) -> None:
    payment = await shop.paid(12_840, reference="A-1")
    await shop.story.refund(payment, 4_000)
    await shop.story.work()
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/wallets")
    assert page.status == 200
    assert "Pending 86.98 EUR" in page.words
    assert "Reserved for refunds 0.00 EUR" in page.words
    for words in ("Payment A-1", "Fee A-1", "Refund reserved A-1", "Refund paid A-1"):
        assert words in page.words
    newest = page.text.split('<tr role="row">')[2:]
    assert "Refund paid" in newest[0]
    assert "Payment" in newest[-1]


async def test_a_part_a_payment_and_a_currency_narrow_the_history(shop: Shop) -> None:
    first = await shop.paid(12_840, reference="A-1")
    await shop.paid(1_000, reference="A-2")
    await shop.story.refund(first, 4_000)
    await shop.story.work()
    base = f"{shop.base}/wallets"
    async with shop.browser() as browser:
        reserved = (await browser.get(f"{base}?part=reserved")).words
        assert "Refund paid A-1" in reserved
        assert "Payment A-1" not in reserved
        only = (await browser.get(f"{base}?payment={first}")).words
        assert "Payment A-1" in only
        assert "A-2" not in only
        nothing = await browser.get(f"{base}?part=available")
        assert "No line fits this choice" in nothing.words
        odd = await browser.get(f"{base}?currency=zzz&part=nope&after=le_x_1&payment=1")
        assert odd.status == 200
        assert "Payment A-2" in odd.words


async def test_the_history_goes_older_and_newer(shop: Shop) -> None:
    for number in range(14):
        await shop.paid(1_000, reference=f"N-{number:02}")
    async with shop.browser() as browser:
        first = await browser.get(f"{shop.base}/wallets")
        assert "25 shown" in first.words
        older = first.text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
        second = await browser.get(older.replace("&amp;", "&"))
        assert "3 shown" in second.words
        assert "Payment N-00" in second.words
        newer = second.text.partition('rel="prev"')[0].rpartition('href="')[2].partition('"')[0]
        back = await browser.get(newer.replace("&amp;", "&"))
        assert "Payment N-13" in back.words


async def test_an_empty_wallet_says_what_comes_first(shop: Shop) -> None:
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/wallets")
    assert "0.00 EUR" in page.words
    assert "No ledger line yet" in page.words


async def test_htmx_gets_the_cards_alone(shop: Shop) -> None:
    await shop.paid()
    async with shop.browser() as browser:
        page = await browser.get(f"{shop.base}/wallets", fragment=True)
    assert "<html" not in page.text
    assert 'id="wallets"' in page.text
    assert "Ledger history" not in page.words


async def test_charlie_sees_an_own_empty_wallet_only(shop: Shop) -> None:
    payment = await shop.paid(reference="A-1")
    async with shop.browser(shop.cast.charlie) as browser:
        assert (await browser.get(f"{shop.base}/wallets")).status == 404
        own = f"/m/{shop.cast.other_shop.id}/test/wallets?payment={payment}"
        page = await browser.get(own)
    assert page.status == 200
    assert "A-1" not in page.words
