"""What a refund would do, before it is asked for: pure arithmetic over a payment and a wallet."""

import msgspec

from app.ledger import postings
from app.ledger.queries import Balance
from app.merchants.models import Merchant
from app.payments.models import Payment
from app.payments.schemas import refundable


class RefundEffect(msgspec.Struct, frozen=True, kw_only=True):
    """A refund of `amount` minor units: where it comes from and what the wallet holds after it.

    `covered`: whether the wallet holds enough; the ledger decides again when it is asked for.
    """

    amount: int
    left: int
    left_after: int
    fee_share: int
    from_pending: int
    from_available: int
    before: Balance
    after: Balance
    covered: bool


def of_refund(
    payment: Payment, merchant: Merchant, wallet: Balance, *, amount: int
) -> RefundEffect:
    """Return what a refund of `amount` minor units does; it may be more than what is left."""
    left = refundable(payment)
    share = (
        postings.fee_share(
            fee=payment.fee if merchant.fee_return else 0,
            captured=payment.amount_captured,
            refunded=payment.amount_refunded,
            returned=payment.fee_returned,
            amount=amount,
        )
        if payment.amount_captured
        else 0
    )
    from_pending, from_available = postings.split_refund(amount - share, payment.amount_pending)
    after = Balance(
        wallet.currency,
        available=wallet.available - from_available,
        pending=wallet.pending - from_pending,
        reserved=wallet.reserved + amount,
    )
    return RefundEffect(
        amount=amount,
        left=left,
        left_after=left - amount,
        fee_share=share,
        from_pending=from_pending,
        from_available=from_available,
        before=wallet,
        after=after,
        covered=not from_available or after.available >= -merchant.overdraft_limit,
    )
