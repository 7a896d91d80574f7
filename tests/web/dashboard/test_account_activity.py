"""A person's own list of what happened to their account: all of it, and nobody else's."""

import ast
import re
from typing import Any

import pytest
from litestar import Litestar

from app.__main__ import ROOT
from app.accounts import totp
from app.audit import operations as audit
from app.audit.operations import Actor
from app.runtime import Runtime
from tests.support.audit import record
from tests.support.browser import Browser, Page
from tests.support.cast import PASSWORD, Cast
from tests.support.runtime import Clock
from web.dashboard.account_activity import WORDS
from web.dashboard.audit import ROWS

HOSTILE = "<img src=x onerror=alert(1)>"
_ACTION = re.compile(r"(user|session|member)\.[a-z_]+")


def happened(page: Page) -> str:
    """Return the words of the list alone."""
    return page.words.partition("What By From When")[2]


async def test_ones_own_sign_ins_and_refusals_are_told_newest_first(
    app: Litestar, cast: Cast, clock: Clock
) -> None:
    async with Browser(app) as alice:
        page = await alice.get("/sign-in")
        wrong = await alice.submit(page, "/sign-in", email=cast.alice.email, password="not this")
        await alice.submit(wrong, "/sign-in", email=cast.alice.email, password=PASSWORD)
        page = await alice.get("/sign-in/code")
        await alice.submit(page, "/sign-in/code", code="000000")
        code = totp.code_at(cast.alice.totp_secret, clock())
        await alice.submit(await alice.get("/sign-in/code"), "/sign-in/code", code=code)
        words = happened(await alice.get("/account"))
        order = ("Signed in You", "Right password, wrong code", "Sign-in refused")
        places = [words.index(one) for one in order]
        assert places == sorted(places)
        assert words.count("Not signed in") == 2
        assert words.count("127.0.0.1") == 3
        page = await alice.get("/account/recovery-codes")
        assert (await alice.submit(page, "/account/recovery-codes")).status == 200
        assert happened(await alice.get("/account")).startswith(" Recovery codes replaced You")


async def test_a_refused_confirmation_is_told(app: Litestar, cast: Cast, clock: Clock) -> None:
    async with Browser(app, cast.alice) as alice:
        clock.forward(minutes=6)
        for password, told in (
            ("not this", "Confirmation: wrong password"),
            (PASSWORD, "Right password, wrong code"),
        ):
            page = await alice.get("/account/confirm")
            sent: dict[str, Any] = {"confirm_password": password, "confirm_code": "000000"}
            assert (await alice.submit(page, "/account/confirm", **sent)).status == 422
            assert happened(await alice.get("/account")).strip().startswith(told)


async def test_nobody_elses_rows_are_told_nor_who_did_something(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    bob = Actor(kind="user", id=cast.bob.id, name=cast.bob.email, address="198.51.100.3")
    ada = Actor(kind="user", id=cast.ada.id, name=cast.ada.email, address="198.51.100.4")
    await record(rt, "user.password_changed", bob, object_id=cast.bob.id)
    await record(rt, "user.enabled", ada, object_id=cast.alice.id)
    alice_did = Actor(kind="user", id=cast.alice.id, name="")
    await record(rt, "user.factor_replaced", alice_did, object_id=cast.bob.id)
    for path in ("/account", "/account/activity", f"/account/activity?actor={cast.bob.id}"):
        async with Browser(app, cast.alice) as alice:
            words = happened(await alice.get(path))
            assert "Account opened again Somebody else who may" in words
            assert "Password changed" not in words
            assert "Authenticator app replaced" not in words
            for other in (cast.bob.email, cast.ada.email, "198.51.100"):
                assert other not in words
        async with Browser(app, cast.bob) as other_one:
            words = happened(await other_one.get(path))
            assert "Password changed You 198.51.100.3" in words
            assert "Account opened again" not in words


async def test_a_shop_is_named_to_its_members_only(app: Litestar, rt: Runtime, cast: Cast) -> None:
    async with rt.sessions.begin() as session:
        for shop in (cast.shop, cast.other_shop):
            await audit.record(
                session,
                ids=rt.ids,
                now=rt.clock(),
                actor=audit.SYSTEM,
                action="member.role_changed",
                object_id=cast.vera.id,
                merchant_id=shop.id,
                livemode=None,
                after={"role": "operator"},
            )
    async with Browser(app, cast.vera) as vera:
        words = happened(await vera.get("/account"))
        assert f"Role in a shop changed {cast.shop.name}, operator Counterfoil" in words
        assert "Role in a shop changed operator Counterfoil" in words
        assert cast.other_shop.name not in words


async def test_the_list_is_bounded_and_goes_back_to_the_beginning(
    app: Litestar, rt: Runtime, cast: Cast
) -> None:
    me = Actor(kind="user", id=cast.alice.id, name=HOSTILE, address=HOSTILE)
    async with Browser(app, cast.alice) as alice:
        assert "See all" not in (await alice.get("/account")).words
        for _ in range(ROWS):
            await record(rt, f"user.{HOSTILE}", me, object_id=cast.alice.id)
        page = await alice.get("/account")
        assert page.text.count("onerror") == 3 * 10
        assert "See all" in page.words
        page = await alice.get("/account/activity")
        assert HOSTILE not in page.text
        assert happened(page).count("You") == ROWS
        older = re.search(r'href="(/account/activity\?after=aud_\w+)"', page.text)
        assert older is not None
        page = await alice.get(older[1])
        assert "Account made" in happened(page)
        newer = re.search(r'href="(/account/activity\?before=aud_\w+)"', page.text)
        assert newer is not None
        assert happened(await alice.get(newer[1])).count("You") == ROWS


@pytest.mark.parametrize("cursor", ["after=nothing", "before=%00", "after=aud_'%20OR%201=1"])
async def test_a_senseless_cursor_counts_as_none(app: Litestar, cast: Cast, cursor: str) -> None:
    async with Browser(app, cast.alice) as alice:
        page = await alice.get(f"/account/activity?{cursor}")
        assert page.status in {200, 400}
        assert page.status == 400 or "Account made" in happened(page)


async def test_before_the_first_row_the_list_is_empty_and_says_so(
    app: Litestar, cast: Cast
) -> None:
    async with Browser(app, cast.alice) as alice:
        page = await alice.get(f"/account/activity?after=aud_{'0' * 34}")
        assert page.status == 200
        assert "Nothing has happened here" in page.words


def test_every_action_on_an_account_has_words() -> None:
    named = {
        node.value
        for folder in ("app", "web", "workers")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if _ACTION.fullmatch(node.value)
    }
    assert named == set(WORDS)
