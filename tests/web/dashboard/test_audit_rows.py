"""I17: each press of a button and each unsafe call of the API leaves one row of the audit log."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import func, select, update

from app.accounts import operations as people
from app.accounts import totp
from app.accounts.identity import FULL
from app.accounts.sessions import operations as sessions
from app.audit.models import AuditRow
from app.audit.operations import SYSTEM
from app.runtime import Runtime
from app.webhooks.models import Delivery
from tests.deadletters.letters import looked
from tests.support.browser import Browser, Page
from tests.support.cast import Cast
from tests.support.runtime import Clock
from tests.web.api.shop import Api
from tests.web.dashboard.belongings import Pressed, call_all, furnish, press_all
from tests.web.dashboard.money import Shop

SAFE = {"GET", "HEAD", "OPTIONS"}
# Nothing of anybody's changes: these bring a look at the PSP forward that would come anyway, keep
# a cookie, prove who is there, or are asked by nobody that we know. What follows is noted.
NO_ACTION = {
    "/m/{merchant_id}/{mode}/payments/{payment_id}/ask",
    "/admin/dead-letters/{job_id}/look",
    "/admin/reviews/{review_id}/look",
    "/account/theme",
    "/account/confirm",
    "/forgotten",
    "/sign-in",
    "/psp/{connection_id}/events",
    "/policy-reports",
}
# Played where the whole story with two people is told: the row, and where a test reads it.
ELSEWHERE = {
    "/admin/approvals/{approval_id}/agree": ("dead_letter.approve", "deadletters/test_evidence.py"),
    "/admin/approvals/{approval_id}/refuse": ("dead_letter.refuse", "deadletters/test_evidence.py"),
    "/admin/reviews/{review_id}/decide": ("review.decide", "desk/test_desk.py"),
    "/admin/reviews/{review_id}/agree": ("review.agree", "desk/test_desk.py"),
    "/admin/reviews/{review_id}/refuse": ("review.refuse", "desk/test_desk.py"),
}

# One for each message that waits; and one for the account next to that for the membership.
SEVERAL = {
    "/m/{merchant_id}/{mode}/webhooks/{endpoint_id}/send",
    "/m/{merchant_id}/{mode}/settings/members",
    "/admin/merchants/{shop_id}/members",
}
TESTS = Path(__file__).parents[2]


def unsafe(app: Litestar) -> set[str]:
    return {
        route.path_format
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if set(handler.http_methods) - SAFE
    }


async def count(rt: Runtime) -> int:
    async with rt.sessions.read() as session:
        return await session.scalar(select(func.count()).select_from(AuditRow)) or 0


class Counted:
    """Counts the rows that each request leaves."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.left: dict[str, int] = {}

    async def over(self, run: AsyncIterator[Pressed]) -> None:
        before = await count(self.rt)
        async for one in run:
            after = await count(self.rt)
            assert one.status < 400, one
            if one.route == "made":
                before = after
                continue
            assert one.method != "GET" or after == before, one.route
            if one.method != "GET":
                self.left[f"{one.method} {one.route}"] = after - before
            before = after


def secret_of(page: Page) -> str:
    found = re.search(r'data-copy="([A-Z2-7]{32})"', page.text)
    assert found is not None
    return found[1]


