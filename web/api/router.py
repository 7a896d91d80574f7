"""The API's address space: every resource behind the key check."""

from litestar import Router

from web.api import events, ledger, payments, refunds, webhook_endpoints
from web.api.auth import authorize
from web.deps import ApiRequest

# One flat list: only so does an address know all of its methods.
api = Router(
    "/v1",
    route_handlers=[
        *payments.HANDLERS,
        *refunds.HANDLERS,
        *ledger.HANDLERS,
        *events.HANDLERS,
        *webhook_endpoints.HANDLERS,
    ],
    guards=[authorize],
    request_class=ApiRequest,
)
