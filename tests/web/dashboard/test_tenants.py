"""Another shop's owner, and the shop's own other mode: 404 for everything, over every route."""

import pytest
from litestar import Litestar

from app.accounts import roles
from app.runtime import Runtime
from tests.support.browser import Browser
from tests.support.cast import Cast
from tests.web.dashboard.belongings import SHOP, Belongings, changed, fields, furnish, routes, rows
from tests.web.dashboard.money import Shop

SECRETS = ("Mrs Private", "mallory@", "127.0.0.1:9", "PAID")
# Of a shop as a whole, for both modes.
BOTH_MODES = {"user_id", "block_id"}


@pytest.fixture
async def things(shop: Shop) -> Belongings:
    return await furnish(shop)


def names_an_object(path: str) -> bool:
    return "{" in path.removeprefix(SHOP)


async def test_charlie_gets_404_for_everything_of_alices(
    app: Litestar, rt: Runtime, cast: Cast, things: Belongings
) -> None:
    """S21: her real ids, in her shop's address and in his own, in both modes, by every route."""
    before, asked = await rows(rt), set()
    async with Browser(app, cast.charlie) as charlie:
        for method, path, _ in routes(app):
            places = [(cast.shop.id, "test"), (cast.shop.id, "live")]
            if names_an_object(path):
                places += [(cast.other_shop.id, "test"), (cast.other_shop.id, "live")]
            for merchant_id, mode in places:
                at = things.path(path, merchant_id, mode)
                if method == "GET":
                    page = await charlie.get(at)
                else:
                    page = await charlie.post(at, await fields(rt, path, things))
                assert page.status == 404, f"{method} {at}: {page.status} {page.words[:300]}"
                assert not [one for one in SECRETS if one in page.text], f"{method} {at}"
                asked.add(path)
    assert len(asked) > 35
    assert changed(before, await rows(rt)) == []


async def test_live_mode_finds_nothing_of_test_mode(
    app: Litestar, rt: Runtime, cast: Cast, things: Belongings
) -> None:
    """S21: mode is part of the tenant."""
    before = await rows(rt)
    async with Browser(app, cast.alice) as alice:
        for method, path, _ in routes(app):
            if not names_an_object(path) or any(f"{{{one}}}" in path for one in BOTH_MODES):
                continue
            at = things.path(path, cast.shop.id, "live")
            if method == "GET":
                page = await alice.get(at)
            else:
                page = await alice.post(at, await fields(rt, path, things))
            assert page.status == 404, f"{method} {at}: {page.status} {page.words[:300]}"
    assert changed(before, await rows(rt)) == []


@pytest.mark.parametrize("name", ["bob", "vera"])
async def test_each_role_does_to_what_is_there_what_it_may_and_nothing_else(
    app: Litestar, rt: Runtime, cast: Cast, things: Belongings, name: str
) -> None:
    """S20: the matrix over objects that exist; what the role may not do changes nothing."""
    role = {"bob": "operator", "vera": "viewer"}[name]
    refused = done = 0
    # What is refused comes first, so that one comparison holds for all of it.
    async with Browser(app, getattr(cast, name)) as browser:
        before = await rows(rt)
        for may in (False, True):
            for method, path, handler in routes(app):
                if (handler.opt["permission"] in roles.PERMISSIONS[role]) is not may:
                    continue
                at = things.path(path, cast.shop.id, "test")
                if method == "GET":
                    page = await browser.get(at)
                else:
                    page = await browser.post(at, await fields(rt, path, things))
                told = f"{role}: {method} {path}: {page.status} {page.words[:200]}"
                assert (page.status < 400) if may else (page.status == 403), told
                done, refused = done + may, refused + (not may)
            if not may:
                assert changed(before, await rows(rt)) == []
    assert refused > 10
    assert done > 10


async def test_alice_finds_each_of_her_objects_at_these_addresses(
    app: Litestar, cast: Cast, things: Belongings
) -> None:
    """The sweeps above would pass with ids of nothing."""
    seen = set()
    async with Browser(app, cast.alice) as alice:
        for method, path, _ in routes(app):
            if method != "GET":
                continue
            page = await alice.get(things.path(path, cast.shop.id, "test"))
            assert page.status == 200, f"{path}: {page.status} {page.words[:300]}"
            seen |= {one for one in SECRETS if one in page.text}
    assert seen == set(SECRETS) - {"mallory@"}, "an address on the blocklist is kept as a hash"
