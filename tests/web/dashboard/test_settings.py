"""The settings of a shop and its people, through the pages."""

from typing import Any

from litestar import Litestar
from sqlalchemy import select

from app.accounts import totp
from app.accounts.models import Membership, OneTimeLink, User
from app.jobs import Job
from app.merchants.models import Merchant
from app.runtime import Runtime
from tests.support.browser import Browser
from tests.support.cast import PASSWORD, Cast
from tests.support.runtime import Clock


async def shop(rt: Runtime, cast: Cast) -> Merchant:
    async with rt.sessions.read() as session:
        found = await session.get(Merchant, cast.shop.id)
        assert found is not None
        return found


async def role_of(rt: Runtime, cast: Cast, user_id: str) -> str | None:
    async with rt.sessions.read() as session:
        found = await session.get(Membership, (user_id, cast.shop.id))
        return found.role if found else None


def confirmation(cast: Cast, clock: Clock) -> dict[str, Any]:
    code = totp.code_at(cast.alice.totp_secret, clock())
    return {"confirm_password": PASSWORD, "confirm_code": code}


async def test_an_owner_changes_the_name_and_the_limit(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as alice:
        clock.forward(minutes=6)
        base = f"/m/{cast.shop.id}/test/settings"
        page = await alice.get(base)
        assert page.form(base, method="post").value("step_up_limit") == "500.00"
        assert (await alice.submit(page, base, name="<b>Bakery</b>")).status == 303
        assert (await shop(rt, cast)).name == "<b>Bakery</b>"
        page = await alice.get(base)
        assert "<b>Bakery" not in page.text
        answer = await alice.submit(page, base, step_up_limit="9999999")
        assert answer.status == 422
        assert (await shop(rt, cast)).step_up_limit == 50_000
        answer = await alice.submit(
            answer, base, step_up_limit="750,50", **confirmation(cast, clock)
        )
        assert answer.status == 303
        assert (await shop(rt, cast)).step_up_limit == 75_050


async def test_what_cannot_be_read_is_told_at_the_field(app: Litestar, cast: Cast) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/settings"
        page = await alice.get(base)
        for limit in ("", "lots", "-5", "1.234", "99999999999999"):
            answer = await alice.submit(page, base, step_up_limit=limit)
            assert answer.status == 422, limit
            assert 'id="step_up_limit-error"' in answer.text
        answer = await alice.submit(page, base, name=" ")
        assert 'id="name-error"' in answer.text


async def test_somebody_new_gets_one_letter_however_often_the_button_is_pressed(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/settings"
        page = await alice.get(f"{base}/members/new")
        for _ in range(2):
            answer = await alice.submit(
                page, "/members", email="New.Person@Example.com", role="operator"
            )
            assert (answer.status, answer.location) == (303, base)
        assert "Invited" in (await alice.get(base)).words
        again = await alice.submit(
            await alice.get(f"{base}/members/new"), "/members", email="new.person@example.com"
        )
        assert again.status == 422
        assert "belongs to the shop already" in again.words
        bad = await alice.submit(page, "/members", email="nobody", form_key="b" * 26)
        assert 'id="email-error"' in bad.text
    async with rt.sessions.read() as session:
        user = await session.scalar(select(User).where(User.email == "new.person@example.com"))
        assert user is not None
        links = await session.scalars(select(OneTimeLink).where(OneTimeLink.user_id == user.id))
        assert len(links.all()) == 1
        letters = await session.scalars(select(Job).where(Job.kind == "mail.send"))
        assert len(letters.all()) == 1
    assert await role_of(rt, cast, user.id) == "operator"


async def test_a_role_is_changed_and_the_sessions_end(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    async with Browser(app, cast.alice) as alice, Browser(app, cast.vera) as vera:
        base = f"/m/{cast.shop.id}/test/settings"
        assert (await vera.get(base)).status == 200
        page = await alice.get(f"{base}/members/{cast.vera.id}")
        assert (await alice.submit(page, "/role", role="operator")).status == 303
        assert await role_of(rt, cast, cast.vera.id) == "operator"
        assert (await vera.get(base)).status == 303
        assert (await alice.submit(page, "/role", role="emperor")).status == 422
        assert (await alice.submit(page, "/remove")).status == 303
        assert await role_of(rt, cast, cast.vera.id) is None
        assert (await alice.get(f"{base}/members/{cast.vera.id}")).status == 404


async def test_the_last_owner_stays(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with Browser(app, cast.alice) as alice:
        base = f"/m/{cast.shop.id}/test/settings"
        page = await alice.get(f"{base}/members/{cast.alice.id}")
        answers = [
            await alice.submit(page, "/role", role="viewer"),
            await alice.submit(page, "/remove"),
        ]
        for answer in answers:
            assert answer.status == 422
            assert "at least one owner" in answer.words
    assert await role_of(rt, cast, cast.alice.id) == "owner"


async def test_viewers_see_terms_and_no_people(app: Litestar, cast: Cast) -> None:
    async with Browser(app, cast.vera) as vera:
        page = await vera.get(f"/m/{cast.shop.id}/test/settings")
        assert "Available after" in page.words
        assert "bob@example.com" not in page.words
        assert "Keep the changes" not in page.words
        assert (await vera.post(f"/m/{cast.shop.id}/test/settings", {"name": "x"})).status == 403


async def test_charlie_finds_nobody_of_alices_shop(app: Litestar, cast: Cast) -> None:
    async with Browser(app, cast.charlie) as charlie:
        assert (await charlie.get(f"/m/{cast.shop.id}/test/settings")).status == 404
        base = f"/m/{cast.other_shop.id}/test/settings/members/{cast.bob.id}"
        assert (await charlie.get(base)).status == 404
        assert (await charlie.post(f"{base}/remove")).status == 404
        assert (await charlie.post(f"{base}/role", {"role": "viewer"})).status == 404
