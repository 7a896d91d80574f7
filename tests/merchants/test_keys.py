"""API keys: shown once, known by a hash, ended at once (S23)."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.audit import queries as audit
from app.audit.operations import SYSTEM
from app.errors import Invalid, NotFound, Unauthenticated
from app.merchants import keys, operations, queries
from app.merchants.keys import KeyIdentity, ScopeMissing
from app.merchants.models import ApiKey, Merchant
from app.merchants.operations import KeyEnded
from app.merchants.queries import MerchantDisabled
from app.runtime import Runtime
from app.secrets import sha256
from tests.support.runtime import Clock


@pytest.fixture
async def shop(rt: Runtime) -> Merchant:
    async with rt.sessions.begin() as session:
        return await operations.create_merchant(
            session, ids=rt.ids, now=rt.clock(), actor=SYSTEM, name="Alice's demo shop"
        )


async def act(rt: Runtime, what: str, shop: Merchant, **values: Any) -> Any:
    work = getattr(operations, what)
    mode = {"livemode": False} | values
    async with rt.sessions.begin() as session:
        return await work(
            session, ids=rt.ids, now=rt.clock(), actor=SYSTEM, merchant_id=shop.id, **mode
        )


async def make(rt: Runtime, shop: Merchant, **values: Any) -> tuple[ApiKey, str]:
    made: tuple[ApiKey, str] = await act(rt, "create_key", shop, **({"name": "Shop"} | values))
    return made


async def authenticate(rt: Runtime, secret: str) -> KeyIdentity:
    async with rt.sessions.read() as session:
        return await queries.authenticate(session, secret=secret, now=rt.clock())


async def test_a_key_proves_its_shop_its_mode_and_its_scopes(rt: Runtime, shop: Merchant) -> None:
    key, secret = await make(rt, shop, scopes=["payments:write", "payments:read"], livemode=True)
    identity = await authenticate(rt, secret)
    assert (identity.key_id, identity.merchant_id, identity.livemode) == (key.id, shop.id, True)
    assert identity.scopes == {"payments:read", "payments:write"}
    identity.require("payments:read")
    with pytest.raises(ScopeMissing):
        identity.require("refunds:write")
    actor = identity.actor(address="192.0.2.1", request_id="req_1")
    assert (actor.kind, actor.id, actor.name) == ("key", key.id, key.hint)


async def test_only_the_hash_of_a_secret_is_stored(rt: Runtime, shop: Merchant) -> None:
    key, secret = await make(rt, shop)
    assert secret.startswith("cf_test_")
    assert len(secret) == len("cf_test_") + 52
    async with rt.sessions.read() as session:
        row = (await session.execute(select(ApiKey.__table__))).one()
        rows, _ = await audit.page(session, merchant_id=shop.id, livemode=False)
    assert row.hash == sha256(secret)
    assert secret not in repr(row)
    assert all(secret not in repr(vars(entry)) for entry in rows)
    assert key.hint == f"{secret[:10]}…{secret[-4:]}"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "cf_test_",
        "cf_test_" + "0" * 52,
        "sk_test_1",
        "cf_test_" + "é" * 52,
        "cf_live_" + "A" * 52,
    ],
)
async def test_an_unknown_secret_proves_nothing(rt: Runtime, shop: Merchant, secret: str) -> None:
    await make(rt, shop)
    with pytest.raises(Unauthenticated):
        await authenticate(rt, secret)


async def test_the_other_modes_prefix_is_another_key(rt: Runtime, shop: Merchant) -> None:
    _, secret = await make(rt, shop)
    with pytest.raises(Unauthenticated):
        await authenticate(rt, secret.replace("cf_test_", "cf_live_"))


async def test_a_revoked_key_ends_at_once_and_once(rt: Runtime, shop: Merchant) -> None:
    key, secret = await make(rt, shop)
    await act(rt, "revoke_key", shop, key_id=key.id)
    with pytest.raises(Unauthenticated):
        await authenticate(rt, secret)
    with pytest.raises(KeyEnded):
        await act(rt, "revoke_key", shop, key_id=key.id)
    with pytest.raises(KeyEnded):
        await act(rt, "rotate_key", shop, key_id=key.id)


async def test_a_key_works_until_its_expiry(rt: Runtime, shop: Merchant, clock: Clock) -> None:
    _, secret = await make(rt, shop, expires_at=rt.clock() + timedelta(hours=1))
    await authenticate(rt, secret)
    clock.forward(hours=1)
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticate(rt, secret)


async def test_both_keys_work_while_a_rotation_overlaps(
    rt: Runtime, shop: Merchant, clock: Clock
) -> None:
    old, old_secret = await make(rt, shop, scopes=["ledger:read"])
    new, new_secret = await act(rt, "rotate_key", shop, key_id=old.id, overlap=timedelta(hours=2))
    assert (new.name, new.scopes, new.replaces_id) == (old.name, ["ledger:read"], old.id)
    assert (await authenticate(rt, old_secret)).key_id == old.id
    clock.forward(hours=2)
    with pytest.raises(Unauthenticated):
        await authenticate(rt, old_secret)
    assert (await authenticate(rt, new_secret)).key_id == new.id


async def test_a_rotation_does_not_lengthen_a_life(rt: Runtime, shop: Merchant) -> None:
    ends = rt.clock() + timedelta(hours=1)
    old, _ = await make(rt, shop, expires_at=ends)
    new, _ = await act(rt, "rotate_key", shop, key_id=old.id, overlap=timedelta(days=7))
    async with rt.sessions.read() as session:
        kept = await queries.key(session, merchant_id=shop.id, livemode=False, key_id=old.id)
    assert kept.expires_at == new.expires_at == ends


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("create_key", {"name": " "}),
        ("create_key", {"name": "x", "scopes": []}),
        ("create_key", {"name": "x", "scopes": ["payments:read", "everything"]}),
        ("rotate_key", {"key_id": "key_x", "overlap": timedelta(days=8)}),
        ("rotate_key", {"key_id": "key_x", "overlap": timedelta(seconds=-1)}),
    ],
)
async def test_wrong_wishes_are_refused(
    rt: Runtime, shop: Merchant, what: str, values: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        await act(rt, what, shop, **values)


async def test_a_key_that_has_expired_before_it_begins_is_refused(
    rt: Runtime, shop: Merchant
) -> None:
    with pytest.raises(Invalid) as caught:
        await make(rt, shop, expires_at=rt.clock())
    assert caught.value.param == "expires_at"


async def test_a_disabled_shop_has_no_working_key(rt: Runtime, shop: Merchant) -> None:
    _, secret = await make(rt, shop)
    async with rt.sessions.begin() as session:
        await operations.set_disabled(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=SYSTEM,
            merchant_id=shop.id,
            disabled=True,
        )
    with pytest.raises(MerchantDisabled):
        await authenticate(rt, secret)


async def test_a_stranger_finds_no_key_of_ours(rt: Runtime, shop: Merchant) -> None:
    key, secret = await make(rt, shop)
    async with rt.sessions.begin() as session:
        other = await operations.create_merchant(
            session, ids=rt.ids, now=rt.clock(), actor=SYSTEM, name="Charlie's demo shop"
        )
    for what in ("revoke_key", "rotate_key"):
        with pytest.raises(NotFound):
            await act(rt, what, other, key_id=key.id)
        with pytest.raises(NotFound):
            await act(rt, what, shop, key_id=key.id, livemode=True)
    async with rt.sessions.read() as session:
        assert await queries.api_keys(session, merchant_id=other.id, livemode=False) == []
        mine = await queries.api_keys(session, merchant_id=shop.id, livemode=False)
    assert [row.id for row in mine] == [key.id]
    await authenticate(rt, secret)


async def test_use_is_noted_once_a_minute(rt: Runtime, shop: Merchant, clock: Clock) -> None:
    key, secret = await make(rt, shop)
    noted = []
    for seconds in (0, 30, 31):
        clock.forward(seconds=seconds)
        async with rt.sessions.begin() as session:
            noted.append(await operations.note_use(session, key_id=key.id, now=rt.clock()))
    assert noted == [True, False, True]
    assert (await authenticate(rt, secret)).last_used_at is not None


def test_a_hint_never_holds_what_the_secret_holds() -> None:
    secret = "cf_live_" + "0123456789abcdefghjkmnpqrstvwxyz0123456789abcdefghjk"
    assert keys.looks_like_secret(secret)
    assert keys.hint(secret) == "cf_live_01…ghjk"
