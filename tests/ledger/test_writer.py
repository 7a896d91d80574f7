import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from app import db
from app import jobs as jobs_module
from app.ledger import chart, operations, writer
from app.ledger.models import Account, Entry, Ledger, PostingRow
from app.ledger.postings import AnswerJob
from app.runtime import Runtime
from tests.ledger.support import (
    LEDGER,
    PSP,
    SHOP,
    account,
    answers,
    balances,
    captured,
    jobs,
    plant,
    record,
    reserved,
    rows,
    settled,
    write,
)


async def test_a_capture_moves_each_account_and_keeps_the_balance_before_and_after(
    rt: Runtime,
) -> None:
    assert await write(rt, captured(1), captured(2, 500, 32)) == 2
    assert await balances(rt) == {
        "psp_receivable": 10_500,
        "merchant_pending": 10_303,
        "platform_fees": 197,
    }
    entries = await rows(rt, Entry)
    assert [line.seq for line in entries] == list(range(1, 9))
    assert [line.line for line in entries] == [1, 2, 3, 4] * 2
    pending = [line for line in entries if ":merchant_pending:" in line.account_id]
    assert [(line.before, line.after) for line in pending] == [
        (0, 10_000),
        (10_000, 9_835),
        (9_835, 10_335),
        (10_335, 10_303),
    ]
    first, second = await rows(rt, PostingRow)
    assert (first.status, first.seq, second.seq) == ("accepted", 4, 8)
    assert first.answered_at is not None
    (ledger,) = await rows(rt, Ledger, Ledger.id == LEDGER)
    assert ledger.last_seq == 8
    made = await rows(rt, Account, Account.kind == "merchant_pending")
    assert [(a.version, a.merchant_id, a.livemode) for a in made] == [(4, SHOP, False)]


async def test_a_long_backlog_of_one_ledger_holds_up_none_of_the_others(rt: Runtime) -> None:
    await record(rt, *[captured(n) for n in range(1, 5)], captured(5, livemode=True))
    ledgers = [LEDGER, "live:0"]
    assert await writer.write_batches(rt, ledger_ids=ledgers, owner="w1", limit=2) == 3
    answered = await rows(rt, PostingRow, PostingRow.status == "accepted")
    assert [(row.ledger_id, row.livemode) for row in answered] == [
        (LEDGER, False),
        (LEDGER, False),
        ("live:0", True),
    ]


async def test_nothing_waiting_is_answered_with_zero(rt: Runtime) -> None:
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1") == 0
    await write(rt, captured(1))
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1") == 0


async def test_the_same_posting_twice_is_recorded_once(rt: Runtime) -> None:
    assert await write(rt, captured(1), captured(1)) == 1
    assert await write(rt, captured(1)) == 0


async def test_the_same_key_with_another_amount_is_refused_loudly(rt: Runtime) -> None:
    await record(rt, captured(1))
    with pytest.raises(operations.PostingDiffers, match="capture:att_1"):
        await record(rt, captured(1, 10_001))


async def test_a_limit_leaves_the_rest_for_the_next_batch(rt: Runtime) -> None:
    await record(rt, *[captured(number) for number in range(5)])
    sizes = [
        await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1", limit=2) for _ in range(4)
    ]
    assert sizes == [2, 2, 1, 0]


async def test_the_guard_counts_what_the_same_batch_did_before(rt: Runtime) -> None:
    # 100 is there: the first refund of 80 takes it, the second finds 20.
    await write(rt, captured(1, 100, 0), settled(1, 100))
    assert await write(rt, reserved(1, from_available=80), reserved(2, from_available=80)) == 2
    assert (await answers(rt))[2:] == ["accepted", "refused"]
    assert (await balances(rt))["merchant_available"] == 20
    refused = (await rows(rt, PostingRow))[-1]
    assert refused.seq is None
    assert refused.reason == "merchant_available would be -60, at least 0 is needed"


async def test_the_answer_job_comes_with_the_answer(rt: Runtime) -> None:
    await write(rt, captured(1, 100, 0), settled(1, 100))
    rt.queue.rung.clear()  # type: ignore[attr-defined] # The silent doorbell of tests.
    await write(rt, reserved(1, from_available=80), reserved(2, from_available=80))
    (sent,) = await jobs(rt, "payments.send_refund")
    (refused,) = await jobs(rt, "payments.refund_refused")
    assert sent.args == {"refund_id": "re", "posting_seq": 6}
    assert refused.args["reason"].startswith("merchant_available would be -60")
    assert (sent.queue, sent.state, sent.merchant_id, sent.payment_id, sent.livemode) == (
        "psp",
        "due",
        SHOP,
        "pay_1",
        False,
    )
    assert "psp" in rt.queue.rung  # type: ignore[attr-defined] # As above.


