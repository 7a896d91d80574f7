"""Signing in through the pages, as a browser without script does."""

import asyncio
import random
import re
from urllib.parse import quote

import msgspec
import pytest
from litestar import Litestar
from sqlalchemy import select

from app.accounts import operations as people
from app.accounts import queries, totp
from app.accounts.identity import FULL
from app.accounts.members import operations as members
from app.accounts.models import Session
from app.accounts.sessions import operations as sessions
from app.audit.operations import SYSTEM
from app.runtime import Runtime
from tests.support.browser import COOKIE, Browser, Page
from tests.support.cast import PASSWORD, Cast, Person
from tests.support.runtime import Clock

NEW = "amber kettle drifting harbour"


async def password_step(
    browser: Browser, person: Person, onward: str = "", password: str = PASSWORD
) -> Page:
    page = await browser.get("/sign-in" + (f"?next={quote(onward)}" if onward else ""))
    assert page.status == 200
    return await browser.submit(page, "/sign-in", email=person.email, password=password)


async def code_step(browser: Browser, person: Person, clock: Clock) -> Page:
    page = await browser.get("/sign-in/code")
    code = totp.code_at(person.totp_secret, clock())
    return await browser.submit(page, "/sign-in/code", code=code)


async def test_password_and_code_lead_to_the_shop(app: Litestar, cast: Cast, clock: Clock) -> None:
    async with Browser(app) as browser:
        answer = await password_step(browser, cast.alice)
        assert (answer.status, answer.location) == (303, "/sign-in/code")
        half = browser.client.cookies[COOKIE]
        answer = await code_step(browser, cast.alice, clock)
        assert (answer.status, answer.location) == (303, f"/m/{cast.shop.id}/test/overview")
        assert browser.client.cookies[COOKIE] != half
        cookie = answer.response.headers["set-cookie"]
        for part in ("__Host-session=", "HttpOnly", "Secure", "SameSite=lax", "Path=/"):
            assert part in cookie
        assert "Domain" not in cookie
        shops = await browser.get("/shops")
        assert "Alice's demo shop" in shops.words
        assert (await browser.get("/")).location == f"/m/{cast.shop.id}/test/overview"
        assert (await browser.get("/sign-in")).status == 303


