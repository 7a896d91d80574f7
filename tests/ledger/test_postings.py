from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ledger import chart, postings
from app.ledger.postings import Guard, Posting, Transfer
from app.money import MAX_AMOUNT, Money
from tests.ledger.support import PSP, SHOP, account, captured, eur, reserved, settled

REFUND: dict[str, Any] = {
    "refund_id": "re_1",
    "payment_id": "pay_1",
    "merchant_id": SHOP,
    "livemode": False,
}
RECEIVABLE = account("psp_receivable", PSP)
PENDING = account("merchant_pending")
AVAILABLE = account("merchant_available")
IN_FLIGHT = account("refunds_in_flight")
FEES = account("platform_fees", "platform")


def moves(posting: Posting) -> list[tuple[str, str, int]]:
    return [(line.debit, line.credit, line.minor) for line in posting.transfers]


def test_a_capture_pays_the_merchant_and_the_platform() -> None:
    posting = captured(1, 10_000, 165)
    assert (posting.key, posting.kind) == ("capture:att_1", "capture")
    assert moves(posting) == [(RECEIVABLE, PENDING, 10_000), (PENDING, FEES, 165)]
    assert posting.guard is None


def test_transfers_of_zero_are_left_out() -> None:
    assert moves(captured(1, 10_000, 0)) == [(RECEIVABLE, PENDING, 10_000)]


def test_a_posting_that_moves_nothing_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="settle:pay_1 moves nothing"):
        settled(1, 0)


