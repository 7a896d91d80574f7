"""The routes of a shop's money: overview, payments, one payment, wallets, what changed."""

from web.dashboard import live, overview, payment, payments, refund, wallets
from web.dashboard.access import shop_pages

router = shop_pages(
    overview.show,
    payments.listing,
    payments.news,
    payments.export,
    payment.show,
    payment.ask,
    refund.refund_form,
    refund.refund,
    refund.capture_form,
    refund.capture,
    refund.cancel_form,
    refund.cancel,
    wallets.show,
    live.changed,
)
