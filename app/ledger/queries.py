"""Reading the ledger: balances, lines, positions, and how the writer is doing."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, Select, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.errors import Invalid, NotFound
from app.ledger import chart
from app.ledger.models import Account, Entry, Ledger, PostingRow
from app.ledger.postings import Transfer

_PART_OF = {kind: part for part, kind in chart.PARTS.items()}


class NoSuchEntry(NotFound):
    """No entry of this merchant has that id."""


class NotAnEntryId(Invalid):
    """An id that cannot be one of an entry."""


class Balance(msgspec.Struct, frozen=True):
    """A wallet in one currency, in minor units, as a merchant sees it."""

    currency: str
    available: int = 0
    pending: int = 0
    reserved: int = 0


class Wallet(msgspec.Struct, frozen=True):
    """A merchant's balances by currency, and the position that they include."""

    balances: tuple[Balance, ...]
    position: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as the merchant sees it; `part` is available, pending or reserved.

    `change` is what the merchant has more (or less), `before` and `after` are of that part.
    """

    id: str
    position: int
    livemode: bool
    kind: str
    part: str
    currency: str
    change: int
    before: int
    after: int
    payment_id: str | None
    refund_id: str | None
    recorded_at: datetime


class PostingState(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger was asked to record about a payment, and its answer."""

    id: int
    key: str
    kind: str
    status: str
    position: int | None
    reason: str | None
    refund_id: str | None
    transfers: tuple[tuple[str, str, int], ...]  # Kinds of account: debit, credit; amount.
    currency: str
    created_at: datetime
    answered_at: datetime | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a ledger's writer is doing."""

    ledger_id: str
    livemode: bool
    position: int
    owner: str | None
    lease_until: datetime | None
    last_batch_at: datetime | None
    waiting: int
    oldest_waiting_at: datetime | None


def entry_id(ledger_id: str, seq: int) -> str:
    """Return the public id of an entry: `le_test0_48209`."""
    return f"le_{ledger_id.replace(':', '')}_{seq}"


def parse_entry_id(value: str, *, livemode: bool) -> int:
    """Return the position that an entry's id names. Raises NotAnEntryId."""
    head, _, number = value.rpartition("_")
    expected = entry_id(chart.ledger_of(livemode), 0).rpartition("_")[0]
    if head != expected or not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise NotAnEntryId(f"{value[:60]!r} is not the id of a ledger entry.")
    return int(number)


async def balance(session: AsyncSession, *, merchant_id: str, livemode: bool) -> Wallet:
    """Return a merchant's wallet by currency and the position that it includes."""
    # One statement, so that the balances and the position are of the same moment.
    mine = and_(Account.merchant_id == merchant_id, Account.livemode == livemode)
    found = await session.execute(
        select(Ledger.last_seq, Account.kind, Account.currency, Account.balance)
        .select_from(Ledger)
        .outerjoin(Account, and_(Account.ledger_id == Ledger.id, mine))
        .where(Ledger.id == chart.ledger_of(livemode))
    )
    lines = found.all()
    by_currency: dict[str, dict[str, int]] = {}
    for line in lines:
        if line.kind in _PART_OF:
            by_currency.setdefault(line.currency, {})[_PART_OF[line.kind]] = line.balance
    balances = tuple(Balance(currency, **by_currency[currency]) for currency in sorted(by_currency))
    return Wallet(balances, lines[0].last_seq)


async def position(session: AsyncSession, ledger_id: str) -> int:
    """Return the position of a ledger's last entry. Raises NoResultFound for no such ledger."""
    found = await session.execute(select(Ledger.last_seq).where(Ledger.id == ledger_id))
    return int(found.scalar_one())


async def entries(
    session: AsyncSession,
    *,
    merchant_id: str,
    livemode: bool,
    parts: Collection[str] = tuple(chart.PARTS),
    currency: str | None = None,
    payment_id: str | None = None,
    starting_after: str | None = None,
    ending_before: str | None = None,
    limit: int = 20,
) -> tuple[list[Line], bool]:
    """Return a page of a merchant's entries, newest first, and whether there are more.

    More means further on in the direction asked for. Raises NotAnEntryId and NoSuchEntry for a
    cursor that is none of this merchant's entries.
    """
    wanted = _lines(merchant_id, livemode, parts, currency)
    if payment_id is not None:
        wanted = wanted.where(PostingRow.payment_id == payment_id)
    backwards = ending_before is not None
    for param, cursor in (("starting_after", starting_after), ("ending_before", ending_before)):
        if cursor is None:
            continue
        seq = parse_entry_id(cursor, livemode=livemode)
        known = await session.execute(_lines(merchant_id, livemode).where(Entry.seq == seq))
        if known.first() is None:
            raise NoSuchEntry(f"There is no ledger entry {cursor[:60]!r}.", param=param)
        wanted = wanted.where(Entry.seq > seq if param == "ending_before" else Entry.seq < seq)
    order = Entry.seq.asc() if backwards else Entry.seq.desc()
    found = (await session.execute(wanted.order_by(order).limit(limit + 1))).all()
    page = [_line(row) for row in found[:limit]]
    return page[::-1] if backwards else page, len(found) > limit


