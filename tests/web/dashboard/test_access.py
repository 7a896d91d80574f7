"""The gate of the dashboard, asked over every route that there is."""

import re
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from sqlalchemy import select

from app.accounts import roles
from app.accounts.identity import ENROL, PASSWORD
from app.accounts.models import Session
from app.accounts.sessions import operations as sessions
from app.runtime import Runtime
from tests.support.browser import BASE, COOKIE, Browser
from tests.support.cast import Cast, Person
from tests.support.runtime import Clock
from web.dashboard import access
from web.dashboard.access import KNOWN, PUBLIC, SIGNING_IN

PREFIXES = {
    "key_id": "key",
    "endpoint_id": "we",
    "delivery_id": "whd",
    "user_id": "usr",
    "row_id": "aud",
    "payment_id": "pay",
    "job_id": "job",
    "shop_id": "mer",
    "block_id": "blk",
    "approval_id": "apr",
    "review_id": "rev",
    "name": "eml",
}
SAFE = {"GET", "HEAD", "OPTIONS"}


def routes(app: Litestar) -> list[tuple[str, str, HTTPRouteHandler]]:
    """Return method, path and handler of every dashboard route."""
    found = [
        (str(method), route.path_format, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.opt.get("dashboard") and handler.opt.get("permission")
        for method in handler.http_methods
    ]
    assert len(found) > 40
    return found


def unnamed(app: Litestar) -> list[str]:
    return [
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS" and not handler.opt.get("permission")
    ]


def filled(rt: Runtime, path: str, shop: str, mode: str = "test") -> str:
    made = path.replace("{merchant_id}", shop).replace("{mode}", mode)
    made = made.replace("{purpose}", "reset").replace("{token}", "x" * 52)
    return re.sub(r"{(\w+)}", lambda found: rt.ids(PREFIXES[found[1]]), made)


async def ask(browser: Browser, method: str, path: str, **more: Any) -> int:
    if method == "GET":
        return (await browser.get(path)).status
    return (await browser.post(path, **more)).status


def test_every_route_of_the_application_names_its_permission(app: Litestar) -> None:
    assert unnamed(app) == []
    for method, path, handler in routes(app):
        assert handler.opt["permission"] in KNOWN, f"{method} {path}"
        if path.startswith("/m/"):
            assert handler.opt["permission"] in roles.PERMISSIONS["owner"], path
        if path.startswith("/admin"):
            assert handler.opt["permission"] in roles.ADMIN_PERMISSIONS, path


def test_a_page_without_a_permission_is_refused_when_it_is_made() -> None:
    @get("/free")
    async def free() -> None: ...

    with pytest.raises(ValueError, match="names no permission"):
        access.shop_pages(free)


async def test_nobody_gets_in_without_a_session(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with Browser(app) as nobody:
        for method, path, handler in routes(app):
            if handler.opt["permission"] == PUBLIC:
                continue
            for cookie in ("", "x" * 52):
                nobody.client.headers["Cookie"] = f"{COOKIE}={cookie}"
                at = filled(rt, path, cast.shop.id)
                page = await (nobody.get(at) if method == "GET" else nobody.post(at))
                assert page.status == 303, f"{method} {path}"
                assert page.location.startswith("/sign-in"), f"{method} {path}"


@pytest.mark.parametrize("stage", [PASSWORD, ENROL])
async def test_half_a_sign_in_opens_nothing(
    app: Litestar, rt: Runtime, cast: Cast, stage: str
) -> None:
    async with rt.sessions.begin() as session:
        opened = await sessions.open_session(
            session,
            ids=rt.ids,
            now=rt.clock(),
            user_id=cast.alice.id,
            stage=stage,
            address=None,
            agent=None,
        )
    half = Person(cast.alice.id, cast.alice.email, "", "", [], opened)
    step = "/sign-in/code" if stage == PASSWORD else "/sign-in/set-up"
    async with Browser(app, half) as browser:
        for method, path, handler in routes(app):
            if handler.opt["permission"] in {PUBLIC, SIGNING_IN}:
                continue
            at = filled(rt, path, cast.shop.id)
            page = await (browser.get(at) if method == "GET" else browser.post(at))
            assert (page.status, page.location) == (303, step), f"{method} {path}"


async def test_an_unsafe_request_needs_our_page_and_this_sessions_token(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    same = {"Sec-Fetch-Site": "same-origin"}
    wrong: list[tuple[str | None, dict[str, str] | None]] = [
        ("", None),
        (cast.bob.opened.csrf_token, None),
        ("é", None),
        (None, {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}),
        (None, {"Sec-Fetch-Site": "same-site", "Origin": "https://shop.localhost"}),
        (None, {"Sec-Fetch-Site": "none"}),
        (None, {"Origin": "https://localhost.evil.example"}),
        (None, {"Origin": "null"}),
        (None, {}),
        ("", same | {"X-CSRF-Token": cast.bob.opened.csrf_token}),
    ]
    async with Browser(app, cast.alice) as alice:
        for method, path, _ in routes(app):
            if method in SAFE:
                continue
            at = filled(rt, path, cast.shop.id)
            for token, headers in wrong:
                status = await ask(alice, method, at, token=token, headers=headers)
                assert status == 403, f"{method} {path} {token} {headers}"
        assert (await alice.get("/account")).status == 200


async def test_a_browser_that_sends_no_fetch_metadata_is_known_by_its_origin(
    app: Litestar, cast: Cast
) -> None:
    async with Browser(app, cast.alice) as alice:
        answer = await alice.post("/account/theme", {"theme": "dark"}, headers={"Origin": BASE})
        assert answer.status == 303


@pytest.mark.parametrize("name", ["alice", "bob", "vera"])
async def test_each_role_does_what_it_may_and_nothing_else(
    app: Litestar, rt: Runtime, cast: Cast, name: str
) -> None:
    person: Person = getattr(cast, name)
    role = {"alice": "owner", "bob": "operator", "vera": "viewer"}[name]
    async with Browser(app, person) as browser:
        for method, path, handler in routes(app):
            if path.startswith("/admin"):
                at = filled(rt, path, cast.shop.id)
                assert await ask(browser, method, at) == 403, f"{method} {path}"
            if not path.startswith("/m/"):
                continue
            status = await ask(browser, method, filled(rt, path, cast.shop.id))
            if handler.opt["permission"] in roles.PERMISSIONS[role]:
                assert status not in {401, 403, 500}, f"{role}: {method} {path}"
            else:
                assert status == 403, f"{role}: {method} {path}"
            foreign = filled(rt, path, cast.other_shop.id)
            assert await ask(browser, method, foreign) == 404, f"{role}: {method} {path}"
            nowhere = filled(rt, path, rt.ids("mer"))
            assert await ask(browser, method, nowhere) == 404, f"{role}: {method} {path}"
            strange = filled(rt, path, cast.shop.id, mode="prod")
            assert await ask(browser, method, strange) == 404, f"{role}: {method} {path}"


async def test_an_admin_is_no_member_of_any_shop(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with Browser(app, cast.ada) as ada:
        for method, path, _ in routes(app):
            if path.startswith("/m/"):
                assert await ask(ada, method, filled(rt, path, cast.shop.id)) == 404, path


async def test_a_foreign_shop_reads_like_none(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with Browser(app, cast.charlie) as charlie:
        foreign = await charlie.get(f"/m/{cast.shop.id}/test/settings")
        nowhere = await charlie.get(f"/m/{rt.ids('mer')}/test/settings")
        assert foreign.words.split("Request")[0] == nowhere.words.split("Request")[0]


async def last_seen(rt: Runtime, person: Person) -> Any:
    async with rt.sessions.read() as session:
        return await session.scalar(
            select(Session.last_seen_at).where(Session.id == person.opened.session_id)
        )


async def test_polling_checks_the_session_and_does_not_keep_it_alive(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    path = f"/m/{cast.shop.id}/test/settings"
    async with Browser(app, cast.alice) as alice:
        first = await last_seen(rt, cast.alice)
        clock.forward(minutes=10)
        assert (await alice.get(path, background=True)).status == 200
        assert await last_seen(rt, cast.alice) == first
        clock.forward(minutes=6)
        ended = await alice.get(path, background=True)
        assert ended.status == 401
        assert ended.response.headers["HX-Redirect"] == "/sign-in?ended=1"
    async with Browser(app, cast.bob) as bob:
        assert (await bob.get(path)).status == 303


async def test_a_person_who_does_something_keeps_the_session(
    app: Litestar, rt: Runtime, cast: Cast, clock: Clock
) -> None:
    path = f"/m/{cast.shop.id}/test/settings"
    async with Browser(app, cast.alice) as alice:
        for _ in range(3):
            clock.forward(minutes=14)
            assert (await alice.get(path)).status == 200
        clock.forward(hours=12)
        answer = await alice.get(f"{path}?a=1")
        there = f"%2Fm%2F{cast.shop.id}%2Ftest%2Fsettings%3Fa%3D1"
        assert answer.location == f"/sign-in?ended=1&next={there}"


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/",
        "/\\evil.example/",
        "https://evil.example/",
        "javascript:alert(1)",
        "/a\nb",
        "/a b",
        "/\t/evil.example",
        "/é",
        "",
        "/sign-out",
        "/" + "a" * 2000,
    ],
)
def test_only_an_address_of_ours_is_gone_on_to(path: str) -> None:
    assert access.safe_next(path) == ""


def test_an_address_of_ours_is_kept_with_its_query() -> None:
    assert access.safe_next("/m/x/test/payments?q=a%20b") == "/m/x/test/payments?q=a%20b"


async def test_a_form_that_is_strange_is_refused(app: Litestar, cast: Cast) -> None:
    """F57."""
    async with Browser(app, cast.alice) as alice:
        path = f"/m/{cast.shop.id}/test/settings"
        token = ("csrf_token", alice.csrf)
        for pairs in (
            [token, ("owner", "1")],
            [token, ("name", "a"), ("name", "b")],
            [token, ("name", "a\0b")],
            [token, ("name", "4242 4242 4242 4242")],
            [token, *((f"f{index}", "") for index in range(300))],
        ):
            answer = await alice.post(path, pairs)
            assert answer.status in {400, 403}, pairs[:2]
        json = await alice.client.post(
            path,
            content=b"{}",
            headers={
                "Content-Type": "application/json",
                "Sec-Fetch-Site": "same-origin",
                "X-CSRF-Token": alice.csrf,
            },
        )
        assert json.status_code == 415
        kept = await alice.get(path)
        assert kept.form("/settings", method="post").value("name") == cast.shop.name


async def test_errors_stand_in_the_frame_and_tell_no_more_than_they_must(
    app: Litestar, cast: Cast
) -> None:
    async with Browser(app, cast.vera) as vera:
        page = await vera.get(f"/m/{cast.shop.id}/test/keys")
        assert page.status == 403
        assert cast.shop.name in page.words
        assert "Your role does not allow this" in page.words
        for answer in (page, await vera.get("/account"), await vera.get("/sign-in")):
            policy = answer.response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.response.headers["cache-control"] == "no-store"
            assert answer.response.headers["x-content-type-options"] == "nosniff"
