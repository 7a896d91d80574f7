"""Tables of the ledger: ledgers, accounts, postings (what to record) and entries (what was)."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app import db

_ID = db.id_column_type()
# SQLite numbers rows by itself only in a column of type INTEGER.
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")


class Ledger(db.Base):
    """One total order of entries: a mode and a shard, such as `test:0`."""

    __tablename__ = "ledgers"

    id: Mapped[str] = mapped_column(String(20), primary_key=True)
    livemode: Mapped[bool]
    shard: Mapped[int]
    last_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    # The one writer's lease; `fence` is raised by each new holder and checked in each batch.
    owner: Mapped[str | None] = mapped_column(String(80))
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    lease_until: Mapped[datetime | None]


class Account(db.Base):
    """A balance, in its normal direction. The id is `<ledger>:<kind>:<owner>:<currency>`."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    ledger_id: Mapped[str] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(30))
    livemode: Mapped[bool]
    merchant_id: Mapped[str | None] = mapped_column(_ID)
    owner: Mapped[str] = mapped_column(String(80))  # Merchant, PSP connection, or "platform".
    currency: Mapped[str] = mapped_column(String(3))
    balance: Mapped[int] = mapped_column(BigInteger, default=0)
    version: Mapped[int] = mapped_column(BigInteger, default=0)  # The number of its entries.
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_accounts_merchant_id", "merchant_id", "livemode"),)


class PostingRow(db.Base):
    """What the ledger is to record; answered once by the writer and kept."""

    __tablename__ = "postings"

    id: Mapped[int] = mapped_column(_SERIAL, primary_key=True, autoincrement=True)
    ledger_id: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(160), unique=True)
    kind: Mapped[str] = mapped_column(String(30))
    livemode: Mapped[bool]
    merchant_id: Mapped[str | None] = mapped_column(_ID)
    payment_id: Mapped[str | None] = mapped_column(_ID)
    refund_id: Mapped[str | None] = mapped_column(_ID)
    transfers: Mapped[Any] = mapped_column(db.json_column_type())  # [[debit, credit, minor], …]
    guard: Mapped[Any] = mapped_column(db.json_column_type(), nullable=True)  # [account, minimum]
    answer_job: Mapped[Any] = mapped_column(db.json_column_type(), nullable=True)
    status: Mapped[str] = mapped_column(String(10), default="waiting")
    seq: Mapped[int | None] = mapped_column(BigInteger)  # Of its last entry, once accepted.
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_postings_waiting",
            "ledger_id",
            "id",
            postgresql_where=text("status = 'waiting'"),
            sqlite_where=text("status = 'waiting'"),
        ),
        Index("ix_postings_payment_id", "payment_id"),
        Index(
            "ix_postings_merchant_waiting",
            "merchant_id",
            "livemode",
            postgresql_where=text("status = 'waiting'"),
            sqlite_where=text("status = 'waiting'"),
        ),
    )


class Entry(db.Base):
    """One line of the ledger: append-only, held by triggers on both databases."""

    __tablename__ = "entries"

    ledger_id: Mapped[str] = mapped_column(String(20), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    posting_id: Mapped[int] = mapped_column(BigInteger)
    line: Mapped[int]
    account_id: Mapped[str] = mapped_column(String(160))
    debit: Mapped[int] = mapped_column(BigInteger)
    credit: Mapped[int] = mapped_column(BigInteger)
    before: Mapped[int] = mapped_column(BigInteger)
    after: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[int] = mapped_column(BigInteger)  # Microseconds since 1970 UTC.

    __table_args__ = (
        CheckConstraint(
            "(debit > 0 AND credit = 0) OR (credit > 0 AND debit = 0)", name="one_side"
        ),
        Index("ix_entries_account_id", "account_id", "seq"),
        Index("ix_entries_posting_id", "posting_id"),
    )
