from datetime import timedelta

import pytest
from sqlalchemy import text, update

from app.ledger import operations, postings
from app.money import Money
from app.payments.models import Payment
from app.runtime import Runtime
from app.verification.queries import RULES, Report, verify
from tests.support.invariants import check_invariants
from tests.verification.support import (
    CONNECTION,
    WHO,
    add_attempt,
    add_job,
    add_payment,
    add_refund,
    add_review,
    captured,
    fill,
    held_apart,
    post,
    reserve,
    spoil,
)


async def report_of(rt: Runtime) -> Report:
    async with rt.sessions.snapshot() as session:
        return await verify(session)


async def test_books_that_are_right_hold_and_say_so_in_one_line(rt: Runtime) -> None:
    await fill(rt)
    report = await check_invariants(rt)
    assert report.invariants == ("I1", "I2", "I4", "I5", "I10", "I13", "I14", "I16")
    assert report.positions == {"live:0": 0, "test:0": 12}
    assert report.counts["payments"] == 2
    sentence = report.sentence()
    assert sentence.startswith("I1, I2, I4, I5, I10, I13, I14, I16 hold: ")
    assert f" hold: {len(RULES)} rules over 2 pay" in sentence
    assert "test:0 at 12" in sentence
    assert "\n" not in sentence


async def test_an_empty_database_holds(rt: Runtime) -> None:
    assert (await check_invariants(rt)).counts["entries"] == 0


async def test_a_posting_that_waits_breaks_nothing(rt: Runtime) -> None:
    await fill(rt)
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Payment)
            .where(Payment.id == "pay_2")
            .values(status="succeeded", amount_captured=500, amount_pending=500)
        )
        await operations.record(session, captured(2, 500, 0), now=rt.clock())
    assert (await check_invariants(rt)).waiting == 1


