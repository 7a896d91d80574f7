"""The fixed cast: Alice owns the shop, Bob is her clerk, Charlie owns another one.

Vera may only look on at Alice's; Ada is a platform admin. All have a second factor and a session.
"""

from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import operations as people
from app.accounts import roles, totp
from app.accounts.factors import operations as factors
from app.accounts.identity import FULL, Identity, Opened
from app.accounts.members import operations as members
from app.accounts.passwords import Hasher
from app.accounts.sessions import operations as sessions
from app.accounts.sessions import queries
from app.audit.operations import SYSTEM
from app.merchants import operations as merchants
from app.merchants.models import ApiKey, Merchant
from app.runtime import Runtime

PASSWORD = "plum velvet orbit canyon"


class Shop(msgspec.Struct, frozen=True):
    """A shop with a test key that may do everything."""

    id: str
    name: str
    key: ApiKey
    secret: str


class Person(msgspec.Struct, frozen=True):
    """Somebody who has signed in, with what they know and hold."""

    id: str
    email: str
    password: str
    totp_secret: str
    recovery_codes: list[str]
    opened: Opened

    @property
    def token(self) -> str:
        """The session's token, as the cookie holds it."""
        return self.opened.token


class Cast(msgspec.Struct, frozen=True):
    """Everybody. `shop` is Alice's, `other_shop` Charlie's."""

    shop: Shop
    other_shop: Shop
    alice: Person
    bob: Person
    vera: Person
    charlie: Person
    ada: Person


async def make_cast(rt: Runtime) -> Cast:
    """Make the cast on an empty database, in one transaction."""
    async with rt.sessions.begin() as session:
        shop = await make_shop(rt, session, "Alice's demo shop")
        other = await make_shop(rt, session, "Charlie's demo shop")
        return Cast(
            shop=shop,
            other_shop=other,
            alice=await make_person(rt, session, "alice", shop, roles.OWNER),
            bob=await make_person(rt, session, "bob", shop, roles.OPERATOR),
            vera=await make_person(rt, session, "vera", shop, roles.VIEWER),
            charlie=await make_person(rt, session, "charlie", other, roles.OWNER),
            ada=await make_person(rt, session, "ada"),
        )


async def make_shop(rt: Runtime, session: AsyncSession, name: str, **terms: Any) -> Shop:
    """Make a shop whose money settles at once, and its test key."""
    now = rt.clock()
    shop: Merchant = await merchants.create_merchant(
        session, ids=rt.ids, now=now, actor=SYSTEM, name=name, terms=terms
    )
    key, secret = await merchants.create_key(
        session,
        ids=rt.ids,
        now=now,
        actor=SYSTEM,
        merchant_id=shop.id,
        livemode=False,
        name="Shop plugin",
    )
    return Shop(shop.id, name, key, secret)


async def make_person(
    rt: Runtime,
    session: AsyncSession,
    name: str,
    shop: Shop | None = None,
    role: str = roles.OWNER,
) -> Person:
    """Make somebody with a password, a second factor and an open session.

    Without a shop: a platform admin. The seed was proven a while ago, so that present codes are
    still unused.
    """
    now = rt.clock()
    user = await people.create_user(
        session,
        ids=rt.ids,
        now=now,
        actor=SYSTEM,
        email=f"{name}@example.com",
        name=name.title(),
        is_admin=shop is None,
    )
    hasher = Hasher(rt.sealer, rt.settings.argon2_memory_kib)
    hashed = hasher.hash(PASSWORD, rt.ids.random_bytes(16))
    await people.set_password(session, user=user, password_hash=hashed, now=now)
    secret = await factors.pending_secret(session, ids=rt.ids, sealer=rt.sealer, user=user)
    earlier = now - timedelta(minutes=5)
    codes = await factors.activate(
        session,
        ids=rt.ids,
        sealer=rt.sealer,
        user=user,
        code=totp.code_at(secret, earlier),
        now=earlier,
    )
    if shop is not None:
        await members.add(
            session,
            ids=rt.ids,
            now=now,
            actor=SYSTEM,
            merchant_id=shop.id,
            user=user,
            role=role,
        )
    opened = await sessions.open_session(
        session,
        ids=rt.ids,
        now=now,
        user_id=user.id,
        stage=FULL,
        address="192.0.2.10",
        agent="Tests",
        confirmed_at=now,
    )
    return Person(user.id, user.email, PASSWORD, secret, codes or [], opened)


async def identity_of(rt: Runtime, person: Person) -> Identity:
    """Return what this person's session proves now. Raises SessionEnded."""
    async with rt.sessions.read() as session:
        return await queries.identify(session, token=person.token, now=rt.clock())
