"""A person's own account through its pages."""

import re
from html import unescape
from typing import Any

from litestar import Litestar
from sqlalchemy import select

from app.accounts import totp
from app.audit.models import AuditRow
from app.runtime import Runtime
from tests.support.browser import COOKIE, Browser, Page
from tests.support.cast import PASSWORD, Cast, Person
from tests.support.runtime import Clock

NEW = "amber kettle drifting harbour"


def confirmation(person: Person, clock: Clock) -> dict[str, Any]:
    code = totp.code_at(person.totp_secret, clock())
    return {"confirm_password": PASSWORD, "confirm_code": code}


async def sign_in(browser: Browser, person: Person, password: str, code: str) -> Page:
    page = await browser.get("/sign-in")
    await browser.submit(page, "/sign-in", email=person.email, password=password)
    return await browser.submit(await browser.get("/sign-in/code"), "/sign-in/code", code=code)


async def actions(rt: Runtime) -> list[str]:
    async with rt.sessions.read() as session:
        found = await session.scalars(select(AuditRow.action).order_by(AuditRow.id))
        return [action for action in found if action.startswith(("user.", "session."))]


async def test_a_new_password_ends_other_sessions_and_keeps_this_one(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as other, Browser(app) as alice:
        code = totp.code_at(cast.alice.totp_secret, clock())
        assert (await sign_in(alice, cast.alice, PASSWORD, code)).status == 303
        clock.forward(minutes=6)
        page = await alice.get("/account/password")
        weak = await alice.submit(
            page, "/account/password", password="short", **confirmation(cast.alice, clock)
        )
        assert weak.status == 422
        assert "at least 15 characters" in weak.words
        before = alice.client.cookies[COOKIE]
        answer = await alice.submit(weak, "/account/password", password=NEW)
        assert (answer.status, answer.location) == (303, "/account")
        assert alice.client.cookies[COOKIE] != before
        assert (await alice.get("/account")).status == 200
        assert (await other.get("/account")).location == "/sign-in?ended=1&next=%2Faccount"
        assert "user.password_changed" in await actions(rt)
        clock.forward(minutes=1)
        async with Browser(app) as again:
            code = totp.code_at(cast.alice.totp_secret, clock())
            assert (await sign_in(again, cast.alice, NEW, code)).status == 303
            assert (await again.get("/account")).status == 200


async def test_a_wrong_confirmation_changes_nothing(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as alice:
        clock.forward(minutes=6)
        page = await alice.get("/account/password")
        answer = await alice.submit(
            page,
            "/account/password",
            password=NEW,
            confirm_password="not it",
            confirm_code="123456",
        )
        assert answer.status == 422
        assert "does not count" in answer.words
        assert (await alice.get("/account")).status == 200


async def test_another_authenticator_replaces_the_present_one(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as alice:
        clock.forward(minutes=6)
        answer = await alice.get("/account/authenticator")
        assert answer.location == "/account/confirm?next=%2Faccount%2Fauthenticator"
        page = await alice.get(answer.location)
        answer = await alice.submit(page, "/account/confirm", **confirmation(cast.alice, clock))
        assert answer.location == "/account/authenticator"
        page = await alice.get("/account/authenticator")
        found = re.search(r'data-copy="([A-Z2-7]{32})"', page.text)
        assert found is not None
        secret = found[1]
        assert (await alice.submit(page, "/account/authenticator", code="000000")).status == 422
        done = await alice.submit(
            page, "/account/authenticator", code=totp.code_at(secret, clock())
        )
        assert done.status == 200
        codes = re.findall(r"<li>([0-9a-z-]{20,})</li>", done.text)
        assert len(codes) == 10
        assert (await alice.get("/account")).status == 200
        clock.forward(minutes=1)
        async with Browser(app) as again:
            old = totp.code_at(cast.alice.totp_secret, clock())
            assert (await sign_in(again, cast.alice, PASSWORD, old)).status == 422
            new = totp.code_at(secret, clock())
            assert (await sign_in(again, cast.alice, PASSWORD, new)).status == 303


async def test_new_recovery_codes_end_the_old_ones(app: Litestar, cast: Cast, clock: Clock) -> None:
    async with Browser(app, cast.alice) as alice:
        page = await alice.get("/account/recovery-codes")
        done = await alice.submit(page, "/account/recovery-codes")
        codes = re.findall(r"<li>([0-9a-z-]{20,})</li>", done.text)
        assert len(codes) == 10
        download = re.search(r'href="data:text/plain;charset=utf-8,([^"]*)"', done.text)
        assert download is not None
        assert codes[9] in unescape(download[1])
    async with Browser(app) as again:
        old = cast.alice.recovery_codes[0]
        assert (await sign_in(again, cast.alice, PASSWORD, old)).status == 422
        assert (await sign_in(again, cast.alice, PASSWORD, codes[0])).status == 303
        assert "9 of 10 recovery codes" in (await again.get("/account")).words


async def test_sessions_are_listed_and_ended(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as first, Browser(app) as second:
        code = totp.code_at(cast.alice.totp_secret, clock())
        await sign_in(second, cast.alice, PASSWORD, code)
        page = await second.get("/account")
        assert page.words.count("This one") == 1
        assert (await second.submit(page, "/account/sessions/end")).status == 303
        assert (await first.get("/account")).status == 303
        assert "End it" not in (await second.get("/account")).words
        assert "session.ended" in await actions(rt)
    async with Browser(app, cast.bob) as bob:
        answer = await bob.post(
            "/account/sessions/end", {"session": cast.charlie.opened.session_id}
        )
        assert answer.status == 303
    async with Browser(app, cast.charlie) as charlie:
        assert (await charlie.get("/account")).status == 200


async def test_ending_the_others_keeps_this_one(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as first, Browser(app) as second:
        code = totp.code_at(cast.alice.totp_secret, clock())
        await sign_in(second, cast.alice, PASSWORD, code)
        page = await second.get("/account")
        assert (await second.submit(page, "end-others")).status == 303
        assert (await first.get("/account")).status == 303
        assert (await second.get("/account")).status == 200
        assert "session.others_ended" in await actions(rt)


async def test_the_theme_is_kept_and_leads_back(app: Litestar, cast: Cast) -> None:
    async with Browser(app, cast.alice) as alice:
        page = await alice.get("/account")
        answer = await alice.submit(page, "/account/theme", theme="dark")
        assert answer.location == "/account"
        assert 'data-bs-theme="dark"' in (await alice.get("/account")).text
        answer = await alice.submit(page, "/account/theme", theme="light", next="//evil.example/")
        assert answer.location == "/account"