_DOUBLED = (
    "INSERT INTO entries SELECT ledger_id, seq + 12, posting_id, 77, account_id, debit, credit, "
    '"before", "after", recorded_at FROM entries WHERE seq IN (11, 12)'
)
# What somebody does to the books, the rule that notices, and the row that it must name.
ENTRIES = [
    ("UPDATE entries SET debit = 9999 WHERE seq = 1", "I1", "balances in one", "capture:att_1"),
    ("UPDATE entries SET debit = 5, credit = 5 WHERE seq = 1", "I1", "one side", "test:0 1"),
    ("UPDATE entries SET debit = -5 WHERE seq = 1", "I1", "one side", "test:0 1"),
    ("UPDATE entries SET posting_id = 99 WHERE seq = 5", "I1", "belongs to", "test:0 5"),
    ("UPDATE entries SET line = 9 WHERE seq = 5", "I1", "asked for is in", "psp_fee:txn_1"),
    (
        "UPDATE entries SET account_id = 'test:0:suspense:platform:eur' WHERE seq = 5",
        "I1",
        "asked for is in",
        "psp_fee:txn_1",
    ),
    (
        _DOUBLED,
        "I1",
        "nothing else",
        "refund_settle:re_1",
    ),
    ("UPDATE postings SET seq = 5 WHERE kind = 'capture'", "I1", "last entry", "capture:att_1"),
    ("UPDATE postings SET seq = NULL WHERE kind = 'capture'", "I1", "last entry", "capture:att_1"),
    ("DELETE FROM entries WHERE seq = 3", "I1", "no gap", "test:0 4"),
    ("DELETE FROM entries WHERE seq IN (11, 12)", "I1", "its last position", "ledger test:0"),
    ("UPDATE ledgers SET last_seq = 13 WHERE id = 'test:0'", "I1", "last position", "test:0"),
    ('UPDATE entries SET "before" = 1 WHERE seq = 3', "I2", "balance before", "test:0 3"),
    ('UPDATE entries SET "after" = 1 WHERE seq = 12', "I2", "balance before", "test:0 12"),
    (
        "UPDATE accounts SET balance = balance + 1 WHERE kind = 'merchant_pending'",
        "I2",
        "sum of its entries",
        "test:0:merchant_pending:mer_alice:eur",
    ),
    ("UPDATE accounts SET version = 9 WHERE kind = 'psp_fees'", "I2", "sum of", "psp_fees"),
    ("DELETE FROM accounts WHERE kind = 'psp_fees'", "I2", "has its account", "test:0 5"),
    (
        "UPDATE postings SET status = 'lost' WHERE kind = 'psp_fee'",
        "I10",
        "waiting or answered",
        "psp_fee:txn_1",
    ),
    (
        "UPDATE postings SET answered_at = NULL WHERE kind = 'psp_fee'",
        "I10",
        "waiting or answered",
        "psp_fee:txn_1",
    ),
    (
        "UPDATE accounts SET owner = 'mer_x' WHERE kind = 'psp_fees'",
        "I13",
        "its id says",
        "psp_fees",
    ),
    (
        "UPDATE accounts SET merchant_id = 'mer_x' WHERE kind = 'merchant_pending'",
        "I13",
        "own merchant",
        "test:0 2",
    ),
    (
        "UPDATE accounts SET livemode = NOT livemode WHERE kind = 'psp_fees'",
        "I13",
        "its id says",
        "psp_fees",
    ),
    ('UPDATE entries SET "after" = -1 WHERE seq = 7', "I14", "below zero", "test:0 7"),
    (
        "UPDATE entries SET account_id = 'test:0:merchant_available:mer_alice:eur' WHERE seq = 7",
        "I2",
        "has its account",
        "test:0 7",
    ),
]
PAYMENTS = [
    ("UPDATE payments SET amount_captured = 9999 WHERE id = 'pay_1'", "I4", "captured is", "pay_1"),
    ("UPDATE payments SET amount = 9999 WHERE id = 'pay_1'", "I4", "captured is", "pay_1"),
    ("UPDATE payments SET fee = 164 WHERE id = 'pay_1'", "I4", "captured is", "pay_1"),
    ("UPDATE payments SET amount_pending = 0 WHERE id = 'pay_1'", "I4", "pending is", "pay_1"),
    ("UPDATE postings SET payment_id = 'pay_9' WHERE kind = 'psp_fee'", "I4", "exists", "txn_1"),
    (
        "UPDATE payments SET amount_refunded = 0 WHERE id = 'pay_1'",
        "I5",
        "refunds that did not fail",
        "pay_1",
    ),
    ("UPDATE payments SET fee_returned = 0 WHERE id = 'pay_1'", "I5", "refunds that", "pay_1"),
    ("UPDATE refunds SET amount = 10001", "I5", "refunds that did not", "pay_1"),
    ("UPDATE refunds SET from_pending = 983", "I5", "its reserve took", "re_1"),
    ("UPDATE refunds SET status = 'pending'", "I5", "set aside until", "re_1"),
    ("UPDATE refunds SET status = 'failed'", "I5", "PSP gave back", "re_1"),
    ("DELETE FROM postings WHERE kind = 'refund_settle'", "I5", "set aside until", "re_1"),
    (
        "UPDATE postings SET status = 'refused' WHERE kind = 'refund_reserve'",
        "I14",
        "after the ledger accepted",
        "att_r1",
    ),
    ("UPDATE events SET sequence = 3", "I10", "without a gap", "pay_1"),
]
TENANTS = [
    ("refunds", "refund re_1"),
    ("attempts", "attempt att_1"),
    ("postings", "posting capture:att_1"),
    ("events", "event evt_1"),
]


async def broken(rt: Runtime, invariant: str, rule: str, row: str) -> None:
    report = await report_of(rt)
    assert not report.holds
    named = [
        found
        for found in report.violations
        if found.invariant == invariant and rule in found.rule and row in found.row
    ]
    assert named, [found.sentence() for found in report.violations]
    assert "does not hold" in report.sentence()


@pytest.mark.parametrize(("statement", "invariant", "rule", "row"), ENTRIES + PAYMENTS)
async def test_a_planted_corruption_is_found_and_named(
    rt: Runtime, statement: str, invariant: str, rule: str, row: str
) -> None:
    await fill(rt)
    await spoil(rt, statement)
    await broken(rt, invariant, rule, row)


