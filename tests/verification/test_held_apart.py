"""Money that fits no payment, in the eyes of the books' own check."""

from app.ledger import postings
from app.runtime import Runtime
from tests.support.invariants import check_invariants
from tests.verification.support import (
    add_attempt,
    add_review,
    fill,
    held_apart,
    post,
    spoil,
)
from tests.verification.test_verification import broken, spoil_again


async def test_money_that_nobody_is_asked_about_is_found_until_it_has_gone_back(
    rt: Runtime,
) -> None:
    await fill(rt)
    await post(rt, held_apart(postings.unexpected_receipt, "pi_2", 500))
    await broken(rt, "I16", "a person is asked about money", "pay_1")
    await add_attempt(rt, "att_2", "charge", "needs_review")
    await add_review(rt, "att_2", "mismatch")
    await check_invariants(rt)
    await spoil(rt, "UPDATE reviews SET amount = 499")
    await broken(rt, "I16", "a person is asked about money", "pay_1")
    await post(rt, held_apart(postings.suspense_return, "re_8", 500))
    await spoil_again(rt, "UPDATE reviews SET state = 'closed'")
    await spoil_again(rt, "UPDATE attempts SET state = 'not_sent' WHERE id = 'att_2'")
    await check_invariants(rt)
    await post(rt, held_apart(postings.suspense_reversal, "re_8", 500))
    await broken(rt, "I16", "a person is asked about money", "pay_1")


async def test_a_refund_that_is_booked_in_two_places_is_found(rt: Runtime) -> None:
    await fill(rt)
    await post(rt, held_apart(postings.unexpected_receipt, "pi_2", 500))
    await post(rt, held_apart(postings.suspense_return, "re_by_hand", 500))
    await check_invariants(rt)
    await spoil(rt, "UPDATE refunds SET psp_reference = 're_by_hand' WHERE id = 're_1'")
    await broken(rt, "I5", "booked in one place", "re_1")


async def test_more_gone_back_of_such_money_than_had_come_is_found(rt: Runtime) -> None:
    await fill(rt)
    await add_attempt(rt, "att_2", "charge", "needs_review")
    await add_review(rt, "att_2", "mismatch")
    await post(rt, held_apart(postings.unexpected_receipt, "pi_2", 500))
    await post(rt, held_apart(postings.suspense_return, "re_8", 499, "pay_2"))
    await broken(rt, "I5", "what went back of money that fits no payment", "pay_2")
