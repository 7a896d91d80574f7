"""What a refund would do, as the dialog tells before it is asked for."""

from typing import Any

import pytest

from app.ledger.queries import Balance
from app.merchants.models import Merchant
from app.payments.effect import of_refund
from app.payments.models import Refund
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp
from tests.timeline.test_explain import payment

WALLET = Balance("eur", available=1_820_455, pending=396_218, reserved=24_000)


def merchant(**terms: Any) -> Merchant:
    return Merchant(**{"fee_return": True, "overdraft_limit": 0} | terms)


def test_it_takes_from_what_is_pending_first_and_gives_the_fee_back() -> None:
    effect = of_refund(payment(), merchant(), WALLET, amount=4_000)
    assert (effect.fee_share, effect.from_pending, effect.from_available) == (83, 3_917, 0)
    assert effect.after == Balance("eur", 1_820_455, 396_218 - 3_917, 28_000)
    assert (effect.left_after, effect.covered) == (8_840, True)


def test_a_shop_that_keeps_no_fee_back_pays_it_itself() -> None:
    effect = of_refund(payment(amount_pending=0), merchant(fee_return=False), WALLET, amount=4_000)
    assert (effect.fee_share, effect.from_available) == (0, 4_000)


@pytest.mark.parametrize(
    ("available", "overdraft", "covered"),
    [(12_571, 0, True), (12_570, 0, False), (12_570, 1, True), (-5, 0, False)],
)
def test_it_says_whether_the_wallet_covers_it(
    available: int, overdraft: int, covered: bool
) -> None:
    poor = Balance("eur", available=available)
    terms = merchant(overdraft_limit=overdraft)
    effect = of_refund(payment(amount_pending=0), terms, poor, amount=12_840)
    assert effect.covered is covered


def test_a_payment_that_was_never_captured_has_no_effect_to_tell() -> None:
    effect = of_refund(payment("processing", amount_pending=0), merchant(), WALLET, amount=100)
    assert (effect.left, effect.fee_share) == (0, 0)


async def test_what_is_told_is_what_happens(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge(12_840)
    row = await story.row(paid.id)
    effect = of_refund(row, merchant(), Balance("eur", pending=row.amount_pending), amount=4_000)
    refund = await story.refund(paid.id, 4_000)
    async with rt.sessions.read() as session:
        made = await session.get(Refund, refund.id)
    assert made is not None
    assert (made.fee_share, made.from_pending, made.from_available) == (
        effect.fee_share,
        effect.from_pending,
        effect.from_available,
    )