@pytest.mark.parametrize(("table", "row"), TENANTS)
@pytest.mark.parametrize("change", ["merchant_id = 'mer_charlie'", "livemode = NOT livemode"])
async def test_a_row_of_another_tenant_or_mode_is_found(
    rt: Runtime, table: str, row: str, change: str
) -> None:
    await fill(rt)
    await spoil(rt, f"UPDATE {table} SET {change}")
    await broken(rt, "I13", f"{table} agree", row)


async def test_a_connection_of_the_other_mode_is_found(rt: Runtime) -> None:
    await fill(rt)
    await spoil(rt, "UPDATE psp_connections SET livemode = NOT livemode")
    await broken(rt, "I13", "payments agree with their connection", "payment pay_1")
    await broken(rt, "I13", "attempts agree with their connection", "attempt att_1")


async def test_a_second_capture_of_one_payment_is_found(rt: Runtime) -> None:
    await fill(rt)
    second = postings.capture(
        attempt_id="att_9",
        payment_id="pay_1",
        connection_id=CONNECTION,
        amount=Money(10_000, "eur"),
        fee=0,
        **WHO,
    )
    await post(rt, second)
    await broken(rt, "I4", "captured once", "pay_1")


async def test_a_second_charge_is_found_unless_it_waits_in_suspense(rt: Runtime) -> None:
    await fill(rt)
    await add_attempt(rt, "att_2", "checkout", "succeeded")
    await broken(rt, "I4", "one successful charge", "pay_1")
    await add_review(rt, "att_2", "unexpected_receipt")
    await post(rt, held_apart(postings.unexpected_receipt, "pi_2", 10_000))
    await check_invariants(rt)


async def test_an_overdraft_without_a_right_to_it_is_found(rt: Runtime) -> None:
    await fill(rt)
    taken = {"amount": 50, "from_pending": 0, "from_available": 50, "fee_share": 0}
    await add_refund(rt, 2, status="pending", **taken)
    await add_job(rt, "job_2", "payments.send_refund", payment_id="pay_1", **WHO)
    await spoil(rt, "UPDATE payments SET amount_refunded = 1050 WHERE id = 'pay_1'")
    del taken["amount"]
    await post(rt, reserve(2, overdraft_limit=50, **taken))
    await check_invariants(rt)
    minimum = "-49" if rt.sessions.sqlite else "'-49'"
    change = (
        f"json_set(guard, '$[1]', {minimum})"
        if rt.sessions.sqlite
        else f"jsonb_set(guard, '{{1}}', {minimum})"
    )
    await spoil_again(rt, f"UPDATE postings SET guard = {change} WHERE refund_id = 're_2'")
    await broken(rt, "I14", "as its guard allows", "test:0 13")
    await spoil_again(rt, "UPDATE postings SET guard = NULL WHERE refund_id = 're_2'")
    await broken(rt, "I14", "as its guard allows", "test:0 13")


async def spoil_again(rt: Runtime, statement: str) -> None:
    async with rt.sessions.begin() as session:
        await session.execute(text(statement))


async def test_a_reserve_that_was_refused_holds_until_its_refund_is_told(rt: Runtime) -> None:
    await fill(rt)
    taken = {"amount": 8_901, "from_pending": 8_851, "from_available": 50, "fee_share": 0}
    await add_refund(rt, 2, status="pending", **taken)
    await add_job(rt, "job_2", "payments.refund_refused", payment_id="pay_1", **WHO)
    await spoil(
        rt, "UPDATE payments SET amount_refunded = 9901, amount_pending = 0 WHERE id = 'pay_1'"
    )
    del taken["amount"]
    await post(rt, reserve(2, **taken))
    await check_invariants(rt)
    await spoil_again(rt, "UPDATE refunds SET status = 'failed' WHERE id = 're_2'")
    await broken(rt, "I5", "refunds that did not fail", "pay_1")
    await broken(rt, "I4", "pending is", "pay_1")
    await spoil_again(
        rt, "UPDATE payments SET amount_refunded = 1000, amount_pending = 8851 WHERE id = 'pay_1'"
    )
    await check_invariants(rt)


