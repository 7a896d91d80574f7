"""The writer's statements on many rows: arrays on PostgreSQL, repeated statements on SQLite."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.ledger import chart
from app.ledger.batch import Answer, Balance, Line
from app.ledger.models import Account

_FIELDS = ("seq", "posting_id", "line", "account_id", "debit", "credit", "before", "after")
_ENTRIES_POSTGRESQL = text(
    "INSERT INTO entries (ledger_id, recorded_at, seq, posting_id, line, account_id, debit, "
    'credit, "before", "after") '
    "SELECT CAST(:ledger_id AS text), CAST(:recorded_at AS bigint), new.* FROM unnest("
    "CAST(:seq AS bigint[]), CAST(:posting_id AS bigint[]), CAST(:line AS int[]), "
    "CAST(:account_id AS text[]), CAST(:debit AS bigint[]), CAST(:credit AS bigint[]), "
    "CAST(:before AS bigint[]), CAST(:after AS bigint[])) AS new"
)
_ENTRIES_SQLITE = text(
    "INSERT INTO entries (ledger_id, recorded_at, seq, posting_id, line, account_id, debit, "
    'credit, "before", "after") VALUES (:ledger_id, :recorded_at, :seq, :posting_id, :line, '
    ":account_id, :debit, :credit, :before, :after)"
)
_MOVE_POSTGRESQL = text(
    "UPDATE accounts SET balance = new.balance, version = new.version FROM unnest("
    "CAST(:id AS text[]), CAST(:balance AS bigint[]), CAST(:version AS bigint[])) "
    "AS new(id, balance, version) WHERE accounts.id = new.id"
)
_MOVE_SQLITE = text("UPDATE accounts SET balance = :balance, version = :version WHERE id = :id")
_NOW = bindparam("now", type_=db.Utc())
_STAMP_POSTGRESQL = text(
    "UPDATE postings SET status = new.status, seq = new.seq, reason = new.reason, "
    "answered_at = :now FROM unnest(CAST(:id AS bigint[]), CAST(:status AS text[]), "
    "CAST(:seq AS bigint[]), CAST(:reason AS text[])) AS new(id, status, seq, reason) "
    "WHERE postings.id = new.id"
).bindparams(_NOW)
_STAMP_SQLITE = text(
    "UPDATE postings SET status = :status, seq = :seq, reason = :reason, answered_at = :now "
    "WHERE id = :id"
).bindparams(_NOW)


async def lock_accounts(
    session: AsyncSession, names: Sequence[str], *, now: datetime
) -> dict[str, Balance]:
    """Hold the accounts' rows, in the order given (sorted); make those that are missing."""
    locked = (
        select(Account.id, Account.balance, Account.version)
        .where(Account.id.in_(names))
        .order_by(Account.id)
        .with_for_update()
    )
    found = {line.id: line for line in await session.execute(locked)}
    missing = [name for name in names if name not in found]
    if missing:
        make = sqlite.insert if db.is_sqlite(session) else postgresql.insert
        made = [_new_account(name, now) for name in missing]
        await session.execute(make(Account).on_conflict_do_nothing(), made)
    return {
        name: Balance(found[name].balance, found[name].version) if name in found else Balance()
        for name in names
    }


def _new_account(account: str, now: datetime) -> dict[str, object]:
    name = chart.parse(account)
    merchants = chart.KINDS[name.kind].owned_by == "merchant"
    return {
        "id": account,
        "ledger_id": name.ledger_id,
        "kind": name.kind,
        "livemode": chart.LEDGERS[name.ledger_id],
        "merchant_id": name.owner if merchants else None,
        "owner": name.owner,
        "currency": name.currency,
        "balance": 0,
        "version": 0,
        "created_at": now,
    }


async def insert_entries(
    session: AsyncSession, ledger_id: str, lines: Sequence[Line], *, recorded_at: int
) -> None:
    """Append lines to the ledger; `recorded_at` in microseconds since 1970."""
    if not lines:
        return
    common = {"ledger_id": ledger_id, "recorded_at": recorded_at}
    if db.is_sqlite(session):
        many = [common | dict(zip(_FIELDS, line, strict=True)) for line in lines]
        await session.execute(_ENTRIES_SQLITE, many)
        return
    columns = zip(_FIELDS, map(list, zip(*lines, strict=True)), strict=True)
    await session.execute(_ENTRIES_POSTGRESQL, common | dict(columns))


async def move_accounts(session: AsyncSession, moved: Mapping[str, Balance]) -> None:
    """Set each account to its new balance, once a batch."""
    if not moved:
        return
    if db.is_sqlite(session):
        many = [
            {"id": name, "balance": balance.minor, "version": balance.version}
            for name, balance in moved.items()
        ]
        await session.execute(_MOVE_SQLITE, many)
        return
    await session.execute(
        _MOVE_POSTGRESQL,
        {
            "id": list(moved),
            "balance": [balance.minor for balance in moved.values()],
            "version": [balance.version for balance in moved.values()],
        },
    )


async def stamp_postings(
    session: AsyncSession, answers: Sequence[Answer], *, now: datetime
) -> None:
    """Write each posting's answer onto its row."""
    many = [
        {"id": a.posting.id, "status": a.status, "seq": a.seq, "reason": a.reason} for a in answers
    ]
    if db.is_sqlite(session):
        await session.execute(_STAMP_SQLITE, [one | {"now": now} for one in many])
        return
    columns = {name: [one[name] for one in many] for name in ("id", "status", "seq", "reason")}
    await session.execute(_STAMP_POSTGRESQL, columns | {"now": now})
