"""What people did about a payment, and its dead letters, in words; pure."""

from collections.abc import Sequence
from typing import Any

from app import money
from app.audit.models import AuditRow
from app.inbox.models import ReceivedEvent
from app.jobs import Job
from app.payments.models import Attempt, Payment
from app.timeline.schemas import Moment, Tone
from app.timeline.shop import moment
from app.timeline.words import clock, sentence

# Told by the payment and the refunds themselves.
_TOLD_ELSEWHERE = frozenset({"payment.create", "refund.create"})
_ACTIONS = {
    "payment.capture": ("check", "asked to take {amount} of what is held"),
    "payment.cancel": ("ban", "asked to cancel the payment"),
    "payment.review_approved": ("shield-check", "approved the payment"),
    "payment.review_refused": ("shield-x", "refused the payment"),
}
_WORK = {
    "payments.charge": "Charging the customer",
    "payments.open_checkout": "Making the PSP's page",
    "payments.capture": "Taking what is held",
    "payments.void": "Ending the payment",
    "payments.send_refund": "Sending the refund",
    "payments.refund_refused": "Failing the refund",
    "payments.fetch_fee": "Asking for the PSP's fee",
    "payments.expire": "Ending the page that is over",
    "janitor.resolve": "Finding out what happened",
    "webhooks.deliver": "Telling your shop",
}
_LETTERS: dict[str, tuple[str, Tone, str]] = {
    "buried": ("{work} has stopped: a person has to decide", "bad", "inbox-off"),
    "retried": ("{work} was started again by a person", "info", "rotate-clockwise"),
    "discarded": ("{work} was given up by a person", "quiet", "trash"),
}
_CARD_DECLINED = "payment_intent.payment_failed"


def action_moments(rows: Sequence[AuditRow], payment: Payment) -> list[Moment]:
    """Tell what keys and people asked for, apart from making payments and refunds."""
    out = []
    for row in rows:
        if row.action in _TOLD_ELSEWHERE:
            continue
        icon, words = _ACTIONS.get(row.action, ("user", row.action.replace(".", ": ")))
        after: dict[str, Any] = row.after if isinstance(row.after, dict) else {}
        asked = money.text(int(after.get("amount") or payment.amount), payment.currency)
        by_key = row.actor_kind == "key"
        name = "Your shop" if by_key else row.actor_name
        out.append(
            Moment(
                at=row.created_at,
                kind="action",
                title=f"{name} {words.format(amount=asked)}",
                who="Shop to us" if by_key else "Dashboard",
                text=sentence(row.reason),
                tone="info",
                icon=icon,
                about=row.id,
            )
        )
    return out


def letter_moments(jobs: Sequence[Job]) -> list[Moment]:
    """Tell what was dead-lettered, tried again or given up, and why."""
    out = []
    for job in jobs:
        for line in job.history or []:
            if line.get("what") not in _LETTERS:
                continue
            title, tone, icon = _LETTERS[line["what"]]
            out.append(
                Moment(
                    at=moment(line["at"]),
                    kind="dead_letter",
                    title=title.format(work=_WORK.get(job.kind, job.kind)),
                    who="Platform",
                    text=sentence(line.get("why")),
                    tone=tone,
                    icon=icon,
                    about=job.id,
                )
            )
    return out


def due_moments(jobs: Sequence[Job]) -> list[Moment]:
    """Tell when work that was postponed goes on."""
    return [
        Moment(
            at=job.run_at,
            kind="next",
            title=f"Next: {_WORK.get(job.kind, job.kind).lower()}",
            who="Us to PSP",
            text=f"{sentence(job.reason)} Tried again by itself at {clock(job.run_at)}.",
            tone="info",
            icon="clock",
            about=job.id,
        )
        for job in jobs
        if job.state == "due" and job.reason and job.queue == "psp"
    ]


def received_moments(events: Sequence[ReceivedEvent], attempts: Sequence[Attempt]) -> list[Moment]:
    """Tell what the PSP wrote to us by itself, and what that did."""
    ends = [one.finished_at for one in attempts if one.finished_at is not None]
    out = []
    for event in events:
        settled = any(end < event.received_at for end in ends)
        declined = event.type == _CARD_DECLINED
        out.append(
            Moment(
                at=event.received_at,
                kind="psp_event",
                title=(
                    "The PSP tells that a card was declined"
                    if declined
                    else "The PSP's own message arrived"
                ),
                who="PSP to us",
                text=f"{_effect(event, settled=settled)} Message {event.type}.",
                tone="wait" if declined else "quiet",
                icon="x" if declined else "webhook",
                about=event.id,
            )
        )
    return out


def _effect(event: ReceivedEvent, *, settled: bool) -> str:
    if event.state == "received":
        return "Written down; about to be read."
    if event.state == "parked":
        return "It waits until what it is about is here."
    if event.state != "applied":
        return sentence(event.note) or "Nothing that we act on."
    if event.type == _CARD_DECLINED:
        return "We asked the PSP for the present state; the customer may try another card."
    if settled and event.about != "refund":
        return "It says the same. Already recorded, so nothing was done twice."
    return "We asked the PSP for the present state and recorded that."
