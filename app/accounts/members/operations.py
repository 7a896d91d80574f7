"""Writes of memberships: invite, change a role, take somebody out; at once and in the log."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import letters, operations, queries, roles
from app.accounts.models import Membership, User
from app.accounts.sessions import operations as sessions
from app.audit import operations as audit
from app.audit.operations import Actor
from app.errors import Conflict, NotFound
from app.ids import Ids
from app.secrets import Sealer


class AlreadyMember(Conflict):
    """This person belongs to the shop already."""

    code = "already_member"


class LastOwner(Conflict):
    """A shop keeps at least one owner."""

    code = "last_owner"


class Invited(msgspec.Struct, frozen=True):
    """Who was invited; `token` is that of the enrolment link, None for somebody enrolled."""

    user: User
    token: str | None


async def invite(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    sealer: Sealer,
    actor: Actor,
    public_url: str,
    merchant_id: str,
    shop_name: str,
    email: str,
    role: str,
) -> Invited:
    """Add somebody to a shop by e-mail address, with a letter; an account is made if needed.

    The answer to the inviter must not depend on whether there was one. Raises Invalid,
    AlreadyMember.
    """
    address = operations.checked_email(email)
    user = await queries.user_by_email(session, email=address, lock=True)
    if user is None:
        user = await operations.create_user(session, ids=ids, now=now, actor=actor, email=address)
    await add(
        session,
        ids=ids,
        now=now,
        actor=actor,
        merchant_id=merchant_id,
        user=user,
        role=role,
    )
    token = None
    letter = letters.added(where=shop_name, role=role)
    if user.password_hash is None:
        token = await operations.make_link(
            session, ids=ids, now=now, user_id=user.id, purpose=letters.ENROL
        )
        link = letters.link(public_url, letters.ENROL, token)
        letter = letters.invitation(link, where=shop_name)
    await operations.send_letter(session, ids=ids, now=now, sealer=sealer, to=user, letter=letter)
    return Invited(user, token)


async def add(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    user: User,
    role: str,
) -> None:
    """Add a person to a shop. Raises Invalid for an unknown role, AlreadyMember."""
    roles.checked_role(role)
    which = (Membership.user_id == user.id, Membership.merchant_id == merchant_id)
    if await session.scalar(select(Membership.role).where(*which)) is not None:
        raise AlreadyMember("This person belongs to the shop already.")
    await session.execute(
        insert(Membership).values(
            user_id=user.id, merchant_id=merchant_id, role=role, created_at=now
        )
    )
    await _note(session, ids, now, actor, "member.added", merchant_id, user.id, after=role)


async def change_role(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    user_id: str,
    role: str,
) -> None:
    """Give a member another role; their sessions end, so that none keeps the old rights.

    Raises Invalid, NotFound, LastOwner.
    """
    roles.checked_role(role)
    found = await _locked(session, merchant_id)
    held = _one_of(found, user_id)
    if held.role == role:
        return
    _keep_an_owner(found, held)
    before, held.role = held.role, role
    await session.flush()
    await sessions.end_all(session, user_id=user_id, now=now)
    await _note(session, ids, now, actor, "member.role_changed", merchant_id, user_id, before, role)


async def remove(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    user_id: str,
) -> None:
    """Take a person out of a shop, at once. Raises NotFound, LastOwner."""
    found = await _locked(session, merchant_id)
    held = _one_of(found, user_id)
    _keep_an_owner(found, held)
    await session.execute(
        delete(Membership).where(
            Membership.user_id == user_id, Membership.merchant_id == merchant_id
        )
    )
    await sessions.end_all(session, user_id=user_id, now=now)
    await _note(session, ids, now, actor, "member.removed", merchant_id, user_id, before=held.role)


async def _locked(session: AsyncSession, merchant_id: str) -> Sequence[Membership]:
    # All of a shop's rows, in one order: two owners who remove each other wait here.
    found = await session.scalars(
        select(Membership)
        .where(Membership.merchant_id == merchant_id)
        .order_by(Membership.user_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return found.all()


def _one_of(found: Sequence[Membership], user_id: str) -> Membership:
    for held in found:
        if held.user_id == user_id:
            return held
    raise NotFound


def _keep_an_owner(found: Sequence[Membership], leaving: Membership) -> None:
    owners = [held for held in found if held.role == roles.OWNER]
    if owners == [leaving]:
        raise LastOwner("A shop keeps at least one owner.")


async def _note(
    session: AsyncSession,
    ids: Ids,
    now: datetime,
    actor: Actor,
    action: str,
    merchant_id: str,
    user_id: str,
    before: str | None = None,
    after: str | None = None,
) -> None:
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action=action,
        object_id=user_id,
        merchant_id=merchant_id,
        livemode=None,
        before=before and {"role": before},
        after=after and {"role": after},
    )
