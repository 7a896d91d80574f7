"""Shops keep their terms, and every change of them can be read later."""

from typing import Any

import pytest

from app.audit import queries as audit
from app.audit.operations import SYSTEM
from app.errors import Invalid, NotFound
from app.merchants import operations, queries
from app.merchants.models import Merchant
from app.runtime import Runtime


async def make_shop(rt: Runtime, name: str = "Alice's demo shop", **terms: Any) -> Merchant:
    async with rt.sessions.begin() as session:
        return await operations.create_merchant(
            session, ids=rt.ids, now=rt.clock(), actor=SYSTEM, name=name, terms=terms
        )


async def change(rt: Runtime, kind: str, shop: Merchant, **changes: Any) -> Merchant:
    work = getattr(operations, f"change_{kind}")
    async with rt.sessions.begin() as session:
        changed: Merchant = await work(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            merchant_id=shop.id,
            changes=changes,
        )
    return changed


async def story(rt: Runtime, shop: Merchant) -> list[str]:
    async with rt.sessions.read() as session:
        rows, _ = await audit.page(session, merchant_id=shop.id, livemode=True)
    return [row.action for row in rows]


async def test_a_new_shop_has_the_usual_terms(rt: Runtime) -> None:
    shop = await make_shop(rt, currency="CHF", settle_delay_seconds=60)
    async with rt.sessions.read() as session:
        kept = await queries.merchant(session, merchant_id=shop.id)
    assert (kept.name, kept.currency, kept.settle_delay_seconds) == (shop.name, "chf", 60)
    assert (kept.fee_basis_points, kept.fee_fixed, kept.fee_return) == (140, 25, True)
    assert await story(rt, shop) == ["merchant.created"]


async def test_settings_change_with_before_and_after(rt: Runtime) -> None:
    shop = await make_shop(rt)
    await change(rt, "settings", shop, name="New name", step_up_limit=10)
    async with rt.sessions.read() as session:
        (row, _created), _ = await audit.page(session, merchant_id=shop.id, livemode=False)
    assert row.before == {"name": "Alice's demo shop", "step_up_limit": 50_000}
    assert row.after == {"name": "New name", "step_up_limit": 10}


async def test_terms_change_with_before_and_after(rt: Runtime) -> None:
    shop, other = await make_shop(rt), await make_shop(rt, "Another")
    wanted: dict[str, Any] = {
        "fee_basis_points": 90,
        "fee_fixed": 10,
        "fee_return": False,
        "settle_delay_seconds": 0,
        "overdraft_limit": 500,
    }
    assert set(wanted) == set(operations.TERMS)
    await change(rt, "terms", shop, **wanted)
    async with rt.sessions.read() as session:
        kept = await queries.merchant(session, merchant_id=shop.id)
        untouched = await queries.merchant(session, merchant_id=other.id)
        (row, _created), _ = await audit.page(session, merchant_id=shop.id, livemode=False)
    usual = {name: getattr(shop, name) for name in wanted}
    assert {name: getattr(kept, name) for name in wanted} == wanted
    assert {name: getattr(untouched, name) for name in wanted} == usual
    assert (row.action, row.object_id) == ("merchant.terms_changed", shop.id)
    assert (row.before, row.after) == (usual, wanted)


async def test_terms_of_the_same_values_are_no_change(rt: Runtime) -> None:
    shop = await make_shop(rt)
    kept = await change(rt, "terms", shop, fee_fixed=25, fee_return=True)
    assert kept.updated_at == shop.updated_at
    assert await story(rt, shop) == ["merchant.created"]


async def test_the_platforms_terms_do_not_reach_an_owners_settings(rt: Runtime) -> None:
    shop = await make_shop(rt)
    for name, value in (("name", "x"), ("step_up_limit", 0), ("disabled_at", None)):
        with pytest.raises(Invalid):
            await change(rt, "terms", shop, fee_fixed=1, **{name: value})
    assert await story(rt, shop) == ["merchant.created"]


async def test_terms_of_a_shop_that_does_not_exist_are_not_found(rt: Runtime) -> None:
    async with rt.sessions.begin() as session:
        with pytest.raises(NotFound):
            await operations.change_terms(
                session,
                ids=rt.ids,
                now=rt.clock(),
                actor=SYSTEM,
                merchant_id="mer_none",
                changes={"fee_fixed": 1},
            )


async def test_a_change_to_the_same_values_is_none(rt: Runtime) -> None:
    shop = await make_shop(rt)
    await change(rt, "settings", shop, currency="EUR")
    assert await story(rt, shop) == ["merchant.created"]


async def test_an_owners_settings_do_not_reach_the_platforms_terms(rt: Runtime) -> None:
    shop = await make_shop(rt)
    for name, value in (("fee_basis_points", 0), ("overdraft_limit", 10**9), ("id", "mer_x")):
        with pytest.raises(Invalid):
            await change(rt, "settings", shop, **{name: value})
    changed = await change(rt, "terms", shop, fee_basis_points=0)
    assert changed.fee_basis_points == 0


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("settings", "name", "  "),
        ("settings", "name", "x" * 121),
        ("settings", "name", "a\nb"),
        ("settings", "currency", "zzz"),
        ("settings", "step_up_limit", -1),
        ("settings", "step_up_limit", True),
        ("settings", "step_up_limit", 1.5),
        ("terms", "fee_basis_points", 10_001),
        ("terms", "fee_fixed", 10**12),
        ("terms", "fee_return", 1),
        ("terms", "settle_delay_seconds", 91 * 86_400),
    ],
)
async def test_a_wrong_value_names_its_field(rt: Runtime, kind: str, name: str, value: Any) -> None:
    shop = await make_shop(rt)
    with pytest.raises(Invalid) as caught:
        await change(rt, kind, shop, **{name: value})
    assert [error["param"] for error in caught.value.errors] == [name]


async def test_a_shop_that_does_not_exist_is_not_found(rt: Runtime) -> None:
    async with rt.sessions.read() as session:
        with pytest.raises(NotFound):
            await queries.merchant(session, merchant_id="mer_none")


async def test_shops_are_listed_in_pages(rt: Runtime) -> None:
    made = {(await make_shop(rt, f"Shop {n}")).id for n in range(3)}
    async with rt.sessions.read() as session:
        assert await queries.any_merchant(session)
        first, more = await queries.merchants(session, limit=2)
        assert more
        rest, more = await queries.merchants(session, limit=2, starting_after=first[-1].id)
        assert not more
    assert {shop.id for shop in [*first, *rest]} == made


async def test_switching_a_shop_off_twice_is_one_action(rt: Runtime) -> None:
    shop = await make_shop(rt)
    for disabled in (True, True, False):
        async with rt.sessions.begin() as session:
            await operations.set_disabled(
                session,
                ids=rt.ids,
                now=rt.clock(),
                actor=SYSTEM,
                merchant_id=shop.id,
                disabled=disabled,
            )
    assert sorted(await story(rt, shop)) == [
        "merchant.created",
        "merchant.disabled",
        "merchant.enabled",
    ]
