"""The demo shop of a first start: a merchant, its owner, a platform admin and a test key."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import runtime
from app.accounts import operations as accounts
from app.accounts import queries, totp
from app.accounts.factors import operations as factors
from app.accounts.members import operations as members
from app.accounts.models import User
from app.accounts.passwords import Hasher
from app.audit.operations import command
from app.cli import demo
from app.merchants import operations as merchants
from app.psp import registry
from app.runtime import Runtime
from app.settings import Settings

OWNER, ADMIN = "owner@demo-shop.example", "admin@counterfoil.example"
_ACTOR = command("up")


async def prepare(settings: Settings, demo_folder: Path | None) -> str | None:
    """Write the PSP connections and, on an empty database, the demo shop.

    Returns a sentence when nothing may start: demo users where others can connect.
    """
    rt = runtime.build(settings)
    try:
        return await _prepare(rt, demo_folder)
    finally:
        await rt.close()


async def _prepare(rt: Runtime, demo_folder: Path | None) -> str | None:
    aside: Path | None = None
    async with rt.sessions.begin() as session:
        await registry.ensure_rows(session, rt.connections, now=rt.clock())
        has_demo = await queries.demo_users_present(session)
        if has_demo and not rt.settings.loopback:
            return (
                "this data has demo users, whose passwords are no secret; it is not served on "
                f"{rt.settings.bind_host}. Start on loopback, or with another --data."
            )
        if demo_folder is not None and not await queries.any_user(session):
            story = await _make(session, rt)
            aside = demo.write_aside(demo_folder, story)
    if demo_folder is not None and has_demo and demo.read(demo_folder) is None:
        # The machine stopped between the commit and the line below.
        aside = demo.aside_of(demo_folder)
    if aside is not None and demo_folder is not None and aside.exists():
        aside.replace(demo.path(demo_folder))
    return None


async def _make(session: AsyncSession, rt: Runtime) -> dict[str, Any]:
    made: dict[str, Any] = {"ids": rt.ids, "now": rt.clock(), "actor": _ACTOR}
    shop = await merchants.create_merchant(
        session, **made, name="Demo shop", terms={"settle_delay_seconds": 60}
    )
    _, secret = await merchants.create_key(
        session, **made, merchant_id=shop.id, livemode=False, name="Demo key"
    )
    users = []
    for email, role in ((OWNER, "owner"), (ADMIN, "admin")):
        user = await accounts.create_user(
            session, **made, email=email, is_admin=role == "admin", is_demo=True
        )
        if role == "owner":
            await members.add(session, **made, merchant_id=shop.id, user=user, role="owner")
        users.append(await _enrol(session, rt, user) | {"role": role})
    return {"merchant_id": shop.id, "api_key": secret, "users": users}


async def _enrol(session: AsyncSession, rt: Runtime, user: User) -> dict[str, str]:
    now, password = rt.clock(), rt.ids.token(15)
    hashed = Hasher(rt.sealer).hash(password, rt.ids.random_bytes(16))
    await accounts.set_password(session, user=user, password_hash=hashed, now=now)
    secret = await factors.pending_secret(session, ids=rt.ids, sealer=rt.sealer, user=user)
    # Each code counts once. Enrolled with the one before, the first that a phone shows is good.
    code = totp.code_at(secret, now - timedelta(seconds=totp.STEP_SECONDS))
    enrolled = await factors.activate(
        session, ids=rt.ids, sealer=rt.sealer, user=user, code=code, now=now
    )
    if enrolled is None:
        raise RuntimeError("the demo's second factor does not take its own code")
    return {"email": user.email, "password": password, "totp_secret": secret}
