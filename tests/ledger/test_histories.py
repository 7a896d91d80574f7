"""Whole lives of a ledger: random histories against a plain model, and writers cut anywhere."""

import asyncio
import contextlib
import random
from typing import Any

import pytest

from app.ledger import postings, writer
from app.ledger.models import Entry
from app.ledger.postings import Posting
from app.money import Money
from app.runtime import Runtime
from app.verification import books
from app.verification.rule import Rule
from tests.ledger.support import (
    LEDGER,
    PSP,
    SHOP,
    answers,
    balances,
    captured,
    plant,
    record,
    reserved,
    rows,
    settled,
)
from tests.ledger.support import jobs as jobs_of

_OF: dict[str, Any] = {"payment_id": "pay_1", "merchant_id": SHOP, "livemode": False}


async def broken(rt: Runtime) -> list[tuple[Rule, str]]:
    """Return what breaks a rule of the books. Rules of payments need payments, so not those."""
    found = []
    async with rt.sessions.read() as session:
        for rule in books.RULES:
            statement = rule.statement(sqlite=rt.sessions.sqlite, limit=3)
            found += [(rule, f"{what}: {why}") for what, why in await session.execute(statement)]
    return found


class Model:
    """The wallet as a few plain numbers, to compare the ledger with."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pending = self.available = self.in_flight = self.fees = 0
        self.open: list[tuple[int, int, int, int]] = []
        self.number = 0
        self.expected: list[str] = []

    def next(self) -> Posting:
        """Return one more posting and do to the model what the ledger should do."""
        self.number += 1
        step = self.random.choice(("capture", "settle", "reserve", "reserve", "end"))
        if step == "settle" and self.pending:
            return self._settle()
        if step == "reserve":
            return self._reserve()
        if step == "end" and self.open:
            return self._end()
        amount = self.random.randint(1, 1_000)
        fee = postings.platform_fee(amount, 140, 25)
        self.pending += amount - fee
        self.fees += fee
        self.expected.append("accepted")
        return captured(self.number, amount, fee)

    def _settle(self) -> Posting:
        amount = self.random.randint(1, self.pending)
        self.pending -= amount
        self.available += amount
        self.expected.append("accepted")
        return settled(self.number, amount)

    def _reserve(self) -> Posting:
        own = self.random.randint(1, 600)
        from_pending, from_available = postings.split_refund(own, self.pending // 2)
        share = self.random.randint(0, min(self.fees, 10))
        if from_available and self.available < from_available:
            self.expected.append("refused")
        else:
            self.expected.append("accepted")
            self.pending -= from_pending
            self.available -= from_available
            self.fees -= share
            self.in_flight += own + share
            self.open.append((self.number, from_pending, from_available, share))
        return reserved(
            self.number, from_pending=from_pending, from_available=from_available, fee_share=share
        )

    def _end(self) -> Posting:
        number, from_pending, from_available, share = self.open.pop(
            self.random.randrange(len(self.open))
        )
        amount = from_pending + from_available + share
        self.in_flight -= amount
        self.expected.append("accepted")
        if self.random.random() < 0.5:
            return postings.refund_settle(
                refund_id=f"re_{number}", connection_id=PSP, amount=Money(amount, "eur"), **_OF
            )
        has_settled = self.random.random() < 0.5
        self.fees += share
        self.available += from_available + (from_pending if has_settled else 0)
        self.pending += 0 if has_settled else from_pending
        return postings.refund_release(
            refund_id=f"re_{number}",
            currency="eur",
            from_pending=from_pending,
            from_available=from_available,
            fee_share=share,
            settled=has_settled,
            **_OF,
        )


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_history_ends_where_plain_arithmetic_ends(rt: Runtime, seed: int) -> None:
    model = Model(seed)
    for _ in range(8):
        await record(rt, *[model.next() for _ in range(model.random.randint(1, 40))])
        limit = model.random.choice((3, 500))
        while await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1", limit=limit):
            pass
    assert await answers(rt) == model.expected
    assert "refused" in model.expected
    found = await balances(rt)
    assert found.get("merchant_pending", 0) == model.pending
    assert found.get("merchant_available", 0) == model.available
    assert found.get("refunds_in_flight", 0) == model.in_flight
    assert found.get("platform_fees", 0) == model.fees
    assert found["psp_receivable"] == (
        model.pending + model.available + model.in_flight + model.fees
    )
    assert await broken(rt) == []


async def test_a_writer_cut_at_any_point_leaves_whole_batches_only(rt: Runtime) -> None:
    # SIGTERM cancels at an await: try each of them in turn (traps 0.7).
    number = 0
    for step in range(0, 120, 3):
        await record(rt, *[captured(number + extra) for extra in range(3)])
        number += 3
        task = asyncio.create_task(writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1"))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert await broken(rt) == []
    while await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1"):
        pass
    assert await answers(rt) == ["accepted"] * number
    assert len(await rows(rt, Entry)) == 4 * number
    assert await broken(rt) == []


async def test_an_answer_job_that_cannot_be_made_fails_its_posting_alone(rt: Runtime) -> None:
    await record(rt, captured(1))
    await plant(rt, answer_job={"accepted": {"kind": "payments.send_refund"}})
    await record(rt, captured(2))
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1") == 3
    assert await answers(rt) == ["accepted", "failed", "accepted"]
    (dead,) = await jobs_of(rt, writer.DEAD_LETTER)
    assert "KeyError: 'queue'" in (dead.reason or "")
    assert await broken(rt) == []
