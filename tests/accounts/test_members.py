"""Who belongs to a shop, and what each role may do there (S20)."""

import asyncio
from typing import Any

import pytest

from app.accounts import queries, roles
from app.accounts.identity import PermissionMissing, SessionEnded
from app.accounts.members import operations
from app.accounts.members.operations import AlreadyMember, LastOwner
from app.audit import queries as audit
from app.errors import Invalid, NotFound
from app.runtime import Runtime
from tests.accounts.conftest import Visitor
from tests.support.cast import Cast, identity_of


async def act(rt: Runtime, what: str, cast: Cast, **values: Any) -> Any:
    alice = await identity_of(rt, cast.alice)
    who = {"merchant_id": cast.shop.id, "actor": alice.actor(Visitor(rt).origin)} | values
    async with rt.sessions.begin() as session:
        return await getattr(operations, what)(session, ids=rt.ids, now=rt.clock(), **who)


async def invite(rt: Runtime, cast: Cast, **values: Any) -> Any:
    usual = {
        "sealer": rt.sealer,
        "public_url": "https://localhost",
        "shop_name": cast.shop.name,
        "email": "dora@example.com",
        "role": "viewer",
    }
    return await act(rt, "invite", cast, **(usual | values))


async def test_a_stranger_is_invited_with_a_link(rt: Runtime, cast: Cast, visitor: Visitor) -> None:
    invited = await invite(rt, cast)
    (letter,) = await visitor.letters("dora@example.com")
    assert f"https://localhost/link/enrol/{invited.token}" in letter.text
    assert cast.shop.name in letter.text
    async with rt.sessions.read() as session:
        members = await queries.members(session, merchant_id=cast.shop.id)
        rows, _ = await audit.page(session, merchant_id=cast.shop.id, livemode=True, limit=1)
    dora = next(member for member in members if member.email == "dora@example.com")
    assert (dora.role, dora.is_active, dora.has_second_factor) == ("viewer", False, False)
    assert (rows[0].action, rows[0].actor_id) == ("member.added", cast.alice.id)
    assert (rows[0].object_id, rows[0].after) == (invited.user.id, {"role": "viewer"})


async def test_somebody_enrolled_just_joins(rt: Runtime, cast: Cast, visitor: Visitor) -> None:
    invited = await invite(rt, cast, email="CHARLIE@example.com", role="operator")
    assert invited.token is None
    assert "operator" in (await visitor.letters(cast.charlie))[0].text
    charlie = await identity_of(rt, cast.charlie)
    charlie.require("payments:refund", cast.shop.id)
    async with rt.sessions.read() as session:
        shops = await queries.shops_of(session, user_id=cast.charlie.id)
    assert [(shop.name, shop.role) for shop in shops] == [
        (cast.shop.name, "operator"),
        (cast.other_shop.name, "owner"),
    ]


async def test_nobody_joins_twice_or_with_a_made_up_role(rt: Runtime, cast: Cast) -> None:
    with pytest.raises(AlreadyMember):
        await invite(rt, cast, email=cast.bob.email)
    with pytest.raises(Invalid):
        await invite(rt, cast, role="admin")
    with pytest.raises(Invalid):
        await act(rt, "change_role", cast, user_id=cast.bob.id, role="root")


async def test_a_changed_role_ends_the_sessions_with_the_old_one(
    rt: Runtime, cast: Cast, visitor: Visitor
) -> None:
    await act(rt, "change_role", cast, user_id=cast.bob.id, role="viewer")
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.bob)
    bob = await visitor.identity(await visitor.enter(cast.bob))
    with pytest.raises(PermissionMissing):
        bob.require("payments:refund", cast.shop.id)
    bob.require("payments:read", cast.shop.id)


async def test_somebody_removed_finds_no_shop(rt: Runtime, cast: Cast, visitor: Visitor) -> None:
    await act(rt, "remove", cast, user_id=cast.bob.id)
    bob = await visitor.identity(await visitor.enter(cast.bob))
    with pytest.raises(NotFound):
        bob.require("payments:read", cast.shop.id)


async def test_a_shop_keeps_an_owner_even_when_two_remove_each_other(
    rt: Runtime, cast: Cast
) -> None:
    with pytest.raises(LastOwner):
        await act(rt, "remove", cast, user_id=cast.alice.id)
    with pytest.raises(LastOwner):
        await act(rt, "change_role", cast, user_id=cast.alice.id, role="viewer")
    await act(rt, "change_role", cast, user_id=cast.bob.id, role="owner")
    actor = (await identity_of(rt, cast.alice)).actor(Visitor(rt).origin)
    results = await asyncio.gather(
        *(act_as(rt, cast, actor, user_id) for user_id in (cast.alice.id, cast.bob.id)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, LastOwner) for result in results) == 1
    async with rt.sessions.read() as session:
        members = await queries.members(session, merchant_id=cast.shop.id)
    assert [member.role for member in members].count("owner") == 1


async def act_as(rt: Runtime, cast: Cast, actor: Any, user_id: str) -> None:
    async with rt.sessions.begin() as session:
        await operations.remove(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=actor,
            merchant_id=cast.shop.id,
            user_id=user_id,
        )


@pytest.mark.parametrize("what", ["remove", "change_role"])
async def test_members_of_another_shop_are_not_found(rt: Runtime, cast: Cast, what: str) -> None:
    values = {"role": "viewer"} if what == "change_role" else {}
    with pytest.raises(NotFound):
        await act(rt, what, cast, user_id=cast.charlie.id, **values)


async def test_each_role_may_do_what_is_written_and_no_more(rt: Runtime, cast: Cast) -> None:
    allowed = {
        name: (await identity_of(rt, getattr(cast, name))).permissions(cast.shop.id)
        for name in ("alice", "bob", "vera", "charlie", "ada")
    }
    assert allowed["vera"] < allowed["bob"] < allowed["alice"]
    assert allowed["charlie"] == allowed["ada"] == frozenset()
    assert not any(
        permission.endswith((":write", ":refund", ":capture", ":cancel"))
        for permission in allowed["vera"]
    )
    assert {"payments:refund", "payments:capture", "payments:cancel"} <= allowed["bob"]
    assert not {"keys:write", "audit:read", "members:write", "webhooks:write"} & allowed["bob"]
    assert all(not permission.startswith("admin:") for permission in allowed["alice"])


async def test_the_platforms_pages_are_for_its_admins(rt: Runtime, cast: Cast) -> None:
    ada, alice = await identity_of(rt, cast.ada), await identity_of(rt, cast.alice)
    for permission in roles.ADMIN_PERMISSIONS:
        ada.require(permission)
        with pytest.raises(PermissionMissing):
            alice.require(permission)
    alice.require("account:write")
    with pytest.raises(PermissionMissing):
        alice.require("payments:read")
