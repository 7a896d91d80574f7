"""The pages of API keys."""

import asyncio
from html import unescape
from typing import Any

from litestar import Litestar

from app.accounts import totp
from app.merchants import queries
from app.runtime import Runtime
from tests.support.browser import Browser
from tests.support.cast import PASSWORD, Cast
from tests.support.runtime import Clock

HOSTILE = "\"'><script>alert(1)</script>"


async def works(rt: Runtime, secret: str) -> bool:
    async with rt.sessions.read() as session:
        try:
            await queries.authenticate(session, secret=secret, now=rt.clock())
        except Exception:  # noqa: BLE001 - any refusal means that it does not work
            return False
        return True


def shown_secret(text: str) -> str:
    start = text.index('id="secret">') + len('id="secret">')
    return unescape(text[start : text.index("<", start)])


async def test_an_owner_makes_a_key_and_sees_it_once(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/keys"
        assert "Shop plugin" in (await alice.get(base)).words
        page = await alice.get(f"{base}/new")
        made = await alice.submit(
            page, base, name=HOSTILE, scopes=["payments:read", "ledger:read"], lasting="30"
        )
        assert made.status == 200
        secret = shown_secret(made.text)
        assert await works(rt, secret)
        again = await alice.submit(
            page, base, name=HOSTILE, scopes=["payments:read", "ledger:read"], lasting="30"
        )
        assert again.status == 200
        assert secret not in again.text
        assert "had been sent before" in again.words
        listing = await alice.get(base)
        assert listing.text.count("payments:read, ledger:read</td>") == 1
        assert secret not in listing.text
        assert "<script>alert" not in made.text + again.text + listing.text
        assert HOSTILE in listing.words


async def test_two_presses_at_once_make_one_key(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/keys"
        page = await alice.get(f"{base}/new")
        answers = await asyncio.gather(*(alice.submit(page, base, name="Both") for _ in range(4)))
        assert [answer.status for answer in answers] == [200] * 4
        assert sum('id="secret"' in answer.text for answer in answers) == 1
        other = await alice.submit(page, base, name="Another")
        assert other.status == 422
    async with rt.sessions.read() as session:
        keys = await queries.api_keys(session, merchant_id=cast.shop.id, livemode=False)
    assert [key.name for key in keys].count("Both") == 1
    assert "Another" not in [key.name for key in keys]


async def test_wrong_input_keeps_what_was_written(app: Litestar, cast: Cast) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/keys"
        page = await alice.get(f"{base}/new")
        answer = await alice.submit(page, base, name="", scopes=["payments:read"], lasting="90")
        assert answer.status == 422
        assert "1 to 80 printable characters" in answer.words
        form = answer.form(base, method="post")
        assert [value for name, value in form.fields if name == "scopes"] == ["payments:read"]
        assert form.value("lasting") == "90"
        answer = await alice.submit(answer, base, name="Second", scopes=None)
        assert "choose at least one scope" in answer.words.lower()
        fixed = await alice.submit(answer, base, name="Second", scopes=["payments:read"])
        assert fixed.status == 200


async def test_a_key_needs_password_and_code_when_they_are_not_fresh(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as alice:
        clock.forward(minutes=6)
        base = f"/m/{cast.shop.id}/test/keys"
        page = await alice.get(f"{base}/new")
        fields: dict[str, Any] = {"name": "Later", "scopes": ["payments:read"]}
        answer = await alice.submit(
            page, base, **fields, confirm_password="wrong", confirm_code="000000"
        )
        assert answer.status == 422
        assert "does not count" in answer.words
        code = totp.code_at(cast.alice.totp_secret, clock())
        answer = await alice.submit(
            answer, base, **fields, confirm_password=PASSWORD, confirm_code=code
        )
        assert answer.status == 200
        assert shown_secret(answer.text).startswith("cf_test_")


async def test_replacing_and_revoking(app: Litestar, rt: Runtime, cast: Cast, clock: Clock) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/keys"
        page = await alice.get(f"{base}/{cast.shop.key.id}")
        assert page.status == 200
        made = await alice.submit(page, "/rotate", overlap="3600")
        successor = shown_secret(made.text)
        assert await works(rt, successor)
        assert await works(rt, cast.shop.secret)
        answer = await alice.submit(page, "/revoke")
        assert (answer.status, answer.location) == (303, base)
        assert not await works(rt, cast.shop.secret)
        assert await works(rt, successor)
        assert (await alice.submit(page, "/revoke")).status == 303
        late = await alice.submit(page, "/rotate", form_key="a" * 26)
        assert late.status == 422
        assert "has ended" in late.words


async def test_only_owners_may(app: Litestar, cast: Cast) -> None:
    base = f"/m/{cast.shop.id}/test/keys"
    for person, status in ((cast.bob, 403), (cast.vera, 403), (cast.charlie, 404)):
        async with Browser(app, person) as browser:
            for path in (base, f"{base}/new", f"{base}/{cast.shop.key.id}"):
                assert (await browser.get(path)).status == status
            assert (await browser.post(f"{base}/{cast.shop.key.id}/revoke")).status == status
            assert (await browser.post(base, {"name": "x"})).status == status


async def test_charlie_cannot_reach_a_key_through_his_own_shop(app: Litestar, cast: Cast) -> None:
    async with Browser(app, cast.charlie) as charlie:
        base = f"/m/{cast.other_shop.id}/test/keys/{cast.shop.key.id}"
        assert (await charlie.get(base)).status == 404
        assert (await charlie.post(f"{base}/revoke")).status == 404
        assert (await charlie.post(f"{base}/rotate", {"form_key": "a" * 26})).status == 404
        live = f"/m/{cast.other_shop.id}/live/keys/{cast.other_shop.key.id}"
        assert (await charlie.get(live)).status == 404