@pytest.mark.parametrize("minor", [-1, MAX_AMOUNT + 1])
def test_an_amount_out_of_range_cannot_be_made(minor: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        settled(1, minor)


def test_the_psp_keeps_its_fee() -> None:
    posting = postings.psp_fee(
        balance_transaction="txn_1", livemode=False, connection_id=PSP, amount=eur(30)
    )
    assert posting.key == "psp_fee:txn_1"
    assert moves(posting) == [(account("psp_fees", "platform"), RECEIVABLE, 30)]


def test_settling_makes_the_pending_part_available() -> None:
    assert settled(1, 9_835).key == "settle:pay_1"
    assert moves(settled(1, 9_835)) == [(PENDING, AVAILABLE, 9_835)]
    assert settled(1, 9, refund_id="re_1").key == "settle:pay_1:re_1"


def test_a_reserve_comes_from_pending_available_and_the_fee() -> None:
    posting = reserved(1, from_pending=50, from_available=30, fee_share=2, overdraft_limit=7)
    assert posting.key == "refund_reserve:re_1"
    assert moves(posting) == [
        (PENDING, IN_FLIGHT, 50),
        (AVAILABLE, IN_FLIGHT, 30),
        (FEES, IN_FLIGHT, 2),
    ]
    assert posting.guard == Guard(AVAILABLE, -7)


def test_a_reserve_that_leaves_the_available_part_alone_has_no_guard() -> None:
    assert reserved(1, from_pending=50).guard is None


def test_a_refund_made_at_the_psp_has_a_guard_without_a_limit() -> None:
    assert reserved(1, from_available=5, overdraft_limit=None).guard == Guard(AVAILABLE, None)


def test_a_refund_that_was_sent_leaves_the_receivable() -> None:
    posting = postings.refund_settle(**REFUND, connection_id=PSP, amount=eur(82))
    assert posting.key == "refund_settle:re_1"
    assert moves(posting) == [(IN_FLIGHT, RECEIVABLE, 82)]


@pytest.mark.parametrize(
    ("settled_since", "expected"),
    [
        (False, [(IN_FLIGHT, PENDING, 50), (IN_FLIGHT, AVAILABLE, 30), (IN_FLIGHT, FEES, 2)]),
        (True, [(IN_FLIGHT, AVAILABLE, 80), (IN_FLIGHT, FEES, 2)]),
    ],
)
def test_a_release_puts_the_reserve_back_where_it_belongs_now(
    settled_since: bool, expected: list[tuple[str, str, int]]
) -> None:
    posting = postings.refund_release(
        **REFUND,
        currency="eur",
        from_pending=50,
        from_available=30,
        fee_share=2,
        settled=settled_since,
    )
    assert posting.key == "refund_release:re_1"
    assert moves(posting) == expected


def test_a_refund_that_the_psp_took_back_is_the_merchants_again() -> None:
    posting = postings.refund_reversal(
        **REFUND, connection_id=PSP, currency="eur", own=80, fee_share=2
    )
    assert posting.key == "refund_reversal:re_1"
    assert moves(posting) == [(RECEIVABLE, AVAILABLE, 80), (RECEIVABLE, FEES, 2)]


def test_money_that_nobody_expected_waits_in_suspense() -> None:
    posting = postings.unexpected_receipt(
        psp_id="pi_1", livemode=False, connection_id=PSP, amount=eur(500)
    )
    assert posting.key == "unexpected_receipt:pi_1"
    assert moves(posting) == [(RECEIVABLE, account("suspense", "platform"), 500)]


def test_money_that_went_back_at_the_psp_leaves_suspense() -> None:
    posting = postings.suspense_return(
        psp_id="re_1", charge="pi_1", livemode=False, connection_id=PSP, amount=eur(500)
    )
    assert posting.key == "suspense_return:pi_1:re_1"
    assert moves(posting) == [(account("suspense", "platform"), RECEIVABLE, 500)]


def test_money_whose_refund_failed_is_in_suspense_again() -> None:
    posting = postings.suspense_reversal(
        psp_id="re_1", charge="pi_1", livemode=False, connection_id=PSP, amount=eur(500)
    )
    assert posting.key == "suspense_reversal:pi_1:re_1"
    assert moves(posting) == [(RECEIVABLE, account("suspense", "platform"), 500)]


def test_a_live_posting_names_accounts_of_the_live_ledger() -> None:
    names = {line.debit for line in captured(1, livemode=True).transfers}
    assert {chart.parse(name).ledger_id for name in names} == {"live:0"}


@pytest.mark.parametrize(
    ("captured_minor", "basis_points", "fixed", "fee"),
    [
        (10_000, 140, 25, 165),
        (12_840, 140, 25, 205),  # 179.76 + 25
        (25, 200, 0, 1),  # Exactly half a cent goes up.
        (24, 200, 0, 0),
        (10, 140, 25, 10),  # Never more than was captured.
        (1, 0, 0, 0),
    ],
)
def test_the_platform_fee(captured_minor: int, basis_points: int, fixed: int, fee: int) -> None:
    assert postings.platform_fee(captured_minor, basis_points, fixed) == fee


AMOUNTS = st.integers(1, MAX_AMOUNT)


@given(AMOUNTS, st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_fee_is_never_negative_nor_more_than_was_captured(
    captured_minor: int, basis_points: int, fixed: int
) -> None:
    fee = postings.platform_fee(captured_minor, basis_points, fixed)
    assert 0 <= fee <= captured_minor
    exact = captured_minor * basis_points + fixed * 10_000
    assert fee == captured_minor or abs(fee * 10_000 - exact) <= 5_000


@given(AMOUNTS, st.integers(0, 100), st.lists(st.integers(1, 99), max_size=12))
def test_refunding_everything_in_parts_returns_exactly_the_fee(
    captured_minor: int, fee_percent: int, percents: list[int]
) -> None:
    fee = captured_minor * fee_percent // 100
    refunded = returned = 0
    for percent in [*percents, 100]:
        part = max(1, (captured_minor - refunded) * percent // 100)
        if part > captured_minor - refunded:
            break
        share = postings.fee_share(
            fee=fee, captured=captured_minor, refunded=refunded, returned=returned, amount=part
        )
        assert 0 <= share <= part
        refunded += part
        returned += share
        assert returned <= fee
    assert refunded == captured_minor
    assert returned == fee


@given(st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=30), st.integers(1, 1_000))
def test_shares_stay_in_range_when_refunds_fail_and_are_released(
    wanted: list[tuple[int, bool]], captured_minor: int
) -> None:
    fee = captured_minor // 7
    open_refunds: list[tuple[int, int]] = []
    for amount, release in wanted:
        refunded = sum(part for part, _ in open_refunds)
        returned = sum(share for _, share in open_refunds)
        if release and open_refunds:
            open_refunds.pop(0)
        elif amount <= captured_minor - refunded:
            share = postings.fee_share(
                fee=fee,
                captured=captured_minor,
                refunded=refunded,
                returned=returned,
                amount=amount,
            )
            assert 0 <= share <= amount
            open_refunds.append((amount, share))
        assert sum(share for _, share in open_refunds) <= fee


@given(st.integers(0, MAX_AMOUNT), st.integers(0, MAX_AMOUNT))
def test_splitting_a_refund_loses_nothing(own: int, still_pending: int) -> None:
    from_pending, from_available = postings.split_refund(own, still_pending)
    assert from_pending + from_available == own
    assert 0 <= from_pending <= still_pending
    assert from_available >= 0


@given(st.integers(1, MAX_AMOUNT), st.data())
def test_what_a_reserve_takes_a_release_gives_back(own: int, data: st.DataObject) -> None:
    from_pending, from_available = postings.split_refund(own, data.draw(st.integers(0, own)))
    parts: dict[str, Any] = {
        "from_pending": from_pending,
        "from_available": from_available,
        "fee_share": data.draw(st.integers(0, MAX_AMOUNT - own)),
    }
    taken = reserved(1, **parts)
    back = postings.refund_release(**REFUND, currency="eur", settled=False, **parts)
    assert {Transfer(line.credit, line.debit, line.minor) for line in taken.transfers} == set(
        back.transfers
    )


def test_an_account_is_named_by_ledger_kind_owner_and_currency() -> None:
    assert RECEIVABLE == "test:0:psp_receivable:conn_sandbox:eur"
    assert chart.parse(RECEIVABLE) == chart.Name("test:0", "psp_receivable", "conn_sandbox", "eur")
    assert (chart.ledger_of(livemode=True), chart.ledger_of(livemode=False)) == ("live:0", "test:0")


def test_every_constructor_checks_its_currency() -> None:
    with pytest.raises(ValueError, match="not a currency"):
        reserved(1, currency="EUR", from_pending=1)
    with pytest.raises(ValueError, match="unknown currency"):
        Money(1, "zzz")
