"""Refunds: money back to the customer, at most what was captured."""

from typing import Any

from web.sandbox_psp import charges, shapes, triggers
from web.sandbox_psp.book import Stored
from web.sandbox_psp.cards import INSTRUMENTS
from web.sandbox_psp.charges import present
from web.sandbox_psp.errors import ApiError, wrong_state
from web.sandbox_psp.events import emit
from web.sandbox_psp.forms import Params
from web.sandbox_psp.work import Work, new_id


def create(work: Work, params: Params) -> dict[str, Any]:
    """Refund all or part of a captured charge; raises ApiError."""
    params.only("payment_intent charge amount reason metadata expand")
    reason = params.choice("reason", "duplicate fraudulent requested_by_customer")
    charge = _find_charge(work, params)
    amount = params.integer("amount", low=1)
    metadata = {k: v for k, v in params.metadata().items() if v is not None}
    # A refund of all does not meet the magic of its payment's amount: it names no amount.
    fault = triggers.fault_of(work, amount or 0)
    subject = f"refund:{work.key or work.request_id}"
    triggers.before(work, fault, subject)
    if amount is not None and amount > 1 and work.moves_another_amount:
        amount -= 1
    refund = make(work, charge, amount, reason=reason, metadata=metadata)
    triggers.after(work, fault, subject)
    return present(work, refund)


def _find_charge(work: Work, params: Params) -> Stored:
    charge_id = params.text("charge")
    intent_id = params.text("payment_intent")
    if intent_id is not None:
        intent = work.need("payment_intent", intent_id, param="payment_intent")
        charge_id = intent.body["latest_charge"]
        if charge_id is None:
            raise wrong_state(
                "This PaymentIntent does not have a successful charge to refund.",
                code="charge_not_refundable",
            )
    if charge_id is None:
        raise ApiError(
            400,
            "One of the following params should be provided: payment_intent or charge.",
            code="parameter_missing",
        )
    return work.need("charge", charge_id, param="charge")


def make(
    work: Work,
    charge: Stored,
    amount: int | None,
    *,
    reason: str | None,
    metadata: dict[str, str],
) -> Stored:
    """Give an amount of a charge back, all that is left when none is named."""
    body = charge.body
    if not body["captured"] or body["status"] != "succeeded":
        raise wrong_state(
            f"Charge {charge.id} has not been captured and cannot be refunded.",
            code="charge_not_refundable",
        )
    left = body["amount_captured"] - body["amount_refunded"]
    if left <= 0:
        raise wrong_state(
            f"Charge {charge.id} has already been refunded.", code="charge_already_refunded"
        )
    amount = amount or left
    if amount > left:
        raise ApiError(
            400,
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount",
            stored=True,
        )
    shape = shapes.refund(new_id("re"), body, created=work.epoch, amount=amount)
    shape.update(reason=reason, metadata=metadata)
    refund = Stored(kind="refund", created=work.now, body=shape, parent=body["payment_intent"])
    _change_charge(work, charge, amount)
    how = _how(work, charge)
    if how == "later_ok":
        refund.body["status"] = "pending"
    else:
        _take(work, refund)
    if how != "ok":
        refund.private["later"] = how
        refund.due = work.now + work.settings.settle_seconds
    work.book.save(refund)
    policy = _policy(work, charge)
    emit(work, "refund.created", present(work, refund), policy=policy)
    emit(work, "charge.refunded", present(work, charge), policy=policy)
    return refund


def _how(work: Work, charge: Stored) -> str:
    method = work.need("payment_method", charge.body["payment_method"])
    return INSTRUMENTS[str(method.private["token"])].refund


def _policy(work: Work, charge: Stored) -> str | None:
    intent = work.need("payment_intent", charge.body["payment_intent"])
    policy = intent.private.get("webhooks")
    return str(policy) if policy else None


def _change_charge(work: Work, charge: Stored, amount: int) -> None:
    charge.body["amount_refunded"] += amount
    charge.body["refunded"] = charge.body["amount_refunded"] >= charge.body["amount_captured"]
    work.book.save(charge)


def _take(work: Work, refund: Stored) -> None:
    refund.private["transaction"] = charges.book_transaction(
        work, refund, kind="refund", amount=-refund.body["amount"], fee=0
    )
    refund.private["transaction_at"] = work.now


def finish_later(work: Work, refund: Stored) -> None:
    """Let a refund of a special card succeed or fail after a while."""
    refund.due = None
    if refund.private["later"] == "later_fail":
        fail(work, refund, "lost_or_stolen_card")
        return
    refund.body["status"] = "succeeded"
    _take(work, refund)
    work.book.save(refund)
    charge = work.need("charge", refund.body["charge"])
    emit(work, "refund.updated", present(work, refund), policy=_policy(work, charge))


def fail(work: Work, refund: Stored, reason: str) -> None:
    """Take a refund back: its money returns to the provider's account; raises ApiError."""
    if refund.body["status"] not in {"succeeded", "pending"}:
        raise wrong_state(
            f"Refund {refund.id} is {refund.body['status']}.", code="refund_not_failable"
        )
    charge = work.need("charge", refund.body["charge"])
    if "transaction" in refund.private:
        refund.body["failure_balance_transaction"] = charges.book_transaction(
            work, refund, kind="refund_failure", amount=refund.body["amount"], fee=0
        )
    refund.body.update(status="failed", failure_reason=reason)
    refund.due = None
    work.book.save(refund)
    _change_charge(work, charge, -refund.body["amount"])
    policy = _policy(work, charge)
    emit(work, "refund.updated", present(work, refund), policy=policy)
    emit(work, "refund.failed", present(work, refund), policy=policy)