async def test_sign_in_goes_on_to_where_the_person_was(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    wanted = f"/m/{cast.shop.id}/test/payments?q=a"
    async with Browser(app) as browser:
        answer = await password_step(browser, cast.alice, wanted)
        page = await browser.get(answer.location)
        code = totp.code_at(cast.alice.totp_secret, clock())
        assert (await browser.submit(page, "/sign-in/code", code=code)).location == wanted
    async with Browser(app) as browser:
        answer = await password_step(browser, cast.bob, "https://evil.example/")
        assert answer.location == "/sign-in/code"


async def test_every_failure_reads_the_same_and_keeps_the_address(
    app: Litestar, cast: Cast
) -> None:
    seen = set()
    async with Browser(app) as browser:
        for email, password in (
            (cast.alice.email, "wrong"),
            ("nobody@example.com", "wrong"),
            ("not an address", ""),
        ):
            page = await browser.get("/sign-in")
            answer = await browser.submit(page, "/sign-in", email=email, password=password)
            assert answer.status == 422
            assert answer.form("/sign-in").value("email") == email
            assert COOKIE not in browser.client.cookies
            seen.add(re.sub(r'value="[^"]*"', "", answer.text))
    assert len(seen) == 1
    assert 'role="alert"' in seen.pop()


async def test_an_id_that_we_did_not_give_out_is_never_adopted(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    async with Browser(app) as browser:
        fixed = "a" * 52
        browser.client.cookies.set(COOKIE, fixed, domain="localhost.local", path="/")
        await password_step(browser, cast.alice)
        await code_step(browser, cast.alice, clock)
        assert browser.client.cookies[COOKIE] != fixed


async def test_a_wrong_code_a_used_one_and_a_recovery_code(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    async with Browser(app) as first, Browser(app) as second:
        await password_step(first, cast.alice)
        await password_step(second, cast.alice)
        page = await first.get("/sign-in/code")
        wrong = await first.submit(page, "/sign-in/code", code="000000")
        assert wrong.status == 422
        assert "does not count" in wrong.words
        assert (await code_step(first, cast.alice, clock)).status == 303
        assert (await code_step(second, cast.alice, clock)).status == 422
        page = await second.get("/sign-in/code?kind=recovery")
        wrong = await second.submit(page, "/sign-in/code", code="0000-0000-0000")
        assert wrong.status == 422
        assert "Use a recovery code" in wrong.words
        code = cast.alice.recovery_codes[0].upper()
        assert (await second.submit(wrong, "/sign-in/code", code=code)).status == 303
        assert (await second.get("/account")).status == 200


async def test_too_many_tries_are_told_without_a_cause(app: Litestar, cast: Cast) -> None:
    async with Browser(app) as browser:
        page = await browser.get("/sign-in")
        statuses = [
            (await browser.submit(page, "/sign-in", email=f"{n}@example.com", password="x")).status
            for n in range(32)
        ]
    assert statuses[:30] == [422] * 30
    assert statuses[-1] == 429


async def test_signing_out_ends_the_session_and_clears_the_browser(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    async with Browser(app, cast.alice) as alice:
        page = await alice.get("/account")
        answer = await alice.submit(page, "/sign-out")
        assert (answer.status, answer.location) == (303, "/sign-in")
        assert answer.response.headers["clear-site-data"] == '"cookies", "storage"'
    async with Browser(app, cast.alice) as thief:
        assert (await thief.get("/account")).status == 303
    async with rt.sessions.read() as session:
        ended = await session.scalar(
            select(Session.ended_at).where(Session.id == cast.alice.opened.session_id)
        )
        assert ended is not None


async def test_requests_in_flight_do_not_revive_a_session_that_signed_out(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    """S12, trap 0.10: a hundred interleavings of pages, polling and signing out, over HTTP."""
    chance, met = random.Random(10), {200: 0, 303: 0}
    for _ in range(100):
        async with rt.sessions.begin() as session:
            opened = await sessions.open_session(
                session,
                ids=rt.ids,
                now=clock(),
                user_id=cast.vera.id,
                stage=FULL,
                address=None,
                agent=None,
            )
        clock.forward(minutes=5)  # Each page writes when the session was last seen.
        vera = msgspec.structs.replace(cast.vera, opened=opened)
        async with Browser(app, vera) as one, Browser(app, vera) as other:

            async def page(browser: Browser) -> int:
                await asyncio.sleep(chance.random() / 20)
                return (await browser.get("/account")).status

            async def leave(browser: Browser) -> int:
                await asyncio.sleep(chance.random() / 40)
                return (await browser.post("/sign-out")).status

            *seen, left = await asyncio.gather(page(one), page(one), page(one), leave(other))
            assert left == 303
            for status in seen:
                met[status] += 1
            one.client.cookies.set(COOKIE, opened.token, domain="localhost.local", path="/")
            assert (await one.get("/account")).status == 303
    assert min(met.values()) > 0, "both orders were met"


async def invited(rt: Runtime, cast: Cast, email: str) -> str:
    async with rt.sessions.begin() as session:
        made = await members.invite(
            session,
            ids=rt.ids,
            now=rt.clock(),
            sealer=rt.sealer,
            actor=SYSTEM,
            public_url=rt.settings.public_url,
            merchant_id=cast.shop.id,
            shop_name=cast.shop.name,
            email=email,
            role="viewer",
        )
    assert made.token is not None
    return f"/link/enrol/{made.token}"


async def test_an_invitation_leads_to_password_second_step_and_codes(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    path = await invited(rt, cast, "new@example.com")
    async with Browser(app) as browser:
        page = await browser.get(path)
        assert (await browser.get(path)).status == 200
        weak = await browser.submit(page, path, password="counterfoil2026")
        assert weak.status == 422
        answer = await browser.submit(page, path, password=NEW)
        assert (answer.status, answer.location) == (303, "/sign-in/set-up")
        assert (await browser.get("/account")).location == "/sign-in/set-up"
        page = await browser.get("/sign-in/set-up")
        found = re.search(r'data-copy="([A-Z2-7]{32})"', page.text)
        assert found is not None
        assert found[1] in (await browser.get("/sign-in/set-up")).text
        assert (await browser.submit(page, "/sign-in/set-up", code="000000")).status == 422
        code = totp.code_at(found[1], clock())
        done = await browser.submit(page, "/sign-in/set-up", code=code)
        assert done.status == 200
        assert len(re.findall(r"<li>[0-9a-z-]{20,}</li>", done.text)) == 10
        assert (await browser.get("/")).location == f"/m/{cast.shop.id}/test/overview"
        assert (await browser.get("/sign-in/set-up")).location == "/"
        used = await browser.get(path)
        assert used.status == 404
        assert "has been used or is too old" in used.words


async def test_a_forgotten_password_is_replaced_and_the_code_still_asked_for(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    async with Browser(app, cast.alice) as signed_in, Browser(app) as browser:
        known = await browser.submit(
            await browser.get("/forgotten"), "/forgotten", email=cast.alice.email
        )
        unknown = await browser.submit(
            await browser.get("/forgotten"), "/forgotten", email="alicf@example.com"
        )
        assert known.status == unknown.status == 200
        assert known.text.replace("alice@", "alicf@") == unknown.text
        async with rt.sessions.begin() as session:
            token = await people.make_link(
                session, ids=rt.ids, now=rt.clock(), user_id=cast.alice.id, purpose="reset"
            )
        page = await browser.get(f"/link/reset/{token}")
        answer = await browser.submit(page, "/link/reset", password=NEW)
        assert (answer.status, answer.location) == (303, "/sign-in/code")
        assert (await signed_in.get("/account")).status == 303
        assert (await code_step(browser, cast.alice, clock)).status == 303
        again = await browser.submit(page, "/link/reset", password=NEW)
        assert again.status == 404


async def test_an_unlock_link_works_once(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with rt.sessions.begin() as session:
        token = await people.make_link(
            session, ids=rt.ids, now=rt.clock(), user_id=cast.alice.id, purpose="unlock"
        )
    async with Browser(app) as browser:
        page = await browser.get(f"/link/unlock/{token}")
        assert (await browser.submit(page, "/link/unlock")).location == "/sign-in"
        assert (await browser.submit(page, "/link/unlock")).status == 404


@pytest.mark.parametrize("path", ["/link/enrol/x", "/link/reset/" + "a" * 52, "/link/sudo/x"])
async def test_a_link_that_is_none_tells_so(app: Litestar, cast: Cast, path: str) -> None:
    async with Browser(app) as browser:
        assert (await browser.get(path)).status == 404
        page = await browser.get("/sign-in")
        token = page.form("/sign-in").value("csrf_token") or ""
        assert (await browser.post(path, {"password": NEW}, token=token)).status == 404


async def test_a_form_of_another_visit_is_refused(app: Litestar, cast: Cast) -> None:
    async with Browser(app) as victim, Browser(app) as attacker:
        await victim.get("/sign-in")
        page = await attacker.get("/sign-in")
        answer = await victim.submit(page, "/sign-in", email=cast.charlie.email, password=PASSWORD)
        assert answer.status == 403
        assert COOKIE not in victim.client.cookies


async def test_people_land_where_they_belong(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with Browser(app, cast.ada) as ada:
        assert (await ada.get("/")).location == "/admin/health"
        assert "You belong to no shop" in (await ada.get("/shops")).words
    async with rt.sessions.begin() as session:
        await members.add(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            merchant_id=cast.other_shop.id,
            user=await queries.user(session, user_id=cast.bob.id),
            role="viewer",
        )
    async with Browser(app, cast.bob) as bob:
        assert (await bob.get("/")).location == "/shops"
        words = (await bob.get("/shops")).words
        assert "Charlie's demo shop" in words
        assert "You are operator" in words
