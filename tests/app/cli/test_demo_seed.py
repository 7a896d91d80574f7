"""The demo shop is made once, on an empty database, and never served to others."""

from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.accounts import operations as accounts
from app.accounts import passwords, totp
from app.accounts.factors import operations as factors
from app.accounts.models import Membership, User
from app.audit.operations import command
from app.cli import demo, demo_seed
from app.merchants.models import ApiKey
from app.runtime import Runtime
from app.secrets import sha256
from tests.support.runtime import test_settings as settings_for


async def seed(rt: Runtime, folder: Path, **changes: object) -> str | None:
    settings = settings_for(rt.settings.database_url, folder, **changes)
    return await demo_seed.prepare(settings, folder)


async def test_the_shown_credentials_are_those_of_the_database(rt: Runtime, tmp_path: Path) -> None:
    assert await seed(rt, tmp_path) is None
    story = demo.read(tmp_path)
    assert story is not None
    owner, admin = story["users"]
    assert (owner["role"], admin["role"]) == ("owner", "admin")
    async with rt.sessions.begin() as session:
        for known in story["users"]:
            user = await session.scalar(select(User).where(User.email == known["email"]))
            assert user is not None
            assert user.is_demo
            assert user.is_admin is (known["role"] == "admin")
            assert passwords.Hasher(rt.sealer).verify(user.password_hash, known["password"])
            # The code that a phone shows right now must be good.
            code = totp.code_at(known["totp_secret"], rt.clock())
            assert await factors.take_code(
                session, sealer=rt.sealer, user=user, code=code, now=rt.clock()
            )
        memberships = (await session.scalars(select(Membership))).all()
        assert [(one.merchant_id, one.role) for one in memberships] == [
            (story["merchant_id"], "owner")
        ]
        key = await session.scalar(select(ApiKey))
        assert key is not None
        assert (key.hash, key.livemode) == (sha256(story["api_key"]), False)


async def test_the_demo_passwords_would_be_accepted_from_a_person(
    rt: Runtime, tmp_path: Path
) -> None:
    await seed(rt, tmp_path)
    for known in (demo.read(tmp_path) or {})["users"]:
        passwords.check_new(known["password"], context=[known["email"], "Demo shop"])


async def test_a_second_start_changes_nothing(rt: Runtime, tmp_path: Path) -> None:
    await seed(rt, tmp_path)
    first = demo.read(tmp_path)
    await seed(rt, tmp_path)
    assert demo.read(tmp_path) == first
    async with rt.sessions.read() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 2


async def test_a_database_with_users_gets_no_demo(rt: Runtime, tmp_path: Path) -> None:
    async with rt.sessions.begin() as session:
        await accounts.create_user(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=command("create-user"),
            email="someone@shop.example",
        )
    assert await seed(rt, tmp_path) is None
    assert demo.read(tmp_path) is None


async def test_demo_users_are_not_served_to_others(rt: Runtime, tmp_path: Path) -> None:
    await seed(rt, tmp_path)
    said = await seed(rt, tmp_path, bind_host="192.0.2.1")
    assert said is not None
    assert "it is not served on 192.0.2.1" in said


async def test_a_stop_right_after_the_commit_loses_no_password(rt: Runtime, tmp_path: Path) -> None:
    await seed(rt, tmp_path)
    story = demo.read(tmp_path)
    demo.path(tmp_path).rename(demo.aside_of(tmp_path))
    await seed(rt, tmp_path)
    assert demo.read(tmp_path) == story


async def test_a_stop_right_before_the_commit_leaves_no_wrong_password(
    rt: Runtime, tmp_path: Path
) -> None:
    demo.write_aside(tmp_path, {"users": [{"password": "of a rolled back start"}]})
    await seed(rt, tmp_path)
    assert "rolled back" not in demo.path(tmp_path).read_text()


async def test_a_failure_of_the_last_step_leaves_nothing(
    rt: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise OSError("the disk is full")

    monkeypatch.setattr(demo, "write_aside", full)
    with pytest.raises(OSError, match="the disk is full"):
        await seed(rt, tmp_path)
    async with rt.sessions.read() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 0
