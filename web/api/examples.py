"""Example requests and answers that the spec and the reference show; tests hold each of them."""

from typing import Any

from app.merchants.keys import API_VERSION

_AT, _LATER = "2026-11-22T10:00:00.000000Z", "2026-11-22T10:00:41.000000Z"
IDS: dict[str, str] = {
    "pay": "pay_01kat0000000000000000000000000000a",
    "re": "re_01kat0000000000000000000000000000b",
    "evt": "evt_01kat0000000000000000000000000000c",
    "we": "we_01kat0000000000000000000000000000d",
    "whd": "whd_01kat0000000000000000000000000000e",
    "att": "att_01kat0000000000000000000000000000f",
}

CREATE_PAYMENT: dict[str, Any] = {
    "amount": 12840,
    "currency": "eur",
    "reference": "DEMO-10498",
    "description": "Order DEMO-10498",
    "customer": {"email": "customer@demo-shop.example", "name": "Demo customer"},
    "return_url": "https://demo-shop.example/thanks",
    "metadata": {"cart": "17"},
}
CREATE_REFUND: dict[str, Any] = {
    "payment": IDS["pay"],
    "amount": 2000,
    "reason": "requested_by_customer",
}
CREATE_ENDPOINT: dict[str, Any] = {
    "url": "https://demo-shop.example/webhooks/counterfoil",
    "event_types": ["payment.succeeded", "refund.succeeded"],
}

_PAYMENT: dict[str, Any] = {
    "id": IDS["pay"],
    "object": "payment",
    "livemode": False,
    "amount": 12840,
    "amount_captured": 0,
    "amount_refunded": 0,
    "amount_refundable": 0,
    "currency": "eur",
    "status": "requires_action",
    "finished": False,
    "status_reason": None,
    "failure": None,
    "psp": "sandbox",
    "psp_reference": None,
    "checkout_url": f"https://localhost/checkout/{IDS['pay']}.9f2c41d07b6e8a35c0d1",
    "capture_method": "automatic",
    "payment_method": None,
    "reference": "DEMO-10498",
    "description": "Order DEMO-10498",
    "customer": {"email": "customer@demo-shop.example", "name": "Demo customer"},
    "return_url": "https://demo-shop.example/thanks",
    "cancel_url": None,
    "fee": 0,
    "net": 0,
    "ledger_position": None,
    "attempts": [],
    "expires_at": "2026-11-23T10:00:00.000000Z",
    "metadata": {"cart": "17"},
    "created_at": _AT,
    "updated_at": _AT,
}
_PAID: dict[str, Any] = {
    **_PAYMENT,
    "amount_captured": 12840,
    "amount_refundable": 12840,
    "status": "succeeded",
    "finished": True,
    "psp_reference": "pi_demo_1",
    "fee": 398,
    "net": 12442,
    "ledger_position": 7,
    "attempts": [IDS["att"]],
    "updated_at": _LATER,
}
_HELD: dict[str, Any] = {
    **_PAYMENT,
    "status": "processing",
    "capture_method": "manual",
    "psp_reference": "pi_demo_1",
    "attempts": [IDS["att"]],
    "updated_at": _LATER,
}
_REFUND: dict[str, Any] = {
    "id": IDS["re"],
    "object": "refund",
    "livemode": False,
    "payment": IDS["pay"],
    "amount": 2000,
    "currency": "eur",
    "status": "pending",
    "status_reason": None,
    "failure": None,
    "reason": "requested_by_customer",
    "source": "api",
    "psp_reference": None,
    "ledger_position": None,
    "metadata": {},
    "created_at": _AT,
    "updated_at": _AT,
}
_REFUNDED = {**_REFUND, "status": "succeeded", "psp_reference": "re_demo_1", "ledger_position": 9}
_TIMELINE: dict[str, Any] = {
    "object": "timeline",
    "payment": IDS["pay"],
    "livemode": False,
    "data": [
        {
            "at": _AT,
            "kind": "accepted",
            "title": "Your shop asked for a payment",
            "who": "Shop to us",
            "text": "Accepted and written down before anything else.",
            "tone": "info",
            "icon": "arrow-right",
            "about": IDS["pay"],
            "details": [],
        }
    ],
}
_BALANCE: dict[str, Any] = {
    "object": "balance",
    "available": [{"amount": 48210, "currency": "eur"}],
    "pending": [{"amount": 12442, "currency": "eur"}],
    "reserved": [{"amount": 2000, "currency": "eur"}],
    "ledger_position": 9,
    "livemode": False,
}
_ENTRY: dict[str, Any] = {
    "id": "le_test0_7",
    "object": "ledger_entry",
    "position": 7,
    "kind": "capture",
    "part": "pending",
    "amount": 12442,
    "currency": "eur",
    "balance_before": 0,
    "balance_after": 12442,
    "payment": IDS["pay"],
    "refund": None,
    "livemode": False,
    "created_at": _LATER,
}
_EVENT: dict[str, Any] = {
    "id": IDS["evt"],
    "object": "event",
    "type": "payment.succeeded",
    "livemode": False,
    "api_version": API_VERSION,
    "payment": IDS["pay"],
    "refund": None,
    "sequence": 2,
    "timestamp": _LATER,
    "data": {"object": _PAID, "sequence": 2, "previous_status": "requires_action"},
    "created_at": _LATER,
    "updated_at": _LATER,
}
_ENDPOINT: dict[str, Any] = {
    "id": IDS["we"],
    "object": "webhook_endpoint",
    "livemode": False,
    "url": "https://demo-shop.example/webhooks/counterfoil",
    "description": None,
    "event_types": ["payment.succeeded", "refund.succeeded"],
    "status": "active",
    "status_reason": None,
    "failing_since": None,
    "old_secret_until": None,
    "api_version": API_VERSION,
    "created_at": _AT,
    "updated_at": _AT,
}
_SECRET = {"secret": "whsec_ZGVtby1kZW1vLWRlbW8tZGVtby1kZW1vLWRlbW8tMTI="}  # "demo-demo-…".
_TEST_EVENT: dict[str, Any] = {
    **_EVENT,
    "type": "endpoint.test",
    "payment": None,
    "sequence": None,
    "data": {
        "object": {"id": IDS["we"], "object": "webhook_endpoint", "livemode": False},
        "sequence": None,
        "previous_status": None,
    },
}
_DELIVERY: dict[str, Any] = {
    "id": IDS["whd"],
    "object": "delivery",
    "livemode": False,
    "endpoint": IDS["we"],
    "event": IDS["evt"],
    "event_type": "payment.succeeded",
    "payment": IDS["pay"],
    "state": "retrying",
    "tries": 1,
    "log": [{"at": _LATER, "status": 503, "ms": 120, "error": None, "manual": False}],
    "last_status": 503,
    "last_error": None,
    "next_try_at": "2026-11-22T10:00:46.000000Z",
    "delivered_at": None,
    "created_at": _LATER,
    "updated_at": _LATER,
}