async def test_an_overdraft_limit_lets_the_available_part_go_below_zero(rt: Runtime) -> None:
    await write(rt, captured(1, 100, 0))
    await write(rt, reserved(1, from_available=80, overdraft_limit=80))
    await write(rt, reserved(2, from_available=1, overdraft_limit=80))
    assert (await answers(rt))[1:] == ["accepted", "refused"]


async def test_a_refund_made_at_the_psp_is_never_refused(rt: Runtime) -> None:
    await write(rt, reserved(1, from_available=500, overdraft_limit=None))
    assert await answers(rt) == ["accepted"]
    assert (await balances(rt))["merchant_available"] == -500


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transfers": []}, "moves nothing"),
        ({"transfers": "no list"}, "Expected"),
        ({"transfers": [["a", "b", 5]]}, "not the id of an account"),
        (
            {"transfers": [[account("psp_receivable", PSP), account("merchant_pending"), 0]]},
            "range",
        ),
        (
            {"transfers": [[account("psp_receivable", PSP), account("merchant_pending"), 10**12]]},
            "range",
        ),
        (
            {"transfers": [[account("psp_receivable", PSP), account("merchant_pending"), 1.5]]},
            "Expected `int`",
        ),
        ({"transfers": [[account("merchant_pending"), account("merchant_pending"), 5]]}, "itself"),
        (
            {
                "transfers": [
                    [account("psp_receivable", PSP), account("merchant_pending", currency="usd"), 5]
                ]
            },
            "currencies",
        ),
        (
            {
                "transfers": [
                    [
                        account("psp_receivable", PSP),
                        account("merchant_pending", ledger="live:0"),
                        5,
                    ]
                ]
            },
            "live:0",
        ),
        ({"livemode": True}, "live and test"),
        (
            {
                "transfers": [
                    [account("psp_receivable", PSP), account("merchant_pending", "mer_x"), 5]
                ]
            },
            "account of mer_x",
        ),
        (
            {"transfers": [[account("merchant_available"), account("refunds_in_flight"), 5]]},
            "without a guard",
        ),
        (
            {"transfers": [[account("merchant_pending"), account("refunds_in_flight"), 50_000]]},
            "merchant_pending to -40165",
        ),
        (
            {"transfers": [["test:0:gifts:platform:eur", account("merchant_pending"), 5]]},
            "not a kind of account",
        ),
        (
            {"transfers": [["test:0:suspense:mer_x:eur", account("merchant_pending"), 5]]},
            "belongs to the platform",
        ),
        (
            {"transfers": [[account("psp_receivable", PSP), "test:0:suspense:platform:zzz", 5]]},
            "not a currency",
        ),
    ],
)
async def test_a_posting_that_cannot_be_recorded_fails_alone(
    rt: Runtime, changes: dict[str, object], reason: str
) -> None:
    await record(rt, captured(1))
    await plant(rt, **changes)
    assert await write(rt, captured(2)) == 3
    assert await answers(rt) == ["accepted", "failed", "accepted"]
    (dead,) = await jobs(rt, "ledger.posting")
    planted = (await rows(rt, PostingRow))[1]
    assert dead.state == "dead"
    assert dead.args == {"posting_id": planted.id}
    assert reason in (dead.reason or "")
    assert reason in planted.reason
    assert dead.history[0]["what"] == "buried"
    assert [line.seq for line in await rows(rt, Entry)] == list(range(1, 9))


async def refuse_entries_of(rt: Runtime, posting_id: int) -> None:
    """Make the database itself refuse one posting, as a constraint of tomorrow might."""
    async with rt.sessions.begin() as session:
        if db.is_sqlite(session):
            await session.execute(
                text(
                    "CREATE TRIGGER no_such BEFORE INSERT ON entries WHEN NEW.posting_id = "
                    f"{posting_id} BEGIN SELECT RAISE(ABORT, 'not this one'); END"
                )
            )
            return
        await session.execute(
            text(
                "CREATE FUNCTION no_such() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF NEW.posting_id = {posting_id} THEN RAISE EXCEPTION 'not this one'; END IF; "
                "RETURN NEW; END $$"
            )
        )
        await session.execute(
            text(
                "CREATE TRIGGER no_such BEFORE INSERT ON entries "
                "FOR EACH ROW EXECUTE FUNCTION no_such()"
            )
        )


