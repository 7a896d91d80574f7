"""Rules of tenants: merchant and mode agree along every pointer from one row to another."""

from typing import Any

from sqlalchemy import ColumnElement, and_, literal, or_, select

from app.jobs import Job
from app.ledger.models import PostingRow
from app.payments.models import Attempt, Customer, Payment, PspCall, Refund
from app.psp.models import PspConnection
from app.reviews.models import Review
from app.verification.rule import Rule, named
from app.webhooks.models import Delivery, Endpoint, Event


def _agree(kind: str, key: Any, child: Any, pointer: Any, parent: Any) -> Rule:
    """Return the rule that rows of `child` are of the merchant and mode of what they point at."""
    target = parent.__tablename__
    strange = or_(child.merchant_id != parent.merchant_id, child.livemode != parent.livemode)
    return Rule(
        "I13",
        f"{child.__tablename__} agree with their {target}",
        _rows(kind, key, child, pointer == parent.id, strange, target, parent),
    )


def _rows(
    kind: str,
    key: Any,
    child: Any,
    joined: ColumnElement[bool],
    strange: ColumnElement[bool],
    target: str,
    parent: Any,
) -> Any:
    why = literal(f"another merchant or mode than its row of {target}: ") + parent.id
    return (
        select(named(kind, key).label("what"), why.label("why"))
        .select_from(child)
        .join(parent, joined)
        .where(strange)
        .order_by(key)
    )


def _of_connection(kind: str, child: Any) -> Rule:
    """Return the rule that a row's PSP connection is of its mode and not another merchant's."""
    strange = or_(
        child.livemode != PspConnection.livemode,
        and_(
            PspConnection.merchant_id.is_not(None),
            PspConnection.merchant_id != child.merchant_id,
        ),
    )
    joined = child.connection_id == PspConnection.id
    return Rule(
        "I13",
        f"{child.__tablename__} agree with their connection",
        _rows(kind, child.id, child, joined, strange, "psp_connections", PspConnection),
    )


RULES = (
    _agree("refund", Refund.id, Refund, Refund.payment_id, Payment),
    _agree("attempt", Attempt.id, Attempt, Attempt.payment_id, Payment),
    _agree("attempt", Attempt.id, Attempt, Attempt.refund_id, Refund),
    _agree("psp call", PspCall.id, PspCall, PspCall.attempt_id, Attempt),
    _agree("customer of", Customer.payment_id, Customer, Customer.payment_id, Payment),
    _agree("posting", PostingRow.key, PostingRow, PostingRow.payment_id, Payment),
    _agree("posting", PostingRow.key, PostingRow, PostingRow.refund_id, Refund),
    _agree("event", Event.id, Event, Event.payment_id, Payment),
    _agree("delivery", Delivery.id, Delivery, Delivery.event_id, Event),
    _agree("delivery", Delivery.id, Delivery, Delivery.endpoint_id, Endpoint),
    _agree("job", Job.id, Job, Job.payment_id, Payment),
    _agree("review", Review.id, Review, Review.payment_id, Payment),
    _agree("review", Review.id, Review, Review.attempt_id, Attempt),
    _of_connection("payment", Payment),
    _of_connection("attempt", Attempt),
)
