"""A shop's books with a bit of everything, and a way past the triggers to spoil them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, text

from app import db, jobs
from app.ledger import operations, postings, writer
from app.ledger.postings import Posting
from app.money import Money
from app.payments.models import Attempt, Payment, Refund
from app.reviews import operations as reviews
from app.reviews.models import Review
from app.runtime import Runtime
from app.webhooks.models import Event

SHOP = "mer_alice"
CONNECTION = "conn_sandbox"
WHO: dict[str, Any] = {"merchant_id": SHOP, "livemode": False}


async def add(rt: Runtime, model: Any, **values: Any) -> None:
    async with rt.sessions.begin() as session:
        await session.execute(insert(model).values(**values))


async def post(rt: Runtime, *wanted: Posting) -> None:
    async with rt.sessions.begin() as session:
        for posting in wanted:
            await operations.record(session, posting, now=rt.clock())
    await writer.write_batches(rt, ledger_ids=["test:0"], owner="w1")


def _times(rt: Runtime) -> dict[str, Any]:
    return {"created_at": rt.clock(), "updated_at": rt.clock()}


async def add_payment(rt: Runtime, number: int, **changes: Any) -> None:
    values = {
        "id": f"pay_{number}",
        "connection_id": CONNECTION,
        "psp": "sandbox",
        "amount": 10_000,
        "currency": "eur",
        "status": "succeeded",
        "hosted": False,
        "meta": {},
    }
    await add(rt, Payment, **WHO | values | _times(rt) | changes)


async def add_refund(rt: Runtime, number: int, **changes: Any) -> None:
    values = {
        "id": f"re_{number}",
        "payment_id": "pay_1",
        "amount": 1_000,
        "currency": "eur",
        "status": "succeeded",
        "from_pending": 984,
        "fee_share": 16,
        "meta": {},
    }
    await add(rt, Refund, **WHO | values | _times(rt) | changes)


async def add_attempt(rt: Runtime, attempt: str, kind: str, state: str, **changes: Any) -> None:
    values = {
        "id": attempt,
        "payment_id": "pay_1",
        "connection_id": CONNECTION,
        "kind": kind,
        "state": state,
        "amount": 10_000,
        "currency": "eur",
        "params_sealed": "sealed",
    }
    await add(rt, Attempt, **WHO | values | _times(rt) | changes)


async def add_review(rt: Runtime, attempt: str, kind: str, **changes: Any) -> None:
    values = reviews.row(
        id=f"rev_{attempt}",
        payment_id="pay_1",
        attempt_id=attempt,
        kind=kind,
        amount=10_000,
        currency="eur",
        why="It does not fit.",
        now=rt.clock(),
        **WHO,
    )
    await add(rt, Review, **values | changes)


async def add_job(rt: Runtime, job: str, kind: str, **changes: Any) -> None:
    values = jobs.row(id=job, kind=kind, args={}, queue="psp", now=rt.clock())
    await add(rt, jobs.Job, **values | {"run_at": rt.clock()} | changes)


def captured(number: int, minor: int = 10_000, fee: int = 165) -> Posting:
    return postings.capture(
        attempt_id=f"att_{number}",
        payment_id=f"pay_{number}",
        connection_id=CONNECTION,
        amount=Money(minor, "eur"),
        fee=fee,
        **WHO,
    )


def reserve(number: int, **changes: Any) -> Posting:
    parts = {"from_pending": 984, "from_available": 0, "fee_share": 16, "overdraft_limit": 0}
    of: dict[str, Any] = {"refund_id": f"re_{number}", "payment_id": "pay_1", "currency": "eur"}
    return postings.refund_reserve(**WHO | of | parts | changes)


async def fill(rt: Runtime) -> None:
    """One payment of 100.00 with a refund of 10.00, all told and done; one that never was paid."""
    await add_payment(
        rt,
        1,
        amount_captured=10_000,
        amount_refunded=1_000,
        amount_pending=8_851,
        fee=165,
        fee_returned=16,
        event_sequence=1,
    )
    await add_payment(rt, 2, status="failed", amount=500)
    await add_attempt(rt, "att_1", "charge", "succeeded")
    await add_refund(rt, 1)
    await add_attempt(
        rt, "att_r1", "refund", "succeeded", refund_id="re_1", first_sent_at=rt.clock()
    )
    settle = postings.refund_settle(
        refund_id="re_1",
        payment_id="pay_1",
        connection_id=CONNECTION,
        amount=Money(1_000, "eur"),
        **WHO,
    )
    fee = postings.psp_fee(
        balance_transaction="txn_1",
        connection_id=CONNECTION,
        amount=Money(170, "eur"),
        payment_id="pay_1",
        **WHO,
    )
    await post(rt, captured(1), fee, reserve(1))
    await post(rt, settle)
    await add(
        rt,
        Event,
        **WHO,
        id="evt_1",
        type="payment.succeeded",
        payment_id="pay_1",
        sequence=1,
        body_sealed="sealed",
        fanned_out=True,
        api_version="1",
        created_at=rt.clock() - timedelta(seconds=1),
    )


def held_apart(
    how: Callable[..., Posting], psp_id: str, amount: int, payment_id: str = "pay_1"
) -> Posting:
    charge = {} if how is postings.unexpected_receipt else {"charge": "pi_2"}
    return how(
        psp_id=psp_id,
        **charge,
        connection_id=CONNECTION,
        amount=Money(amount, "eur"),
        payment_id=payment_id,
        **WHO,
    )


async def spoil(rt: Runtime, statement: str) -> None:
    """Change rows behind the application's back: triggers, checks and foreign keys are off."""
    if rt.sessions.sqlite:
        async with rt.sessions.engine.connect() as connection:
            # Of the connection; no transaction is open, in which the first would do nothing.
            await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            await connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            for verb in ("update", "delete"):
                await connection.exec_driver_sql(f"DROP TRIGGER entries_no_{verb}")
            await connection.exec_driver_sql(statement)
            await connection.invalidate()
        return
    async with rt.sessions.begin() as session:
        assert not db.is_sqlite(session)
        await session.execute(text("SET LOCAL session_replication_role = replica"))
        found = await session.execute(
            text(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint "
                "WHERE contype = 'c' AND conrelid::regclass::text IN "
                "('entries', 'payments', 'refunds')"
            )
        )
        for table, name in found.all():
            await session.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
        await session.execute(text(statement))
