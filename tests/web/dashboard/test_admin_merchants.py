"""The admins' pages of shops: make one, invite its people."""

from typing import Any

import pytest
from litestar import Litestar
from sqlalchemy import select

from app import mail
from app.accounts import queries as people
from app.audit.models import AuditRow
from app.merchants.models import Merchant
from app.runtime import Runtime
from tests.support.browser import Browser
from tests.support.cast import Cast
from tests.support.runtime import Clock
from workers.runner import Runner

BASE = "/admin/merchants"


async def shops(rt: Runtime) -> list[Merchant]:
    async with rt.sessions.read() as session:
        return list(await session.scalars(select(Merchant).order_by(Merchant.id)))


async def test_an_admin_makes_a_shop_and_its_owner_gets_a_letter(
    rt: Runtime, runner: Runner, ada: Browser
) -> None:
    before = {shop.id for shop in await shops(rt)}
    form = await ada.get(f"{BASE}/new")
    sent: dict[str, Any] = {
        "name": "Third demo shop",
        "currency": "jpy",
        "percent": "2.5",
        "fixed": "30",
    }
    done = await ada.submit(form, BASE, **sent, days="7", email="owner@example.com")
    assert done.status == 303
    again = await ada.submit(form, BASE, **sent, days="7", email="owner@example.com")
    assert again.location == done.location
    (made,) = [shop for shop in await shops(rt) if shop.id not in before]
    assert done.location == f"{BASE}/{made.id}"
    terms = (made.currency, made.fee_basis_points, made.fee_fixed, made.settle_delay_seconds)
    assert terms == ("jpy", 250, 30, 604_800)
    async with rt.sessions.read() as session:
        (owner,) = await people.members(session, merchant_id=made.id)
        actions = set(
            await session.scalars(
                select(AuditRow.action).where(
                    AuditRow.merchant_id == made.id, AuditRow.actor_name == "ada@example.com"
                )
            )
        )
    assert (owner.email, owner.role, owner.is_active) == ("owner@example.com", "owner", False)
    assert {"merchant.created", "member.added"} <= actions
    await runner.drain()
    (letter,) = mail.list_files(rt.settings.data_dir)
    assert letter.to == "owner@example.com"
    page = await ada.get(f"{BASE}/{made.id}")
    assert "owner@example.com Owner" in page.words
    assert "2.50% + 30 JPY" in page.words
    assert "Third demo shop" in (await ada.get(BASE)).words


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("currency", "zzz"),
        ("percent", "abc"),
        ("percent", "101"),
        ("percent", "1.234"),
        ("percent", "-1"),
        ("fixed", "1.234"),
        ("days", "91"),
        ("days", "1.5"),
        ("email", "nobody"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_made(
    rt: Runtime, ada: Browser, field: str, value: str
) -> None:
    before = len(await shops(rt))
    form = await ada.get(f"{BASE}/new")
    sent: dict[str, Any] = {"name": "Kept name", field: value}
    wrong = await ada.submit(form, BASE, **sent)
    assert wrong.status == 422
    assert f'href="#{field}"' in wrong.text
    assert f'id="{field}-error"' in wrong.text
    assert field == "name" or 'value="Kept name"' in wrong.text
    assert len(await shops(rt)) == before


async def test_somebody_is_invited_once_to_a_shop_of_the_platform(
    rt: Runtime, cast: Cast, ada: Browser
) -> None:
    path = f"{BASE}/{cast.other_shop.id}"
    page = await ada.get(path)
    assert "charlie@example.com" in page.words
    done = await ada.submit(page, "/members", email="bob@example.com", role="viewer")
    assert (done.status, done.location) == (303, path)
    wrong = await ada.submit(await ada.get(path), "/members", email="bob@example.com")
    assert wrong.status == 422
    assert "belongs to the shop already" in wrong.words
    async with rt.sessions.read() as session:
        found = await people.members(session, merchant_id=cast.other_shop.id)
    assert [(one.email, one.role) for one in found] == [
        ("bob@example.com", "viewer"),
        ("charlie@example.com", "owner"),
    ]


async def test_names_stay_text_and_unknown_shops_are_not_there(rt: Runtime, ada: Browser) -> None:
    form = await ada.get(f"{BASE}/new")
    done = await ada.submit(form, BASE, name="<script>alert(1)</script>")
    for path in (BASE, str(done.location)):
        page = await ada.get(path)
        assert "<script>alert(1)" not in page.text
        assert "&lt;script&gt;" in page.text
    for shop_id in ("nonsense", rt.ids("mer")):
        assert (await ada.get(f"{BASE}/{shop_id}")).status == 404
    assert (await ada.get(f"{BASE}?after=nonsense")).status == 200


async def test_it_needs_a_fresh_password_and_code(rt: Runtime, ada: Browser, clock: Clock) -> None:
    form = await ada.get(f"{BASE}/new")
    clock.forward(minutes=6)
    before = len(await shops(rt))
    late = await ada.submit(form, BASE, name="A shop")
    assert late.status == 422
    assert 'name="confirm_password"' in late.text
    assert len(await shops(rt)) == before


@pytest.mark.parametrize("name", ["alice", "bob", "vera", "charlie"])
async def test_only_admins_see_and_make_shops(
    rt: Runtime, app: Litestar, cast: Cast, name: str
) -> None:
    before = len(await shops(rt))
    async with Browser(app, getattr(cast, name)) as browser:
        for path in (BASE, f"{BASE}/new", f"{BASE}/{cast.shop.id}"):
            page = await browser.get(path)
            assert page.status == 403
        key = rt.ids.token(16)
        made = await browser.post(BASE, {"form_key": key, "name": "Mine"})
        added = await browser.post(
            f"{BASE}/{cast.other_shop.id}/members", {"form_key": key, "email": "x@example.com"}
        )
    assert (made.status, added.status) == (403, 403)
    assert len(await shops(rt)) == before
