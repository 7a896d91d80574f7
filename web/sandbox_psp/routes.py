"""The API's table of routes: which request is answered by which operation."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from web.sandbox_psp import events, intents, listing, refunds, sessions
from web.sandbox_psp.charges import present
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.forms import Params
from web.sandbox_psp.work import Work

Handler = Callable[[Work, Params, str], dict[str, Any]]


@dataclass(kw_only=True)
class Answer:
    """What the API says; `stored` tells whether an idempotency key keeps it."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    stored: bool = True


def _getter(kind: str, name: str) -> Handler:
    def handle(work: Work, params: Params, object_id: str) -> dict[str, Any]:
        params.only("expand client_secret")
        return present(work, work.need(kind, object_id, param=name))

    return handle


def _get_session(work: Work, params: Params, object_id: str) -> dict[str, Any]:
    params.only("expand")
    session = sessions.current(work, object_id)
    return present(work, session or work.need("checkout.session", object_id, param="session"))


def _account(work: Work, params: Params, _: str) -> dict[str, Any]:
    params.only("expand")
    return {
        "id": "acct_sandbox",
        "object": "account",
        "business_profile": {"name": work.sandbox.config.merchant_name},
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "DE",
        "default_currency": "eur",
        "details_submitted": True,
        "metadata": {},
        "payouts_enabled": True,
        "settings": {"dashboard": {"display_name": work.sandbox.config.merchant_name}},
        "type": "standard",
    }


def _plain(handler: Callable[[Work, Params], dict[str, Any]]) -> Handler:
    return lambda work, params, _: handler(work, params)


_BY_PARENT = {"payment_intent": "parent = ?"}
_INTENT = "/v1/payment_intents"
_SESSION = "/v1/checkout/sessions"
_ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", _INTENT, _plain(intents.create)),
    ("GET", _INTENT, listing.lister("payment_intent", _INTENT, "")),
    (
        "GET",
        f"{_INTENT}/search",
        lambda w, p, _: listing.search(w, p, "payment_intent", f"{_INTENT}/search"),
    ),
    ("GET", f"{_INTENT}/ID", _getter("payment_intent", "intent")),
    ("POST", f"{_INTENT}/ID", intents.update),
    ("POST", f"{_INTENT}/ID/confirm", intents.confirm),
    ("POST", f"{_INTENT}/ID/capture", intents.capture),
    ("POST", f"{_INTENT}/ID/cancel", intents.cancel),
    ("POST", _SESSION, _plain(sessions.create)),
    (
        "GET",
        _SESSION,
        listing.lister("checkout.session", _SESSION, "payment_intent status"),
    ),
    ("GET", f"{_SESSION}/ID", _get_session),
    ("GET", f"{_SESSION}/ID/line_items", lambda w, _, i: listing.line_items(w, i)),
    ("POST", f"{_SESSION}/ID/expire", sessions.expire),
    ("GET", "/v1/payment_methods/ID", _getter("payment_method", "payment_method")),
    (
        "GET",
        "/v1/charges",
        listing.lister("charge", "/v1/charges", "payment_intent", columns=_BY_PARENT),
    ),
    (
        "GET",
        "/v1/charges/search",
        lambda w, p, _: listing.search(w, p, "charge", "/v1/charges/search"),
    ),
    ("GET", "/v1/charges/ID", _getter("charge", "charge")),
    ("POST", "/v1/refunds", _plain(refunds.create)),
    (
        "GET",
        "/v1/refunds",
        listing.lister("refund", "/v1/refunds", "payment_intent charge", columns=_BY_PARENT),
    ),
    ("GET", "/v1/refunds/ID", _getter("refund", "refund")),
    (
        "GET",
        "/v1/balance_transactions",
        listing.lister(
            "balance_transaction",
            "/v1/balance_transactions",
            "source type currency",
            columns={"source": "parent = ?"},
        ),
    ),
    ("GET", "/v1/balance_transactions/ID", _getter("balance_transaction", "id")),
    ("GET", "/v1/events", listing.lister("event", "/v1/events", "type")),
    ("GET", "/v1/events/ID", _getter("event", "id")),
    ("POST", "/v1/webhook_endpoints", _plain(events.create_endpoint)),
    (
        "GET",
        "/v1/webhook_endpoints",
        listing.lister("webhook_endpoint", "/v1/webhook_endpoints", ""),
    ),
    ("GET", "/v1/webhook_endpoints/ID", _getter("webhook_endpoint", "webhook_endpoint")),
    ("DELETE", "/v1/webhook_endpoints/ID", lambda w, _, i: events.delete_endpoint(w, i)),
    ("GET", "/v1/account", _account),
]
_COMPILED = [
    (method, re.compile(path.replace("ID", "([A-Za-z0-9_]{3,120})")), handler)
    for method, path, handler in _ROUTES
]


def route(method: str, path: str) -> tuple[Handler, str]:
    """Return the handler of a request and the id in its path; raises ApiError 404."""
    for wanted, pattern, handler in _COMPILED:
        match = pattern.fullmatch(path) if wanted == method else None
        if match is not None:
            return handler, match[1] if pattern.groups else ""
    raise ApiError(404, f"Unrecognized request URL ({method}: {path[:200]}).")


def perform(work: Work, handler: Handler, params: Params, object_id: str) -> Answer:
    """Carry a request out, whole or not at all; a decline is an effect, a refusal is none."""
    try:
        with work.book.whole():
            try:
                body = handler(work, params, object_id)
            except intents.Declined as declined:
                return Answer(status=402, body={"error": declined.error})
            return Answer(status=200, body=listing.expand(work, params, body))
    except ApiError as refused:
        return refusal(refused, work.request_id)


def refusal(refused: ApiError, request_id: str | None) -> Answer:
    """Return the answer of a refusal."""
    error = {**refused.error, "request_log_url": f"/_sandbox#{request_id}"}
    return Answer(
        status=refused.status,
        body={"error": error},
        headers=refused.headers,
        stored=refused.stored,
    )
