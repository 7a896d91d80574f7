"""Writes of second factors: enrolment, and codes that are each taken once."""

from datetime import datetime

from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import throttling, totp
from app.accounts.models import RecoveryCode, User
from app.ids import Ids
from app.secrets import Sealer


def _place(user_id: str, column: str) -> str:
    return f"users:{user_id}:{column}"


async def pending_secret(session: AsyncSession, *, ids: Ids, sealer: Sealer, user: User) -> str:
    """Return the seed that waits for its first code; made once, so that a reload shows the same.

    `user` is a locked row.
    """
    place = _place(user.id, "totp_pending_sealed")
    if user.totp_pending_sealed is not None:
        return sealer.open_text(user.totp_pending_sealed, place)
    secret = totp.new_secret(ids)
    user.totp_pending_sealed = sealer.seal_text(secret, place)
    await session.flush()
    return secret


async def activate(
    session: AsyncSession, *, ids: Ids, sealer: Sealer, user: User, code: str, now: datetime
) -> list[str] | None:
    """Make the pending seed the factor, if `code` proves that the person has it.

    Returns the new recovery codes, shown once; None for a wrong code or without a pending seed.
    """
    if user.totp_pending_sealed is None:
        return None
    secret = sealer.open_text(user.totp_pending_sealed, _place(user.id, "totp_pending_sealed"))
    step = totp.matching_step(secret, code, now)
    if step is None:
        return None
    user.totp_sealed = sealer.seal_text(secret, _place(user.id, "totp_sealed"))
    user.totp_pending_sealed = None
    user.totp_last_step = step
    user.totp_failures = 0
    user.totp_enrolled_at = now
    await session.flush()
    return await replace_recovery_codes(session, ids=ids, user_id=user.id, now=now)


async def take_code(
    session: AsyncSession, *, sealer: Sealer, user: User, code: str, now: datetime
) -> bool:
    """Take a code of the present time, once; tell whether it counts.

    A wrong one is counted for the life of the seed; at 100 no code counts any more, and only a
    recovery code leads on, to a new seed.
    """
    if user.totp_sealed is None:
        return False
    counted = await session.execute(
        update(User)
        .where(User.id == user.id, User.totp_failures < throttling.CODE_HARD_STOP)
        .values(totp_failures=User.totp_failures + 1)
        .returning(User.id)
    )
    if counted.first() is None:
        return False
    secret = sealer.open_text(user.totp_sealed, _place(user.id, "totp_sealed"))
    step = totp.matching_step(secret, code, now)
    if step is None:
        return False
    taken = await session.execute(
        update(User)
        .where(User.id == user.id, User.totp_last_step < step)
        .values(totp_last_step=step, totp_failures=User.totp_failures - 1)
        .returning(User.id)
    )
    return taken.first() is not None


async def take_recovery_code(
    session: AsyncSession, *, user_id: str, code: str, now: datetime
) -> bool:
    """Take a recovery code, once; tell whether it counts."""
    taken = await session.execute(
        update(RecoveryCode)
        .where(
            RecoveryCode.user_id == user_id,
            RecoveryCode.hash == totp.recovery_hash(code),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=now)
        .returning(RecoveryCode.id)
    )
    return taken.first() is not None


async def replace_recovery_codes(
    session: AsyncSession, *, ids: Ids, user_id: str, now: datetime
) -> list[str]:
    """Make a new set of recovery codes in place of the old one; return it, to be shown once."""
    await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    codes = totp.new_recovery_codes(ids)
    rows = [
        {
            "id": ids("rec"),
            "user_id": user_id,
            "hash": totp.recovery_hash(code),
            "created_at": now,
        }
        for code in codes
    ]
    await session.execute(insert(RecoveryCode), rows)
    return codes
