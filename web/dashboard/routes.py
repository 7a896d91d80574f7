"""The pages of the dashboard: one line a page group."""

from litestar import Router

from web.dashboard import (
    account,
    admin_routes,
    audit,
    keys,
    payment_routes,
    reviews,
    risk_settings,
    second_factor,
    settings,
    sign_in,
    webhook_sending,
    webhooks,
)

ROUTERS: list[Router] = [
    sign_in.router,
    second_factor.router,
    account.router,
    keys.router,
    webhooks.router,
    webhook_sending.router,
    audit.router,
    settings.router,
    payment_routes.router,
    reviews.router,
    risk_settings.router,
    admin_routes.router,
]