async def as_a_newcomer(app: Litestar, rt: Runtime, clock: Clock) -> AsyncIterator[Pressed]:
    """Everything that one does to one's own account, from the first link on."""
    async with rt.sessions.begin() as session:
        user = await people.create_user(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            email="new@example.com",
            is_admin=True,
        )
        who: dict[str, Any] = {"ids": rt.ids, "now": rt.clock(), "user_id": user.id}
        token = await people.make_link(session, **who, purpose="enrol")
    link, password = f"/link/enrol/{token}", "plum velvet orbit canyon 2"

    def seen(route: str, page: Page) -> Pressed:
        return Pressed(route, "POST", page.status, page.words)

    yield Pressed("made", "POST", 201, "")
    async with Browser(app) as one, Browser(app) as other:
        page = await one.submit(await one.get(link), link, password=password)
        yield seen("/link/{purpose}/{token}", page)
        page = await one.get("/sign-in/set-up")
        code = totp.code_at(secret_of(page), clock())
        yield seen("/sign-in/set-up", await one.submit(page, "/sign-in/set-up", code=code))
        page = await one.get("/account/authenticator")
        secret = secret_of(page)
        code = totp.code_at(secret, clock())
        page = await one.submit(page, "/account/authenticator", code=code)
        yield seen("/account/authenticator", page)
        page = await one.get("/account/password")
        page = await one.submit(page, "/account/password", password=password + "3")
        yield seen("/account/password", page)
        clock.forward(minutes=1)
        page = await other.submit(
            await other.get("/sign-in"), "/sign-in", email=user.email, password=password + "3"
        )
        yield seen("/sign-in", page)
        code = totp.code_at(secret, clock())
        page = await other.get("/sign-in/code")
        yield seen("/sign-in/code", await other.submit(page, "/sign-in/code", code=code))
        page = await one.get("/account")
        yield seen("/account/sessions/end", await one.submit(page, "/account/sessions/end"))
        async with rt.sessions.begin() as session:
            await sessions.open_session(
                session, **who, stage=FULL, address=None, agent=None, created_at=clock()
            )
        for path in ("/account/sessions/end-others", "/account/recovery-codes", "/sign-out"):
            page = await one.get("/account/recovery-codes" if "codes" in path else "/account")
            yield seen(path, await one.submit(page, path))


async def as_an_admin(
    browser: Browser, rt: Runtime, cast: Cast, letters: list[str]
) -> AsyncIterator[Pressed]:
    """What an admin decides about shops and dead letters."""
    shop = {"currency": "eur", "percent": "1", "fixed": "0.10", "days": "2"}
    invited = {"email": "one@shop.example", "role": "owner"}
    why = "The shop asked us to stop."
    base, group = "/admin/dead-letters", {"letter": letters[2], "why": why}
    for path, at, sent in (
        ("/admin/merchants", "", {"name": "Third shop", **shop}),
        ("/admin/merchants/{shop_id}/members", f"/admin/merchants/{cast.shop.id}/members", invited),
        (f"{base}/{{job_id}}/retry", f"{base}/{letters[0]}/retry", {}),
        (f"{base}/{{job_id}}/discard", f"{base}/{letters[1]}/discard", {"reason": why}),
        (f"{base}/retry", "", group),
        (f"{base}/discard", "", {"letter": letters[3], "why": why}),
    ):
        page = await browser.post(at or path, {**sent, "form_key": rt.ids.token(16)})
        yield Pressed(path, "POST", page.status, page.words)


async def dead(shop: Shop) -> list[str]:
    """Four charges that the PSP refused, whose jobs stopped."""
    for _ in range(4):
        shop.psp.script.append("rejected")
        await shop.story.charge()
    found = [job.id for job in await shop.story.dead()]
    for job_id in found:
        assert await looked(shop.story.rt, job_id) == "not_found"
    return found


async def test_each_action_leaves_one_row(
    app: Litestar, rt: Runtime, cast: Cast, shop: Shop, api: Api, clock: Clock
) -> None:
    things, others = await furnish(shop), await furnish(shop, "2")
    letters = await dead(shop)
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Delivery)
            .where(Delivery.id.in_([things.ids["delivery_id"]]))
            .values(state="retrying")
        )
    counted = Counted(rt)
    await counted.over(press_all(app, rt, things, cast.alice))
    await counted.over(call_all(api, others))
    async with Browser(app, cast.ada) as ada:
        await counted.over(as_an_admin(ada, rt, cast, letters))
    await counted.over(as_a_newcomer(app, rt, clock))
    missing = unsafe(app) - {name.split()[1] for name in counted.left}
    assert missing - NO_ACTION == set(ELSEWHERE), "play the new route here"
    for name, left in counted.left.items():
        route = name.split()[1]
        if route in NO_ACTION:
            assert left == 0, name
        elif route in SEVERAL:
            assert left > 1, name
        else:
            assert left == 1, name
    for action, file in ELSEWHERE.values():
        assert f'"{action}' in (TESTS / file).read_text(), action
