"""Public shapes of events, endpoints and deliveries, shared by API answers and pages."""

from datetime import datetime
from typing import Any, Literal

import msgspec

API_VERSION = "2026-11-22"  # Stored with each event and endpoint, so that shapes may change later.
TEST_EVENT = "endpoint.test"
EVENT_TYPES = (
    "payment.created",
    "payment.requires_action",
    "payment.processing",
    "payment.requires_capture",
    "payment.succeeded",
    "payment.failed",
    "payment.canceled",
    "payment.expired",
    "refund.created",
    "refund.succeeded",
    "refund.failed",
)


class EventObject(msgspec.Struct, kw_only=True):
    """An event as `GET /v1/events` shows it. `data` is null once the customer was erased."""

    id: str
    object: Literal["event"] = "event"
    type: str
    livemode: bool
    api_version: str
    payment: str | None
    refund: str | None
    sequence: int | None
    timestamp: datetime
    data: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


class EndpointObject(msgspec.Struct, kw_only=True):
    """A webhook endpoint. `secret` is there in the answer to creating or rotating, never again."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    livemode: bool
    url: str
    description: str | None
    event_types: list[str]
    status: Literal["active", "failing", "disabled"]
    status_reason: str | None
    failing_since: datetime | None
    old_secret_until: datetime | None
    api_version: str
    created_at: datetime
    updated_at: datetime
    secret: str | msgspec.UnsetType = msgspec.UNSET


class DeliveryTry(msgspec.Struct, kw_only=True):
    """One try: when, the shop's HTTP status or our error, and how long it took."""

    at: datetime
    status: int | None
    ms: int
    error: str | None = None
    manual: bool = False


class DeliveryObject(msgspec.Struct, kw_only=True):
    """One event to one endpoint, with the story of its tries."""

    id: str
    object: Literal["delivery"] = "delivery"
    livemode: bool
    endpoint: str
    event: str
    event_type: str
    payment: str | None
    state: Literal["queued", "delivered", "retrying", "exhausted"]
    tries: int
    log: list[DeliveryTry]
    last_status: int | None
    last_error: str | None
    next_try_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    updated_at: datetime