async def test_a_posting_that_the_database_refuses_is_found_by_halving(rt: Runtime) -> None:
    await record(rt, *[captured(number) for number in range(7)])
    bad = (await rows(rt, PostingRow))[4]
    await refuse_entries_of(rt, bad.id)
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1") == 7
    assert await answers(rt) == ["accepted"] * 4 + ["failed"] + ["accepted"] * 2
    (dead,) = await jobs(rt, "ledger.posting")
    assert "not this one" in (dead.reason or "")
    assert [line.seq for line in await rows(rt, Entry)] == list(range(1, 25))


async def test_a_ledger_that_is_out_of_step_stops_instead_of_failing_postings(rt: Runtime) -> None:
    await write(rt, captured(1))
    async with rt.sessions.begin() as session:
        await session.execute(update(Ledger).values(last_seq=1))
    await record(rt, captured(2))
    with pytest.raises(DBAPIError):
        await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1")
    assert await answers(rt) == ["accepted", "waiting"]


async def test_another_writer_waits_for_the_lease_and_raises_the_fence_when_it_takes_over(
    rt: Runtime,
) -> None:
    await write(rt, captured(1))
    await record(rt, captured(2))
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w2") == 0
    assert await answers(rt) == ["accepted", "waiting"]
    (held,) = await rows(rt, Ledger, Ledger.id == LEDGER)
    async with rt.sessions.begin() as session:
        await session.execute(update(Ledger).values(lease_until=db.now(-1.0)))
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w2") == 1
    (taken,) = await rows(rt, Ledger, Ledger.id == LEDGER)
    assert (taken.owner, taken.fence) == ("w2", held.fence + 1)
    # The old holder comes back from a long pause and finds that it is not the writer any more.
    await record(rt, captured(3))
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1") == 0


async def test_writers_that_start_together_answer_each_posting_once(rt: Runtime) -> None:
    await record(rt, *[captured(number) for number in range(40)])

    async def run(owner: str) -> int:
        return sum(
            [
                await writer.write_batches(rt, ledger_ids=[LEDGER], owner=owner, limit=7)
                for _ in range(7)
            ]
        )

    written = await asyncio.gather(*[run(f"w{number}") for number in range(4)])
    assert sum(written) == 40
    assert [line.seq for line in await rows(rt, Entry)] == list(range(1, 161))
    assert (await balances(rt))["psp_receivable"] == 400_000


async def test_the_two_modes_have_ledgers_of_their_own(rt: Runtime) -> None:
    await write(rt, captured(1), captured(2, livemode=True))
    assert await answers(rt) == ["accepted", "waiting"]
    live = [chart.ledger_of(livemode=True)]
    assert await writer.write_batches(rt, ledger_ids=live, owner="w1") == 1
    assert sorted((line.ledger_id, line.seq) for line in await rows(rt, Entry))[:5] == [
        ("live:0", 1),
        ("live:0", 2),
        ("live:0", 3),
        ("live:0", 4),
        ("test:0", 1),
    ]


async def test_a_posting_without_an_answer_job_makes_none(rt: Runtime) -> None:
    await write(rt, captured(1))
    assert await jobs(rt) == []
    told = AnswerJob("payments.record_position", {"payment_id": "pay_2"}, "ledger")
    await write(rt, captured(2, answer_job=told))
    (job,) = await jobs(rt)
    assert job.args == {"payment_id": "pay_2", "posting_seq": 8}


async def test_entries_carry_the_time_of_the_application(rt: Runtime) -> None:
    before = rt.clock() - timedelta(seconds=1)
    await write(rt, captured(1))
    (first, *_) = await rows(rt, Entry)
    assert before < db.from_micros(first.recorded_at) <= rt.clock()


async def test_postings_of_one_change_are_recorded_in_the_order_asked(rt: Runtime) -> None:
    # A reserve and its settling are asked for at once when a refund was made at the PSP by hand.
    now = rt.clock()
    job = jobs_module.row(id="job_1", kind="mail.send", args={}, queue="mail", now=now)
    async with rt.sessions.begin() as session:
        wanted = [(PostingRow, operations.row(captured(n), now=now)) for n in range(4)]
        await db.insert_all(session, [*wanted, (jobs_module.Job, job)])
    keys = [posting.key for posting in await rows(rt, PostingRow)]
    assert keys == [f"capture:att_{n}" for n in range(4)]
    assert len(await jobs(rt)) == 1
