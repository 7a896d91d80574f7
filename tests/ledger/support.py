"""Postings as tests write them, and what the ledger says afterwards."""

from typing import Any

from sqlalchemy import insert, select

from app.jobs import Job
from app.ledger import chart, operations, postings, writer
from app.ledger.models import Account, Entry, PostingRow
from app.ledger.postings import AnswerJob, Posting
from app.money import Money
from app.runtime import Runtime

SHOP = "mer_alice"
LEDGER = "test:0"
PSP = "conn_sandbox"


def eur(minor: int) -> Money:
    return Money(minor, "eur")


def account(kind: str, owner: str = SHOP, currency: str = "eur", ledger: str = LEDGER) -> str:
    return chart.account_id(ledger, kind, owner, currency)


def captured(number: int, minor: int = 10_000, fee: int = 165, **changes: Any) -> Posting:
    values: dict[str, Any] = {
        "attempt_id": f"att_{number}",
        "payment_id": f"pay_{number}",
        "merchant_id": SHOP,
        "livemode": False,
        "connection_id": PSP,
        "amount": eur(minor),
        "fee": fee,
    }
    return postings.capture(**values | changes)


def settled(number: int, minor: int, **changes: Any) -> Posting:
    values: dict[str, Any] = {
        "payment_id": f"pay_{number}",
        "merchant_id": SHOP,
        "livemode": False,
        "amount": eur(minor),
    }
    return postings.settle(**values | changes)


def reserved(number: int, **changes: Any) -> Posting:
    values: dict[str, Any] = {
        "refund_id": f"re_{number}",
        "payment_id": "pay_1",
        "merchant_id": SHOP,
        "livemode": False,
        "currency": "eur",
        "from_pending": 0,
        "from_available": 0,
        "fee_share": 0,
        "overdraft_limit": 0,
        "answer_accepted_job": AnswerJob("payments.send_refund", {"refund_id": "re"}, "psp"),
        "answer_refused_job": AnswerJob("payments.refund_refused", {"refund_id": "re"}, "psp"),
    }
    return postings.refund_reserve(**values | changes)


async def record(rt: Runtime, *wanted: Posting) -> None:
    async with rt.sessions.begin() as session:
        for posting in wanted:
            await operations.record(session, posting, now=rt.clock())


async def write(rt: Runtime, *wanted: Posting) -> int:
    """Record postings and have them written at once."""
    await record(rt, *wanted)
    return await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1")


async def plant(rt: Runtime, **changes: object) -> None:
    """Write a posting row past the constructors, as a bug or a foreign hand would."""
    values = operations.row(captured(900), now=rt.clock()) | {"key": "planted"} | changes
    async with rt.sessions.begin() as session:
        await session.execute(insert(PostingRow).values(**values))


async def rows(rt: Runtime, model: Any, *where: Any) -> list[Any]:
    async with rt.sessions.read() as session:
        key = [Entry.seq] if model is Entry else [model.id]
        return list((await session.execute(select(model).where(*where).order_by(*key))).scalars())


async def balances(rt: Runtime) -> dict[str, int]:
    """Return balances by kind, of accounts that any entry has touched."""
    return {found.kind: found.balance for found in await rows(rt, Account)}


async def answers(rt: Runtime) -> list[str]:
    return [found.status for found in await rows(rt, PostingRow)]


async def jobs(rt: Runtime, kind: str | None = None) -> list[Job]:
    return await rows(rt, Job, *([Job.kind == kind] if kind else []))
