"""The page of the audit log."""

from litestar import Litestar

from app.audit.operations import Actor
from app.runtime import Runtime
from tests.support.audit import record
from tests.support.browser import Browser
from tests.support.cast import Cast

HOSTILE = "<img src=x onerror=alert(1)>"


async def add(rt: Runtime, merchant_id: str, action: str, **more: object) -> str:
    actor = Actor(kind="user", id="usr_x", name=HOSTILE, address="192.0.2.9")
    values: dict[str, object] = {"livemode": False, **more}
    return await record(rt, action, actor, merchant_id=merchant_id, **values)


async def test_an_owner_reads_what_was_done_and_what_it_changed(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    row = await add(
        rt,
        cast.shop.id,
        "webhook_endpoint.updated",
        object_id=rt.ids("we"),
        before={"url": "https://a.example/", "same": 1},
        after={"url": HOSTILE, "same": 1},
        reason="Moved",
    )
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/audit"
        page = await alice.get(base)
        assert "webhook_endpoint.updated" in page.words
        assert "member.added" in page.words
        detail = await alice.get(f"{base}/{row}")
        assert "https://a.example/" in detail.words
        assert "same" not in detail.words.split("What changed")[1].split("Who")[0]
        assert "Moved" in detail.words
        assert HOSTILE in page.words
        assert HOSTILE in detail.words
        assert "<img" not in page.text + detail.text


async def test_filters_narrow_the_list_with_and_without_script(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    thing = rt.ids("pay")
    await add(rt, cast.shop.id, "payment.captured", object_id=thing)
    await add(rt, cast.shop.id, "key.used", object_id=rt.ids("key"))
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/audit"
        found = await alice.submit_get(await alice.get(base), base, action="payment.")
        assert "payment.captured" in found.words
        assert "key.used" not in found.words
        part = await alice.get(f"{base}?object={thing}", fragment=True)
        assert part.text.lstrip().startswith('<section class="card" id="rows"')
        assert part.words.count("payment.captured") == 1
        assert "key.used" not in part.words
        mine = await alice.get(f"{base}?actor={cast.alice.id}")
        assert "Nothing was done that matches" in mine.words
        for strange in ("action=%27", "after=x", "before=aud_", "actor=%25", "object=_"):
            assert (await alice.get(f"{base}?{strange}")).status == 200


async def test_the_list_comes_in_pages(app: Litestar, rt: Runtime, cast: Cast) -> None:
    for index in range(60):
        await add(rt, cast.shop.id, "refund.created", object_id=f"ref_{index:03}")
    async with Browser(app, cast.alice) as alice:
        first = await alice.get(f"/m/{cast.shop.id}/test/audit?action=refund.")
        assert "50 shown" in first.words
        older = first.text.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0]
        second = await alice.get(older.replace("&amp;", "&"))
        assert "10 shown" in second.words
        assert 'rel="next"' not in second.text
        newer = second.text.split('rel="prev"')[0].rsplit('href="', 1)[1].split('"')[0]
        back = await alice.get(newer.replace("&amp;", "&"))
        assert "50 shown" in back.words
        assert 'rel="prev"' not in back.text


async def test_another_shop_and_mode_see_nothing_of_it(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    row = await add(rt, cast.shop.id, "payment.captured")
    async with Browser(app, cast.charlie) as charlie:
        assert (await charlie.get(f"/m/{cast.shop.id}/test/audit/{row}")).status == 404
        assert (await charlie.get(f"/m/{cast.other_shop.id}/test/audit/{row}")).status == 404
        own = await charlie.get(f"/m/{cast.other_shop.id}/test/audit")
        assert "payment.captured" not in own.words
    async with Browser(app, cast.alice) as alice:
        assert (await alice.get(f"/m/{cast.shop.id}/live/audit/{row}")).status == 404
        live = await alice.get(f"/m/{cast.shop.id}/live/audit")
        assert "payment.captured" not in live.words
        assert "member.added" in live.words
    async with Browser(app, cast.bob) as bob:
        assert (await bob.get(f"/m/{cast.shop.id}/test/audit")).status == 403
