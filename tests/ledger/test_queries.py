import asyncio

import pytest
from sqlalchemy import insert

from app import jobs
from app.ledger import operations, processing, queries, schemas, writer
from app.ledger.models import Entry, PostingRow
from app.runtime import Runtime
from tests.ledger.support import (
    LEDGER,
    SHOP,
    account,
    answers,
    captured,
    record,
    reserved,
    rows,
    settled,
    write,
)
from tests.ledger.support import jobs as jobs_of

CHARLIE = "mer_charlie"


async def test_a_wallet_tells_each_currency_and_its_position(rt: Runtime) -> None:
    await write(rt, captured(1), captured(2, merchant_id=CHARLIE), settled(1, 9_835))
    await write(rt, reserved(1, from_available=1_000, fee_share=16))
    async with rt.sessions.read() as session:
        wallet = await queries.balance(session, merchant_id=SHOP, livemode=False)
        live = await queries.balance(session, merchant_id=SHOP, livemode=True)
        new = await queries.balance(session, merchant_id="mer_new", livemode=False)
    assert wallet == queries.Wallet(
        (queries.Balance("eur", available=8_835, pending=0, reserved=1_016),), 14
    )
    assert live == queries.Wallet((), 0)
    assert new == queries.Wallet((), 14)
    answer = schemas.balance_answer(wallet, livemode=False)
    assert answer.reserved == [schemas.Sum(1_016, "eur")]
    assert answer.ledger_position == 14


async def page(rt: Runtime, **wanted: object) -> tuple[list[queries.Line], bool]:
    values: dict[str, object] = {"merchant_id": SHOP, "livemode": False} | wanted
    async with rt.sessions.read() as session:
        return await queries.entries(session, **values)  # type: ignore[arg-type] # As named.


async def test_entries_are_paged_in_both_directions(rt: Runtime) -> None:
    await write(rt, *[captured(number, 1_000, 0) for number in range(5)])
    first, more = await page(rt, limit=2)
    assert ([line.position for line in first], more) == ([10, 8], True)
    second, more = await page(rt, limit=2, starting_after=first[-1].id)
    assert ([line.position for line in second], more) == ([6, 4], True)
    last, more = await page(rt, limit=2, starting_after=second[-1].id)
    assert ([line.position for line in last], more) == ([2], False)
    back, more = await page(rt, limit=2, ending_before=last[0].id)
    assert ([line.position for line in back], more) == ([6, 4], True)
    back, more = await page(rt, limit=2, ending_before=second[0].id)
    assert ([line.position for line in back], more) == ([10, 8], False)


async def test_entries_are_told_from_the_merchants_side(rt: Runtime) -> None:
    await write(rt, captured(1))
    (fee, money), more = await page(rt)
    assert not more
    assert (fee.change, fee.before, fee.after) == (-165, 10_000, 9_835)
    assert (money.change, money.part, money.kind, money.payment_id) == (
        10_000,
        "pending",
        "capture",
        "pay_1",
    )
    assert money.id == "le_test0_2"
    answer = schemas.entry_answer(money)
    assert (answer.amount, answer.balance_after, answer.created_at[-1]) == (10_000, 10_000, "Z")


async def test_entries_are_filtered_by_part_currency_and_payment(rt: Runtime) -> None:
    await write(rt, captured(1, 100, 0), captured(2, 200, 0), settled(1, 100))
    available, _ = await page(rt, parts=["available"])
    assert [line.change for line in available] == [100]
    assert (await page(rt, currency="usd"))[0] == []
    second, _ = await page(rt, payment_id="pay_2")
    assert [line.change for line in second] == [200]


async def test_charlie_sees_no_entry_of_alice(rt: Runtime) -> None:
    await write(rt, captured(1), captured(2, merchant_id=CHARLIE))
    assert {line.payment_id for line in (await page(rt))[0]} == {"pay_1"}
    stranger: dict[str, object] = {"merchant_id": CHARLIE}
    assert (await page(rt, **stranger, payment_id="pay_1"))[0] == []
    with pytest.raises(queries.NoSuchEntry):
        await page(rt, **stranger, starting_after="le_test0_2")
    async with rt.sessions.read() as session:
        for read in (queries.payment_lines, queries.payment_postings):
            found = await read(session, merchant_id=CHARLIE, livemode=False, payment_id="pay_1")
            assert found == []


@pytest.mark.parametrize(
    "cursor", ["le_live0_2", "le_test0_", "pay_1", "", "le_test0_²", "le_test0_-1"]
)
async def test_a_cursor_that_is_no_entry_is_refused(rt: Runtime, cursor: str) -> None:
    with pytest.raises(queries.NotAnEntryId):
        await page(rt, starting_after=cursor)


