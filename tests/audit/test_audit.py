"""The audit log tells who did what, and only to the shop that it concerns."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.audit import operations, queries
from app.audit.models import AuditRow
from app.audit.operations import Actor
from app.runtime import Runtime

PERSON = Actor(
    kind="user",
    id="usr_1",
    name="alice@example.com",
    address="192.0.2.7",
    session_id="ses_1",
    request_id="req_1",
)


async def write(rt: Runtime, action: str = "key.created", **changes: Any) -> str:
    values: dict[str, Any] = {
        "actor": PERSON,
        "object_id": "key_1",
        "merchant_id": "mer_a",
        "livemode": False,
    } | changes
    async with rt.sessions.begin() as session:
        return await operations.record(session, ids=rt.ids, now=rt.clock(), action=action, **values)


async def read(rt: Runtime, **filters: Any) -> list[str]:
    values: dict[str, Any] = {"merchant_id": "mer_a", "livemode": False} | filters
    async with rt.sessions.read() as session:
        rows, _ = await queries.page(session, **values)
    return [row.id for row in rows]


async def test_a_row_tells_who_what_from_where_and_what_changed(rt: Runtime) -> None:
    row_id = await write(rt, before={"name": "old"}, after={"name": "new"}, reason="typo")
    async with rt.sessions.read() as session:
        row = await session.get_one(AuditRow, row_id)
    assert (row.actor_kind, row.actor_id, row.actor_name) == ("user", "usr_1", PERSON.name)
    assert (row.address, row.session_id, row.request_id) == ("192.0.2.7", "ses_1", "req_1")
    assert (row.before, row.after, row.reason) == ({"name": "old"}, {"name": "new"}, "typo")
    assert rt.clock() - row.created_at < timedelta(seconds=30)


async def test_a_row_vanishes_with_the_action_that_fails(rt: Runtime) -> None:
    async def fail(session: AsyncSession) -> None:
        values = operations.row(
            ids=rt.ids,
            now=rt.clock(),
            actor=PERSON,
            action="key.created",
            object_id=None,
            merchant_id="mer_a",
            livemode=False,
        )
        await db.insert_all(session, [(AuditRow, values)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rt.sessions.run(fail)
    assert await read(rt) == []


async def test_another_shop_and_another_mode_see_nothing(rt: Runtime) -> None:
    await write(rt)
    assert await read(rt, merchant_id="mer_b") == []
    assert await read(rt, livemode=True) == []
    async with rt.sessions.read() as session:
        theirs = await queries.of_object(
            session, merchant_id="mer_b", livemode=False, object_id="key_1"
        )
    assert theirs == []


async def test_a_row_without_a_mode_is_seen_in_both(rt: Runtime) -> None:
    row_id = await write(rt, "member.added", livemode=None)
    assert await read(rt) == await read(rt, livemode=True) == [row_id]


async def test_pages_go_newest_first_in_both_directions(rt: Runtime) -> None:
    rows = [await write(rt) for _ in range(5)]
    newest = sorted(rows, reverse=True)
    async with rt.sessions.read() as session:
        first, more = await queries.page(session, merchant_id="mer_a", livemode=False, limit=2)
        assert ([row.id for row in first], more) == (newest[:2], True)
        last, more = await queries.page(
            session, merchant_id="mer_a", livemode=False, limit=3, starting_after=newest[1]
        )
        assert ([row.id for row in last], more) == (newest[2:], False)
        back, more = await queries.page(
            session, merchant_id="mer_a", livemode=False, limit=2, ending_before=newest[3]
        )
        assert ([row.id for row in back], more) == (newest[1:3], True)


async def test_rows_are_found_by_action_group_and_actor(rt: Runtime) -> None:
    made, moved = await write(rt), await write(rt, "member.added")
    other = Actor(kind="key", id="key_9", name="cf_test_ab…wxyz")
    by_key = await write(rt, "key.created", actor=other)
    assert set(await read(rt, action="key.")) == {made, by_key}
    assert await read(rt, action="member.added") == [moved]
    assert await read(rt, action="key") == []
    assert await read(rt, actor_id="key_9") == [by_key]


async def test_the_platforms_own_rows_belong_to_no_shop(rt: Runtime) -> None:
    await write(rt)
    own = await write(rt, "user.created", merchant_id=None, livemode=None)
    async with rt.sessions.read() as session:
        rows, more = await queries.platform_page(session)
    assert ([row.id for row in rows], more) == ([own], False)


async def test_the_story_of_an_object_goes_forward(rt: Runtime) -> None:
    story = sorted([await write(rt), await write(rt, "key.revoked")])
    async with rt.sessions.read() as session:
        rows = await queries.of_object(
            session, merchant_id="mer_a", livemode=False, object_id="key_1"
        )
    assert [row.id for row in rows] == story


@pytest.mark.parametrize("change", [delete(AuditRow), update(AuditRow).values(reason="x")])
async def test_the_database_refuses_to_change_the_log(rt: Runtime, change: Any) -> None:
    await write(rt)
    with pytest.raises(DBAPIError):
        async with rt.sessions.begin() as session:
            await session.execute(change)