async def test_a_failed_posting_without_its_dead_letter_is_found(rt: Runtime) -> None:
    await fill(rt)
    early = postings.refund_settle(
        refund_id="re_9",
        payment_id="pay_1",
        connection_id=CONNECTION,
        amount=Money(1, "eur"),
        **WHO,
    )
    await post(rt, early)
    assert "1 lie in the dead letters" in (await report_of(rt)).sentence()
    with pytest.raises(AssertionError, match="could not be recorded"):
        await check_invariants(rt)
    await spoil_again(rt, "DELETE FROM jobs")
    await broken(rt, "I10", "in the dead letters", "refund_settle:re_9")


@pytest.mark.parametrize("state", ["created", "sent", "open", "unknown"])
async def test_an_open_attempt_that_nobody_looks_at_is_found(rt: Runtime, state: str) -> None:
    await fill(rt)
    await add_payment(rt, 3, status="processing")
    await add_attempt(rt, "att_3", "checkout", state, payment_id="pay_3")
    await broken(rt, "I10", "looked at by somebody", "att_3")
    await broken(rt, "I10", "each open payment", "pay_3")
    await add_job(rt, "job_3", "janitor.resolve", payment_id="pay_3", **WHO)
    await check_invariants(rt)


async def test_an_attempt_with_a_next_look_is_not_forgotten(rt: Runtime) -> None:
    await fill(rt)
    await add_payment(rt, 3, status="processing")
    soon = rt.clock() + timedelta(minutes=1)
    await add_attempt(rt, "att_3", "charge", "unknown", payment_id="pay_3", next_check_at=soon)
    await check_invariants(rt)


async def test_a_pending_refund_that_nobody_sends_is_found(rt: Runtime) -> None:
    await fill(rt)
    await add_refund(rt, 2, status="pending")
    await broken(rt, "I10", "each pending refund", "re_2")


async def test_jobs_events_and_deliveries_that_were_lost_are_found(rt: Runtime) -> None:
    await fill(rt)
    await add_job(rt, "job_1", "mail.send", state="dead", finished_at=rt.clock())
    await broken(rt, "I10", "a job is due", "job_1")
    at = "now()" if not rt.sessions.sqlite else "0"
    off = "false" if not rt.sessions.sqlite else "0"
    await spoil(
        rt,
        "INSERT INTO psp_events (id, connection_id, psp_event_id, livemode, type, about, state, "
        f"psp_created_at, received_at) VALUES ('pev_1', '{CONNECTION}', 'evt_x', {off}, 'x', "
        f"'refund', 'received', {at}, {at})",
    )
    await broken(rt, "I10", "applied or has its job", "pev_1")
    await spoil_again(rt, "UPDATE psp_events SET state = 'eaten'")
    await broken(rt, "I10", "known state", "pev_1")


async def test_a_message_to_a_shop_without_its_job_is_found(rt: Runtime) -> None:
    await fill(rt)
    at = "now()" if not rt.sessions.sqlite else "0"
    off = "false" if not rt.sessions.sqlite else "0"
    await spoil(
        rt,
        "INSERT INTO deliveries (id, merchant_id, livemode, endpoint_id, event_id, state, tries, "
        f"log, created_at) VALUES ('whd_1', 'mer_alice', {off}, 'we_1', 'evt_1', 'queued', 0, "
        f"'[]', {at})",
    )
    await broken(rt, "I10", "message to a shop", "whd_1")


async def test_at_most_five_rows_of_a_rule_are_named(rt: Runtime) -> None:
    for number in range(10, 17):
        await add_payment(rt, number, amount_captured=1)
    report = await report_of(rt)
    assert len([v for v in report.violations if "captured is" in v.rule]) == 5
    assert report.sentence().endswith("(and 4 more)")


async def test_the_fixture_fails_with_every_row_that_breaks_a_rule(rt: Runtime) -> None:
    await add_payment(rt, 1, amount_captured=1)
    with pytest.raises(AssertionError, match=r"I4 does not hold .*payment pay_1"):
        await check_invariants(rt)
