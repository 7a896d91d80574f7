"""What a shop sets for its risk check: limits and blocks; each in the caller's transaction."""

import re
from collections.abc import Mapping
from datetime import datetime

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, money
from app.audit import operations as audit
from app.audit.operations import Actor
from app.errors import Conflict, FieldError, Invalid, NotFound
from app.ids import Ids
from app.risk import hashes, queries
from app.risk.models import RiskBlock, RiskSettings
from app.risk.rules import Limits, Terms
from app.secrets import Sealer

MOST_PER_HOUR = 1_000_000
MOST_BLOCKS = 10_000
_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,120}")
_COUNTRY = re.compile(r"[A-Z]{2}")


class AlreadyBlocked(Conflict):
    """The same customer, card or country is on the list."""

    code = "already_blocked"


class BlockUnknown(NotFound):
    """No such block of this shop."""

    code = "block_not_found"


def _wrong(param: str, detail: str) -> Invalid:
    return Invalid(detail, param=param, errors=[FieldError(param, "invalid", detail)])


async def change_terms(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    terms: Terms,
) -> None:
    """Replace what a shop has set. Raises Invalid."""
    _check(terms)
    before = await queries.terms(session, merchant_id=merchant_id)
    if before == terms:
        return
    values = {"merchant_id": merchant_id, "terms": msgspec.to_builtins(terms), "updated_at": now}
    if not await db.insert_once(session, RiskSettings, values):
        query = select(RiskSettings).where(RiskSettings.merchant_id == merchant_id)
        row = (await session.scalars(query.with_for_update())).one()
        row.terms, row.updated_at = values["terms"], now
        await session.flush()
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action="risk.settings_changed",
        object_id=merchant_id,
        merchant_id=merchant_id,
        livemode=None,
        before=msgspec.to_builtins(before),
        after=values["terms"],
    )


def _check(terms: Terms) -> None:
    for name in ("customer_per_hour", "merchant_per_hour"):
        value = getattr(terms, name)
        if value is not None and not 1 <= value <= MOST_PER_HOUR:
            raise _wrong(name, f"Write a whole number from 1 to {MOST_PER_HOUR:,}, or nothing.")
    for code, limits in terms.limits.items():
        if code not in money.CURRENCIES:
            raise _wrong("currency", "This is no ISO 4217 code.")
        for name in Limits.__struct_fields__:
            value = getattr(limits, name)
            if value is not None and not 0 <= value <= money.MAX_AMOUNT:
                raise _wrong(name, "This amount is too large.")
        above = limits.refuse_above
        if above is not None and limits.hold_above is not None and above < limits.hold_above:
            raise _wrong("refuse_above", "Refuse from the same or a larger amount than you hold.")


async def block(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    sealer: Sealer,
    merchant_id: str,
    kind: str,
    value: str,
    note: str,
) -> str:
    """Put a customer (`email`), a saved card (`method`) or a `country` on the blocklist.

    Returns the block's id. Raises Invalid, AlreadyBlocked.
    """
    kept = _kept(sealer, kind, value.strip())
    words = " ".join(note.split())
    if len(words) > 80 or not words.isprintable():
        raise _wrong("note", "Write at most 80 printable characters.")
    number = select(func.count()).where(RiskBlock.merchant_id == merchant_id)
    if (await session.scalar(number) or 0) >= MOST_BLOCKS:
        raise _wrong("value", f"The list holds {MOST_BLOCKS:,} entries at most.")
    values = {
        "id": ids("blk"),
        "merchant_id": merchant_id,
        "kind": kind,
        "value": kept,
        "note": words,
        "created_by": actor.name[:200],
        "created_at": now,
    }
    if not await db.insert_once(session, RiskBlock, values):
        raise AlreadyBlocked("This is on your list already.", param="value")
    await _audit(session, ids, now, actor, merchant_id, "risk.blocked", values)
    return str(values["id"])


def _kept(sealer: Sealer, kind: str, value: str) -> str:
    """Return what is stored of a block: never the address itself."""
    if kind == "email" and len(value) <= 254 and _EMAIL.fullmatch(value):
        return hashes.of_email(sealer, value)
    if kind == "method" and _TOKEN.fullmatch(value):
        return hashes.of_method(sealer, value)
    if kind == "country" and _COUNTRY.fullmatch(value.upper()):
        return value.upper()
    wanted = {
        "email": "Write an e-mail address.",
        "method": "Write the PSP's token of the card, like pm_card_visa.",
        "country": "Write two letters, like DE.",
    }
    if kind not in wanted:
        raise _wrong("kind", "Choose what to block.")
    raise _wrong("value", wanted[kind])


async def unblock(
    session: AsyncSession,
    *,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    block_id: str,
) -> None:
    """Take an entry off the blocklist. Raises BlockUnknown."""
    query = select(RiskBlock).where(RiskBlock.id == block_id, RiskBlock.merchant_id == merchant_id)
    row = await session.scalar(query.with_for_update())
    if row is None:
        raise BlockUnknown("This entry is not on your list (any more).")
    values = {"id": row.id, "kind": row.kind, "value": row.value, "note": row.note}
    await session.delete(row)
    await session.flush()
    await _audit(session, ids, now, actor, merchant_id, "risk.unblocked", values)


async def _audit(
    session: AsyncSession,
    ids: Ids,
    now: datetime,
    actor: Actor,
    merchant_id: str,
    action: str,
    values: Mapping[str, object],
) -> None:
    # The hash of an address stays out of the log, which is kept for longer than the list.
    told = {"kind": values["kind"], "note": values["note"]}
    if values["kind"] == "country":
        told["country"] = values["value"]
    await audit.record(
        session,
        ids=ids,
        now=now,
        actor=actor,
        action=action,
        object_id=str(values["id"]),
        merchant_id=merchant_id,
        livemode=None,
        after=told,
    )