async def payment_lines(
    session: AsyncSession, *, merchant_id: str, livemode: bool, payment_id: str
) -> list[Line]:
    """Return what a payment did to its merchant's wallet, oldest first."""
    wanted = _lines(merchant_id, livemode).where(PostingRow.payment_id == payment_id)
    found = await session.execute(wanted.order_by(Entry.seq))
    return [_line(row) for row in found]


async def payment_postings(
    session: AsyncSession, *, merchant_id: str, livemode: bool, payment_id: str
) -> list[PostingState]:
    """Return what the ledger was asked to record about a payment, in the order asked."""
    found = await session.execute(
        select(PostingRow)
        .where(
            PostingRow.merchant_id == merchant_id,
            PostingRow.livemode == livemode,
            PostingRow.payment_id == payment_id,
        )
        .order_by(PostingRow.id)
    )
    return [_posting(row) for row in found.scalars()]


async def last_waiting(session: AsyncSession, *, merchant_id: str, livemode: bool) -> int | None:
    """Return the id of the merchant's newest posting without an answer, None for no such."""
    found: int | None = await session.scalar(
        select(func.max(PostingRow.id)).where(*_waiting_of(merchant_id, livemode))
    )
    return found


async def waiting_count(
    session: AsyncSession, *, merchant_id: str, livemode: bool, upto: int | None = None
) -> int:
    """Return how many of a merchant's postings wait for the writer.

    `upto`: only postings up to this id, which `last_waiting` told.
    """
    wanted = select(func.count()).where(*_waiting_of(merchant_id, livemode))
    if upto is not None:
        wanted = wanted.where(PostingRow.id <= upto)
    return int((await session.execute(wanted)).scalar_one())


async def health(session: AsyncSession) -> list[Health]:
    """Return the state of each ledger's writer."""
    waiting = (
        select(func.count(), func.min(PostingRow.created_at))
        .where(PostingRow.status == "waiting")
        .add_columns(PostingRow.ledger_id)
        .group_by(PostingRow.ledger_id)
    )
    queued = {ledger: (count, oldest) for count, oldest, ledger in await session.execute(waiting)}
    told = []
    for ledger in (await session.execute(select(Ledger).order_by(Ledger.id))).scalars():
        last = await session.scalar(
            select(Entry.recorded_at)
            .where(Entry.ledger_id == ledger.id)
            .order_by(Entry.seq.desc())
            .limit(1)
        )
        count, oldest = queued.get(ledger.id, (0, None))
        told.append(
            Health(
                ledger_id=ledger.id,
                livemode=ledger.livemode,
                position=ledger.last_seq,
                owner=ledger.owner,
                lease_until=ledger.lease_until,
                last_batch_at=None if last is None else db.from_micros(last),
                waiting=count,
                oldest_waiting_at=oldest,
            )
        )
    return told


def _waiting_of(merchant_id: str, livemode: bool) -> tuple[Any, ...]:
    return (
        PostingRow.merchant_id == merchant_id,
        PostingRow.livemode == livemode,
        PostingRow.status == "waiting",
    )


def _lines(
    merchant_id: str,
    livemode: bool,
    parts: Collection[str] = tuple(chart.PARTS),
    currency: str | None = None,
) -> Select[Any]:
    mine = (
        select(Account.id)
        .where(
            Account.merchant_id == merchant_id,
            Account.livemode == livemode,
            Account.kind.in_([chart.PARTS[part] for part in parts]),
        )
        .where(*([Account.currency == currency] if currency else []))
    )
    return (
        select(
            Entry.ledger_id,
            Entry.seq,
            Entry.account_id,
            case((Entry.credit > 0, Entry.credit), else_=-Entry.debit).label("change"),
            Entry.before,
            Entry.after,
            Entry.recorded_at,
            PostingRow.kind,
            PostingRow.payment_id,
            PostingRow.refund_id,
            PostingRow.livemode,
        )
        .join(PostingRow, PostingRow.id == Entry.posting_id)
        .where(Entry.ledger_id == chart.ledger_of(livemode), Entry.account_id.in_(mine))
    )


def _line(row: Row[Any]) -> Line:
    name = chart.parse(row.account_id)
    return Line(
        id=entry_id(row.ledger_id, row.seq),
        position=row.seq,
        livemode=row.livemode,
        kind=row.kind,
        part=_PART_OF[name.kind],
        currency=name.currency,
        change=row.change,
        before=row.before,
        after=row.after,
        payment_id=row.payment_id,
        refund_id=row.refund_id,
        recorded_at=db.from_micros(row.recorded_at),
    )


def _posting(row: PostingRow) -> PostingState:
    # A posting that failed may hold anything; what is unreadable in it is left out.
    try:
        transfers = msgspec.convert(row.transfers, tuple[Transfer, ...])
        names = [(chart.parse(one.debit), chart.parse(one.credit), one.minor) for one in transfers]
    except ValueError:
        names = []
    return PostingState(
        id=row.id,
        key=row.key,
        kind=row.kind,
        status=row.status,
        position=row.seq,
        reason=row.reason,
        refund_id=row.refund_id,
        transfers=tuple((debit.kind, credit.kind, minor) for debit, credit, minor in names),
        currency=names[0][0].currency if names else "",
        created_at=row.created_at,
        answered_at=row.answered_at,
    )
