"""What passed between the shop and us: the request, and our messages about it, in words; pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from app.audit.models import AuditRow
from app.idempotency import KeyRow
from app.payments.models import Payment
from app.timeline.schemas import Moment
from app.timeline.words import clock, length, nth, sentence, took
from app.webhooks.models import Delivery, Event

_HASH_CHARS = 12


def accepted(payment: Payment, key: KeyRow | None, audit: AuditRow | None) -> Moment:
    """Tell that the shop asked for the payment; of its Idempotency-Key only a hash is kept."""
    parts = ["Accepted and written down before anything else."]
    if audit is not None and audit.actor_kind == "key":
        parts.append(f"With API key {audit.actor_name}.")
    if key is not None:
        parts.append(f"Idempotency key with SHA-256 {key.key_hash[:_HASH_CHARS]}….")
    if payment.request_id:
        parts.append(f"Request {payment.request_id}.")
    by_person = audit is not None and audit.actor_kind == "user"
    title = f"{audit.actor_name} made this payment" if audit and by_person else None
    return Moment(
        at=payment.created_at,
        kind="accepted",
        title=title or "Your shop asked for a payment",
        who="Dashboard" if by_person else "Shop to us",
        text=" ".join(parts),
        tone="info",
        icon="arrow-right",
        about=payment.id,
    )


def event_moments(events: Sequence[Event], deliveries: Sequence[Delivery]) -> list[Moment]:
    """Tell each try of each message to the shop, and the messages that nobody takes."""
    by_event: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        by_event.setdefault(delivery.event_id, []).append(delivery)
    out = []
    for event in events:
        mine = by_event.get(event.id, [])
        for delivery in mine:
            out += _tries(event, delivery)
        if not mine:
            out.append(_untold(event))
    return out


def _untold(event: Event) -> Moment:
    return Moment(
        at=event.created_at,
        kind="event",
        title=f"{event.type} noted",
        who="Us to shop",
        text=(
            "No endpoint of your shop takes this message; it can be listed through the API."
            if event.fanned_out
            else "About to be sent to your shop."
        ),
        tone="quiet",
        icon="webhook",
        about=event.id,
    )


def _tries(event: Event, delivery: Delivery) -> list[Moment]:
    log: list[dict[str, Any]] = delivery.log or []
    if not log:
        ended = delivery.state == "exhausted"
        reason = sentence(delivery.last_error) if ended else "It waits for its turn."
        return [
            Moment(
                at=delivery.created_at,
                kind="delivery",
                title=f"{event.type}: " + ("not sent to your shop" if ended else "queued"),
                who="Us to shop",
                text=reason,
                tone="bad" if ended else "quiet",
                icon="x" if ended else "clock",
                about=delivery.id,
            )
        ]
    # The log keeps the last fifty lines, so numbers count back from the number of tries.
    automatic = [line for line in log if not line.get("manual")]
    first = delivery.tries - len(automatic) + 1
    numbers = {id(line): first + index for index, line in enumerate(automatic)}
    return [
        _try(event, delivery, line, numbers.get(id(line)), following)
        for line, following in zip(log, [*log[1:], None], strict=True)
    ]


def _try(
    event: Event,
    delivery: Delivery,
    line: dict[str, Any],
    number: int | None,
    following: dict[str, Any] | None,
) -> Moment:
    status, error = line.get("status"), line.get("error")
    answer = f"your shop answered {status}" if status else "your shop did not answer"
    which = "Sent by hand" if number is None else f"{nth(number)} try"
    text = f"{which}, {took(line.get('ms') or 0)}."
    if error is not None:
        text += f" {sentence(error)} {_afterwards(delivery, line, following)}"
    gave_up = error is not None and following is None and delivery.state == "exhausted"
    return Moment(
        at=moment(line["at"]),
        kind="delivery",
        title=f"{event.type}: {answer}",
        who="Us to shop",
        text=text.strip(),
        tone="ok" if error is None else "bad" if gave_up else "wait",
        icon="send" if error is None else "x" if gave_up else "rotate-clockwise",
        about=delivery.id,
    )


def _afterwards(delivery: Delivery, line: dict[str, Any], following: dict[str, Any] | None) -> str:
    if following is not None:
        pause: timedelta = moment(following["at"]) - moment(line["at"])
        return f"Tried again after {length(pause)}."
    if delivery.state == "retrying" and delivery.next_try_at is not None:
        return f"Next try at {clock(delivery.next_try_at)}."
    if delivery.state == "exhausted":
        return f"Stopped after {delivery.tries} tries; you can send it again by hand."
    return ""


def moment(written: str) -> datetime:
    """Read a time from a row's JSON."""
    return datetime.fromisoformat(written)
