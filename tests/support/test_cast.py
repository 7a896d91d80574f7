"""The cast can do what its roles say, and nothing at the neighbour's."""

import pytest

from app.errors import NotFound
from app.merchants import queries as merchants
from app.runtime import Runtime
from tests.support.cast import Cast, identity_of


async def test_everybody_is_signed_in_with_a_role(rt: Runtime, cast: Cast) -> None:
    expected = {
        "alice": {cast.shop.id: "owner"},
        "bob": {cast.shop.id: "operator"},
        "vera": {cast.shop.id: "viewer"},
        "charlie": {cast.other_shop.id: "owner"},
        "ada": {},
    }
    for name, memberships in expected.items():
        identity = await identity_of(rt, getattr(cast, name))
        assert identity.memberships == memberships
        assert identity.is_admin == (name == "ada")


async def test_charlie_finds_no_shop_of_alices(rt: Runtime, cast: Cast) -> None:
    charlie = await identity_of(rt, cast.charlie)
    charlie.require("payments:refund", cast.other_shop.id)
    with pytest.raises(NotFound):
        charlie.require("payments:read", cast.shop.id)


async def test_each_key_belongs_to_its_shop(rt: Runtime, cast: Cast) -> None:
    async with rt.sessions.read() as session:
        for shop in (cast.shop, cast.other_shop):
            identity = await merchants.authenticate(session, secret=shop.secret, now=rt.clock())
            assert (identity.merchant_id, identity.livemode) == (shop.id, False)
