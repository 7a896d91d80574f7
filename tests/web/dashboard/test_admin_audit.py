"""The admins' page of the platform's own audit log."""

from litestar import Litestar

from app.accounts import totp
from app.audit.operations import Actor
from app.runtime import Runtime
from tests.support.audit import record
from tests.support.browser import Browser
from tests.support.cast import PASSWORD, Cast
from tests.support.runtime import Clock

BASE = "/admin/audit"
HOSTILE = "<img src=x onerror=alert(1)>"


async def add(rt: Runtime, action: str, name: str = HOSTILE, merchant_id: str | None = None) -> str:
    actor = Actor(kind="user", id="usr_x", name=name, address="192.0.2.9")
    told = {"before": {"state": "open"}, "after": {"state": HOSTILE}, "reason": "Seen twice"}
    return await record(rt, action, actor, merchant_id=merchant_id, **told)


async def test_an_admin_reads_a_sign_in_and_a_change_of_second_factor(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    async with Browser(app) as alice:
        page = await alice.get("/sign-in")
        await alice.submit(page, "/sign-in", email=cast.alice.email, password=PASSWORD)
        page = await alice.get("/sign-in/code")
        code = totp.code_at(cast.alice.totp_secret, clock())
        assert (await alice.submit(page, "/sign-in/code", code=code)).status == 303
        page = await alice.get("/account/recovery-codes")
        assert (await alice.submit(page, "/account/recovery-codes")).status == 200
    async with Browser(app, cast.ada) as ada:
        page = await ada.get(BASE)
        assert "user.signed_in" in page.words
        assert "user.recovery_codes_replaced" in page.words
        assert cast.alice.email in page.words
        shown = page.text.split("user.recovery_codes_replaced")[0].rsplit('href="', 1)[1]
        row = await ada.get(shown.split('"')[0])
        assert row.status == 200
        assert cast.alice.id in row.words


async def test_an_admin_finds_the_page_by_the_navigation(app: Litestar, cast: Cast) -> None:
    async with Browser(app, cast.ada) as ada:
        assert f'href="{BASE}"' in (await ada.get("/admin/merchants")).text
        assert 'aria-current="page"' in (await ada.get(BASE)).text.split(f'href="{BASE}"')[1][:200]
    async with Browser(app, cast.alice) as alice:
        page = await alice.get(f"/m/{cast.shop.id}/test/settings")
        assert f'href="{BASE}"' not in page.text


async def test_what_somebody_wrote_is_text_and_no_markup(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    row = await add(rt, "dead_letter.ask")
    async with Browser(app, cast.ada) as ada:
        page, detail = await ada.get(BASE), await ada.get(f"{BASE}/{row}")
    assert HOSTILE in page.words
    assert "Seen twice" in detail.words
    assert detail.words.count(HOSTILE) == 2
    assert "<img" not in page.text + detail.text


async def test_filters_narrow_the_list_with_and_without_script(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    await add(rt, "dead_letter.ask", "eve@example.com")
    await add(rt, "session.ended", "mallory@example.com")
    async with Browser(app, cast.ada) as ada:
        found = await ada.submit_get(await ada.get(BASE), BASE, action="dead_letter.")
        assert "dead_letter.ask" in found.words
        assert "session.ended" not in found.words
        part = await ada.get(f"{BASE}?actor=mallory%40example.com", fragment=True)
        assert part.text.lstrip().startswith('<section class="card" id="rows"')
        assert "session.ended" in part.words
        assert "dead_letter.ask" not in part.words
        made = await ada.get(f"{BASE}?object={cast.bob.id}")
        assert "user.created" in made.words
        assert "session.ended" not in made.words
        none = await ada.get(f"{BASE}?actor=nobody")
        assert "Nothing was done that matches" in none.words
        for strange in ("action=key.", "after=x", "before=aud_", "actor=%25", "object=_"):
            assert (await ada.get(f"{BASE}?{strange}")).status == 200


async def test_the_list_comes_in_pages(app: Litestar, rt: Runtime, cast: Cast) -> None:
    for _ in range(60):
        await add(rt, "session.ended")
    async with Browser(app, cast.ada) as ada:
        first = await ada.get(f"{BASE}?action=session.")
        assert "50 shown" in first.words
        older = first.text.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0]
        second = await ada.get(older.replace("&amp;", "&"))
        assert "10 shown" in second.words
        assert 'rel="next"' not in second.text
        newer = second.text.split('rel="prev"')[0].rsplit('href="', 1)[1].split('"')[0]
        back = await ada.get(newer.replace("&amp;", "&"))
        assert "50 shown" in back.words
        assert 'rel="prev"' not in back.text


async def test_what_is_done_in_a_shop_stays_in_the_shops_own_log(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    own = await add(rt, "payment.captured", merchant_id=cast.shop.id)
    async with Browser(app, cast.ada) as ada:
        assert "payment.captured" not in (await ada.get(BASE)).words
        assert (await ada.get(f"{BASE}/{own}")).status == 404


async def test_an_owner_reads_nothing_of_the_platform(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    row = await add(rt, "session.ended")
    async with Browser(app, cast.alice) as alice:
        assert (await alice.get(BASE)).status == 403
        assert (await alice.get(f"{BASE}/{row}")).status == 403
        assert (await alice.get(f"/m/{cast.shop.id}/test/audit/{row}")).status == 404