def _list(path: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": list(rows), "has_more": False, "url": path}


# By the name of the operation.
ANSWERS: dict[str, dict[str, Any]] = {
    "create_payment": _PAYMENT,
    "get_payment": _PAID,
    "list_payments": _list("/v1/payments", _PAID),
    "get_payment_timeline": _TIMELINE,
    "capture_payment": _HELD,
    "cancel_payment": {**_HELD, "status_reason": "canceling"},
    "create_refund": _REFUND,
    "get_refund": _REFUNDED,
    "list_refunds": _list("/v1/refunds", _REFUNDED),
    "get_balance": _BALANCE,
    "list_ledger_entries": _list("/v1/ledger/entries", _ENTRY),
    "get_event": _EVENT,
    "list_events": _list("/v1/events", _EVENT),
    "create_webhook_endpoint": {**_ENDPOINT, **_SECRET},
    "list_webhook_endpoints": _list("/v1/webhook_endpoints", _ENDPOINT),
    "get_webhook_endpoint": _ENDPOINT,
    "update_webhook_endpoint": {**_ENDPOINT, "description": "Second shop server"},
    "delete_webhook_endpoint": {"id": IDS["we"], "object": "webhook_endpoint", "deleted": True},
    "rotate_webhook_secret": {**_ENDPOINT, "old_secret_until": "2026-11-23T10:00:00Z", **_SECRET},
    "test_webhook_endpoint": _TEST_EVENT,
    "list_webhook_deliveries": _list(f"/v1/webhook_endpoints/{IDS['we']}/deliveries", _DELIVERY),
    "redeliver_webhook": _DELIVERY,
}

PROBLEM: dict[str, Any] = {
    "type": "/docs/errors#idempotency-key-missing",
    "title": "The request is not valid",
    "status": 400,
    "detail": "Send an Idempotency-Key header.",
    "instance": "/v1/payments",
    "code": "idempotency-key-missing",
    "param": "Idempotency-Key",
    "decline_code": None,
    "request_id": "req_01kat0000000000000000000000000000g",
    "errors": [],
}

WEBHOOK: dict[str, Any] = {
    "type": _EVENT["type"],
    "timestamp": _EVENT["timestamp"],
    "data": {**_EVENT["data"], "object": {"id": IDS["pay"], "object": "payment", "…": "…"}},
}

VERIFY = '''\
import os

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["COUNTERFOIL_WEBHOOK_SECRET"])  # whsec_…


def receive(headers: dict[str, str], body: bytes, seen: set[str]) -> int:
    """Take one webhook; return the HTTP status to answer with."""
    try:
        event = webhook.verify(body, headers)  # The bytes as they came, not parsed JSON.
    except WebhookVerificationError:
        return 400
    message = headers["webhook-id"]
    if message not in seen:  # The same message may come twice: keep these in your database.
        seen.add(message)
        print(event["type"], event["data"]["object"]["id"])
    return 204
'''
