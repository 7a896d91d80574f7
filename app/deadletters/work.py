"""What each kind of job is, in words of the reader; pure."""

from typing import Any

import msgspec

from app.jobs import Job
from app.payments.attempts import current_of
from app.payments.models import Attempt, Payment, Refund

# Kinds of work as the list is narrowed to them.
GROUPS = {
    "payments": "Payments",
    "refunds": "Refunds",
    "messages": "Messages to shops",
    "ledger": "Ledger",
    "other": "Other",
}


class Kind(msgspec.Struct, frozen=True):
    """A kind of job: its name, what it does, and the effect at a PSP that it is for."""

    name: str
    does: str
    group: str
    effect: str | None = None


KINDS = {
    "payments.charge": Kind("Charge", "Charges the customer", "payments", "charge"),
    "payments.open_checkout": Kind(
        "Checkout page", "Makes the PSP's page for the customer", "payments", "checkout"
    ),
    "payments.capture": Kind("Capture", "Takes the money that is held", "payments", "capture"),
    "payments.void": Kind("Cancel", "Ends the payment at the PSP", "payments", "void"),
    "payments.expire": Kind("Expiry", "Ends a page whose time is over", "payments", "void"),
    "payments.send_refund": Kind("Refund", "Sends the refund to the PSP", "refunds", "refund"),
    "payments.refund_refused": Kind(
        "Refused refund", "Fails a refund that the wallet does not cover", "refunds"
    ),
    "payments.fetch_fee": Kind("PSP fee", "Asks for the PSP's own fee and records it", "other"),
    "janitor.resolve": Kind("Look-up", "Finds out what became of a request", "payments"),
    "deadletters.look": Kind("Look-up", "Asks the PSP before somebody decides", "other"),
    "deadletters.carry_out": Kind("Decision", "Does what two admins agreed on", "other"),
    "desk.settle": Kind("Review", "Compares a decision with the PSP's word", "other"),
    "desk.look": Kind("Look-up", "Asks the PSP for the review desk", "other"),
    "desk.once_more": Kind("Look-up", "Asks the PSP once more what went back", "other"),
    "inbox.apply": Kind("PSP message", "Acts on a message of the PSP", "other"),
    "webhooks.deliver": Kind("Message to the shop", "Tells the shop what happened", "messages"),
    "mail.send": Kind("Letter", "Sends an e-mail", "other"),
    "ledger.posting": Kind("Ledger posting", "Records money in the ledger", "ledger"),
}
_OF_EFFECT = {
    "charge": "payments.charge",
    "checkout": "payments.open_checkout",
    "capture": "payments.capture",
    "void": "payments.void",
    "refund": "payments.send_refund",
}


def kind_of(name: str) -> Kind:
    """Return what a kind of job is; one that a newer release wrote keeps its own name."""
    return KINDS.get(name) or Kind(name, "A newer release knows this work", "other")


def kinds_in(group: str) -> tuple[str, ...]:
    """Return the kinds of a group; of `other`, the ones that are known."""
    return tuple(name for name, kind in KINDS.items() if kind.group == group)


def attempt_of(job: Job, attempts: list[Attempt]) -> Attempt | None:
    """Return the attempt that a job is about: the one it names, else the one that counts now."""
    if job.kind == "janitor.resolve":
        return next((row for row in attempts if row.id == job.args.get("attempt_id")), None)
    effect = kind_of(job.kind).effect
    refund_id = job.args.get("refund_id")
    mine = [row for row in attempts if row.kind == effect and row.refund_id == refund_id]
    return current_of(mine)


def effect_of(job: Job, attempt: Attempt | None) -> str | None:
    """Return the effect at a PSP that a job is for; None for work inside the house."""
    return attempt.kind if attempt is not None else kind_of(job.kind).effect


def work_again(attempt: Attempt) -> tuple[str, dict[str, Any]]:
    """Return the kind and arguments of the job that brings an attempt's effect about anew."""
    args: dict[str, Any] = {"payment_id": attempt.payment_id}
    if attempt.kind == "capture":
        args["amount"] = attempt.amount
    if attempt.kind == "refund":
        args["refund_id"] = attempt.refund_id
    return _OF_EFFECT[attempt.kind], args


def name_of(job: Job, attempt: Attempt | None) -> str:
    """Return what a job is called: a look-up by what it looks for."""
    if job.kind == "janitor.resolve" and attempt is not None:
        return KINDS[_OF_EFFECT[attempt.kind]].name
    return kind_of(job.kind).name


def amount_of(
    job: Job, payment: Payment | None, refund: Refund | None, attempt: Attempt | None
) -> int | None:
    """Return what a job is about in minor units of the payment's currency."""
    if refund is not None:
        return refund.amount
    if attempt is not None:
        return attempt.amount
    if job.kind == "payments.capture":
        return int(job.args["amount"])
    return payment.amount if payment is not None else None