async def test_a_payments_lines_and_postings(rt: Runtime) -> None:
    await write(rt, captured(1), settled(1, 9_835))
    await record(rt, reserved(1, from_available=5))
    async with rt.sessions.read() as session:
        scope = {"merchant_id": SHOP, "livemode": False, "payment_id": "pay_1"}
        lines = await queries.payment_lines(session, **scope)  # type: ignore[arg-type] # As named.
        told = await queries.payment_postings(session, **scope)  # type: ignore[arg-type] # As above.
    assert [(line.part, line.change) for line in lines] == [
        ("pending", 10_000),
        ("pending", -165),
        ("pending", -9_835),
        ("available", 9_835),
    ]
    assert [(one.kind, one.status, one.position) for one in told] == [
        ("capture", "accepted", 4),
        ("settle", "accepted", 6),
        ("refund_reserve", "waiting", None),
    ]
    assert told[2].transfers == (("merchant_available", "refunds_in_flight", 5),)
    assert told[0].currency == "eur"


async def test_an_unreadable_posting_is_told_without_its_transfers(rt: Runtime) -> None:
    values = operations.row(captured(1), now=rt.clock()) | {"transfers": [["what"]]}
    async with rt.sessions.begin() as session:
        await session.execute(insert(PostingRow).values(**values))
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1") == 1
    async with rt.sessions.read() as session:
        (told,) = await queries.payment_postings(
            session, merchant_id=SHOP, livemode=False, payment_id="pay_1"
        )
    assert (told.status, told.transfers, told.currency) == ("failed", (), "")


async def wait(rt: Runtime, minimum: object, seconds: float = 0.05) -> int:
    return await processing.wait_for(
        rt,
        merchant_id=SHOP,
        livemode=False,
        minimum=minimum,  # type: ignore[arg-type] # A number or latest.
        seconds=seconds,
    )


async def test_waiting_for_a_position_ends_when_it_is_reached(rt: Runtime) -> None:
    assert await wait(rt, 0) == 0
    assert await wait(rt, 4) == 4
    await record(rt, captured(1))
    waiting = asyncio.create_task(wait(rt, 4, seconds=20))
    await asyncio.sleep(0.02)
    await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1")
    assert await waiting == 0


async def test_latest_waits_for_what_was_recorded_before_and_for_nothing_later(rt: Runtime) -> None:
    assert await wait(rt, "latest") == 0
    await record(rt, captured(1), captured(2, merchant_id=CHARLIE))
    assert await wait(rt, "latest") == 1
    waiting = asyncio.create_task(wait(rt, "latest", seconds=20))
    await asyncio.sleep(0.05)
    await record(rt, captured(3))
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1", limit=1) == 1
    assert await waiting == 0
    assert await wait(rt, "latest") == 1


async def test_the_writers_health_tells_what_waits_and_since_when(rt: Runtime) -> None:
    await write(rt, captured(1))
    await record(rt, captured(2), captured(3, livemode=True))
    async with rt.sessions.read() as session:
        live, test = await queries.health(session)
    assert (live.ledger_id, live.waiting, live.position, live.last_batch_at) == (
        "live:0",
        1,
        0,
        None,
    )
    assert (test.waiting, test.position, test.owner) == (1, 4, "w1")
    assert test.last_batch_at is not None
    assert test.oldest_waiting_at is not None
    assert test.oldest_waiting_at >= test.last_batch_at


async def claim(rt: Runtime) -> jobs.Claim:
    (dead,) = await jobs_of(rt, "ledger.posting")
    async with rt.sessions.begin() as session:
        await jobs.revive(session, job_id=dead.id, now=rt.clock(), why="the cause is mended")
    async with rt.sessions.begin() as session:
        (held,) = await jobs.claim(session, queue="ledger", limit=8, owner="w1", lease=15)
    return held


async def test_a_dead_posting_is_written_after_its_retry(rt: Runtime) -> None:
    # It would take pending money that only comes later.
    assert await write(rt, settled(1, 9_835)) == 1
    assert await answers(rt) == ["failed"]
    await write(rt, captured(1))
    held = await claim(rt)
    await processing.retry_posting(rt, held)
    assert held.finished
    assert await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1") == 1
    assert await answers(rt) == ["accepted", "accepted"]
    assert [job.state for job in await jobs_of(rt)] == ["done"]
    lines = await rows(rt, Entry, Entry.account_id == account("merchant_available"))
    assert [line.after for line in lines] == [9_835]


async def test_a_retry_of_an_answered_posting_changes_nothing(rt: Runtime) -> None:
    await write(rt, settled(1, 9_835))
    await write(rt, captured(1))
    held = await claim(rt)
    await processing.retry_posting(rt, held)
    await writer.write_batches(rt, ledger_ids=[LEDGER], owner="w1")
    with pytest.raises(jobs.LeaseLost):
        await processing.retry_posting(rt, held)
    assert await answers(rt) == ["accepted", "accepted"]


async def test_a_retry_of_no_posting_is_buried(rt: Runtime) -> None:
    await write(rt, settled(1, 9_835))
    held = await claim(rt)
    held.args["posting_id"] = 999
    with pytest.raises(jobs.Bury):
        await processing.retry_posting(rt, held)
