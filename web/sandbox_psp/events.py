"""Events: what happened, kept in the book and put into the outbox for every endpoint."""

import random
from typing import Any

from web.sandbox_psp.book import Stored
from web.sandbox_psp.config import API_VERSION
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.forms import Params
from web.sandbox_psp.work import Work, new_id


def emit(work: Work, kind: str, body: dict[str, Any], *, policy: str | None = None) -> None:
    """Record an event about an object and queue its deliveries.

    `policy` is how the events of this payment travel; a fault of the request itself goes first.
    """
    event = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": work.epoch,
        "data": {"object": body},
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": work.request_id, "idempotency_key": work.key},
        "type": kind,
    }
    wanting = [e for e in endpoints(work) if _wants(e, kind)]
    event["pending_webhooks"] = len(wanting)
    item = Stored(kind="event", created=work.now, body=event, parent=str(body.get("id", "")))
    work.book.save(item)
    work.emitted.append(item.id)
    how = work.webhook_policy or policy
    if how is None and work.sandbox.policy is not None:
        how = work.sandbox.policy.travel(kind)
        work.waits_for_webhooks = work.waits_for_webhooks or how == "first"
    for endpoint in wanting:
        for due in _departures(work, how):
            work.book.execute(
                "INSERT INTO deliveries (event, endpoint, due, status) VALUES (?, ?, ?, 'pending')",
                (item.id, endpoint.id, due),
            )


def _departures(work: Work, policy: str | None) -> list[float]:
    """Return when copies of an event leave; none when it is lost."""
    rules = work.settings.webhooks
    if policy == "never" or random.random() < rules.loss:
        return []
    due = work.now + rules.delay + random.uniform(0, rules.reorder)
    if policy == "late":
        due += work.settings.late_seconds
    if policy == "reordered":
        # What happened first leaves last.
        due += work.settings.reorder_seconds * max(0, 3 - len(work.emitted))
    copies = 2 if policy == "twice" or random.random() < rules.duplicate else 1
    return [due] * copies


def endpoints(work: Work) -> list[Stored]:
    """Return the registered addresses."""
    return work.book.select("kind = ?", ("webhook_endpoint",))


def _wants(endpoint: Stored, kind: str) -> bool:
    wanted = endpoint.body["enabled_events"]
    return endpoint.body["status"] == "enabled" and ("*" in wanted or kind in wanted)


def add_endpoint(
    work: Work, url: str, secret: str, *, enabled: list[str] | None = None, fixed: bool = False
) -> Stored:
    """Register an address for events; `fixed` marks one that the process was started with."""
    body: dict[str, Any] = {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None,
        "created": work.epoch,
        "description": None,
        "enabled_events": enabled or ["*"],
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }
    private = {"secret": secret, "fixed": fixed}
    return work.book.save(
        Stored(kind="webhook_endpoint", created=work.now, body=body, private=private)
    )


def register_fixed(work: Work, urls: tuple[str, ...], secret: str) -> None:
    """Make the addresses given at start the fixed ones, keeping those that are registered."""
    known = {e.body["url"]: e for e in endpoints(work) if e.private.get("fixed")}
    for url, endpoint in known.items():
        if url not in urls:
            remove_endpoint(work, endpoint)
        elif endpoint.private.get("configured", endpoint.private["secret"]) != secret:
            endpoint.private = {"secret": secret, "fixed": True}
            work.book.save(endpoint)
    for url in urls:
        if url not in known:
            add_endpoint(work, url, secret, fixed=True)


def remove_endpoint(work: Work, endpoint: Stored) -> None:
    """Forget an address and what was still to be sent to it."""
    work.book.execute("DELETE FROM objects WHERE id = ?", (endpoint.id,))
    work.book.execute(
        "UPDATE deliveries SET due = NULL, status = 'dropped' WHERE endpoint = ? "
        "AND due IS NOT NULL",
        (endpoint.id,),
    )


def create_endpoint(work: Work, params: Params) -> dict[str, Any]:
    """Register an endpoint through the API; its secret is shown only here."""
    params.only("url enabled_events description metadata api_version connect")
    url = params.need("url")
    if not url.startswith(("http://", "https://")):
        raise ApiError(400, "Invalid URL: must start with http or https.", param="url")
    enabled = [str(name) for name in params.items("enabled_events")]
    if not enabled:
        raise ApiError(
            400,
            "Missing required param: enabled_events.",
            code="parameter_missing",
            param="enabled_events",
        )
    secret = new_id("whsec")
    endpoint = add_endpoint(work, url, secret, enabled=enabled)
    return {**endpoint.body, "secret": secret}


def delete_endpoint(work: Work, object_id: str) -> dict[str, Any]:
    """Remove an endpoint through the API."""
    endpoint = work.need("webhook_endpoint", object_id)
    remove_endpoint(work, endpoint)
    return {"id": endpoint.id, "object": "webhook_endpoint", "deleted": True}
