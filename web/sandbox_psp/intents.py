"""Payment intents: the provider's state machine of one payment."""

from typing import Any

from web.sandbox_psp import charges, money, shapes, triggers
from web.sandbox_psp.book import Stored
from web.sandbox_psp.cards import AUTHENTICATION_REQUIRED, INSTRUMENTS, Refusal
from web.sandbox_psp.charges import present
from web.sandbox_psp.errors import ApiError, missing, wrong_state
from web.sandbox_psp.events import emit
from web.sandbox_psp.forms import Params
from web.sandbox_psp.work import Work, new_id

_CREATE = (
    "amount currency automatic_payment_methods capture_method confirm confirmation_method "
    "description error_on_requires_action expand metadata off_session payment_method "
    "payment_method_options payment_method_types receipt_email return_url "
    "statement_descriptor statement_descriptor_suffix use_stripe_sdk"
)
_CONFIRM = (
    "payment_method off_session return_url error_on_requires_action capture_method expand "
    "payment_method_options payment_method_types receipt_email use_stripe_sdk"
)
_CAPTURE = (
    "amount_to_capture final_capture metadata statement_descriptor statement_descriptor_suffix "
    "expand"
)
_CONFIRMABLE = {"requires_payment_method", "requires_confirmation", "requires_action"}
_CANCELABLE = {*_CONFIRMABLE, "requires_capture"}


def create(work: Work, params: Params) -> dict[str, Any]:
    """Create an intent, and confirm it when asked to; raises ApiError, 402 for a decline."""
    params.only(_CREATE)
    amount = params.integer("amount")
    if amount is None:
        raise ApiError(
            400, "Missing required param: amount.", code="parameter_missing", param="amount"
        )
    currency = params.need("currency").lower()
    money.check(amount, currency, minimum=work.settings.minimum_amount)
    method = find_method(work, params)
    intent = new_intent(work, amount=amount, currency=currency)
    body = intent.body
    body["capture_method"] = params.choice(
        "capture_method", "automatic automatic_async manual", default="automatic"
    )
    body["metadata"] = {k: v for k, v in params.metadata().items() if v is not None}
    for name in ("description", "receipt_email", "statement_descriptor"):
        body[name] = params.text(name)
    if method is not None:
        body.update(status="requires_confirmation", payment_method=method.id)
    if params.branch("automatic_payment_methods").flag("enabled"):
        body["automatic_payment_methods"] = {"enabled": True, "allow_redirects": "always"}
    work.book.save(intent)
    if params.flag("confirm"):
        subject = f"create:{work.key}" if work.key else intent.id
        return _confirm(work, intent, method, params, subject=subject)
    return present(work, intent)


def new_intent(work: Work, *, amount: int, currency: str) -> Stored:
    """Return an intent that is not saved yet."""
    body = shapes.payment_intent(new_id("pi"), created=work.epoch, amount=amount, currency=currency)
    return Stored(kind="payment_intent", created=work.now, body=body)


def find_method(work: Work, params: Params) -> Stored | None:
    """Return the payment method that a request names: a stored one, or a new one from a token."""
    name = params.text("payment_method", limit=200)
    if name is None:
        return None
    if name in INSTRUMENTS and name.startswith("pm_"):
        return new_method(work, name, {})
    found = work.book.find("payment_method", name)
    if found is None:
        raise missing("PaymentMethod", name, param="payment_method", status=400)
    return found


def new_method(work: Work, token: str, details: dict[str, Any]) -> Stored:
    """Make a payment method that behaves like a token."""
    body = shapes.payment_method(
        new_id("pm"), INSTRUMENTS[token], created=work.epoch, details=details
    )
    return work.book.save(
        Stored(kind="payment_method", created=work.now, body=body, private={"token": token})
    )


def confirm(work: Work, params: Params, object_id: str) -> dict[str, Any]:
    """Confirm an intent; raises ApiError, 402 for a decline."""
    params.only(_CONFIRM)
    intent = work.need("payment_intent", object_id, param="intent")
    _need_state(work, intent, _CONFIRMABLE, "confirm")
    if intent.private.get("session"):
        raise wrong_state(
            "This PaymentIntent belongs to a Checkout Session: its page confirms it.",
            code="payment_intent_unexpected_state",
        )
    method = find_method(work, params)
    if method is None and intent.body["payment_method"]:
        method = work.book.find("payment_method", intent.body["payment_method"])
    return _confirm(work, intent, method, params, subject=intent.id)


def _confirm(
    work: Work, intent: Stored, method: Stored | None, params: Params, *, subject: str
) -> dict[str, Any]:
    if method is None:
        raise ApiError(
            400,
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
            extra={"payment_intent": present(work, intent)},
        )
    token = str(method.private["token"])
    fault = triggers.fault_of(work, intent.private.get("asked", intent.body["amount"]), token)
    triggers.before(work, fault, subject)
    intent.private["webhooks"] = triggers.travel(work, fault)
    altered = fault == "wrong_amount" or work.moves_another_amount
    if altered and intent.private.get("asked") is None:
        intent.private["asked"] = intent.body["amount"]
        intent.body["amount"] += 1
    error = attempt(work, intent, method, off_session=params.text("off_session") == "true")
    triggers.after(work, fault, subject)
    if error is not None:
        raise Declined(error)
    return present(work, intent)


class Declined(Exception):
    """A decline: the request had its effect, and the answer is 402 with this error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


def attempt(
    work: Work, intent: Stored, method: Stored, *, off_session: bool
) -> dict[str, Any] | None:
    """Try to charge an intent; return the error of a decline, or None."""
    instrument = INSTRUMENTS[str(method.private["token"])]
    intent.body.update(payment_method=method.id, last_payment_error=None, next_action=None)
    if instrument.effect == "challenge" and not off_session:
        intent.body["status"] = "requires_action"
        intent.body["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
        work.book.save(intent)
        _tell(work, "payment_intent.requires_action", intent)
        return None
    refusal = AUTHENTICATION_REQUIRED if instrument.effect == "challenge" else instrument.refusal
    charge = charges.new_charge(work, intent, method)
    if instrument.effect.startswith("later"):
        work.book.save(charge)
        intent.body.update(status="processing")
        intent.due = work.now + work.settings.settle_seconds
        work.book.save(intent)
        _tell(work, "payment_intent.processing", intent)
        return None
    if refusal is not None or instrument.effect == "challenge":
        return decline(work, intent, method, refusal or AUTHENTICATION_REQUIRED, charge=charge)
    settle(work, intent, charge)
    return None


def settle(work: Work, intent: Stored, charge: Stored) -> None:
    """Let a charge succeed: take the money, or hold it when capture is manual."""
    amount = intent.body["amount"]
    intent.body.update(next_action=None)
    intent.due = None
    if intent.body["capture_method"] == "manual":
        charges.authorize(work, charge)
        intent.body.update(status="requires_capture", amount_capturable=amount)
        intent.due = work.now + work.settings.authorization_seconds
        work.book.save(intent)
        _tell(work, "charge.succeeded", intent, charge)
        _tell(work, "payment_intent.amount_capturable_updated", intent)
        return
    charges.capture(work, charge, amount)
    intent.body.update(status="succeeded", amount_received=amount)
    work.book.save(intent)
    _tell(work, "charge.succeeded", intent, charge)
    _tell(work, "payment_intent.succeeded", intent)


def decline(
    work: Work, intent: Stored, method: Stored, refusal: Refusal, *, charge: Stored | None
) -> dict[str, Any]:
    """Let an attempt be declined; return the error as the API tells it."""
    error: dict[str, Any] = {
        "type": "card_error",
        "code": refusal.code,
        "message": refusal.message,
        "doc_url": f"https://stripe.com/docs/error-codes/{refusal.code.replace('_', '-')}",
        "payment_method": method.body,
    }
    if refusal.decline_code is not None:
        error["decline_code"] = refusal.decline_code
    if charge is not None:
        charges.fail(work, charge, refusal)
        error["charge"] = charge.id
    intent.body.update(
        status="requires_payment_method",
        payment_method=None,
        last_payment_error=dict(error),
        next_action=None,
    )
    intent.due = None
    work.book.save(intent)
    if charge is not None:
        _tell(work, "charge.failed", intent, charge)
    _tell(work, "payment_intent.payment_failed", intent)
    return {**error, "payment_intent": present(work, intent)}


def capture(work: Work, params: Params, object_id: str) -> dict[str, Any]:
    """Capture all or part of what an intent holds."""
    params.only(_CAPTURE)
    intent = work.need("payment_intent", object_id, param="intent")
    _need_state(work, intent, {"requires_capture"}, "capture")
    held = intent.body["amount_capturable"]
    amount = params.integer("amount_to_capture", low=1) or held
    if amount > held:
        raise ApiError(
            400,
            f"The amount to capture ({amount}) is more than what is capturable ({held}).",
            code="amount_too_large",
            param="amount_to_capture",
        )
    if work.moves_another_amount:
        amount = max(1, amount - 1)
    charge = work.need("charge", intent.body["latest_charge"])
    charges.capture(work, charge, amount)
    intent.body.update(status="succeeded", amount_received=amount, amount_capturable=0)
    intent.body["metadata"].update({k: v for k, v in params.metadata().items() if v is not None})
    intent.due = None
    work.book.save(intent)
    _session_is_paid(work, intent)
    _tell(work, "charge.captured", intent, charge)
    _tell(work, "payment_intent.succeeded", intent)
    return present(work, intent)


def _session_is_paid(work: Work, intent: Stored) -> None:
    session = intent.private.get("session")
    if session:
        item = work.need("checkout.session", session)
        item.body["payment_status"] = "paid"
        work.book.save(item)


def cancel(work: Work, params: Params, object_id: str) -> dict[str, Any]:
    """Cancel an intent that has not taken money; what it held is released."""
    params.only("cancellation_reason expand")
    reason = params.choice(
        "cancellation_reason", "duplicate fraudulent requested_by_customer abandoned"
    )
    intent = work.need("payment_intent", object_id, param="intent")
    _need_state(work, intent, _CANCELABLE, "cancel")
    session = intent.private.get("session")
    if session and work.need("checkout.session", session).body["status"] == "open":
        raise wrong_state(
            "You cannot cancel this PaymentIntent: expire its Checkout Session instead.",
            code="payment_intent_unexpected_state",
        )
    end(work, intent, reason)
    return present(work, intent)


def end(work: Work, intent: Stored, reason: str | None) -> None:
    """Cancel an intent whatever asked for it, and release what it held."""
    if intent.body["status"] == "requires_capture":
        charges.release(work, work.need("charge", intent.body["latest_charge"]))
    intent.body.update(
        status="canceled",
        canceled_at=work.epoch,
        cancellation_reason=reason,
        amount_capturable=0,
        next_action=None,
    )
    intent.due = None
    work.book.save(intent)
    _tell(work, "payment_intent.canceled", intent)


def update(work: Work, params: Params, object_id: str) -> dict[str, Any]:
    """Change an intent's description or metadata; an empty value removes a key."""
    params.only("description metadata receipt_email expand")
    intent = work.need("payment_intent", object_id, param="intent")
    for name in ("description", "receipt_email"):
        if params.has(name):
            intent.body[name] = params.text(name)
    merged = intent.body["metadata"] | params.metadata()
    intent.body["metadata"] = {k: v for k, v in merged.items() if v is not None}
    work.book.execute("DELETE FROM metadata WHERE object = ?", (intent.id,))
    return present(work, work.book.save(intent))


def finish_later(work: Work, intent: Stored) -> None:
    """Let a payment that the provider was still processing succeed or fail."""
    charge = work.need("charge", intent.body["latest_charge"])
    method = work.need("payment_method", intent.body["payment_method"])
    refusal = INSTRUMENTS[str(method.private["token"])].refusal
    if refusal is not None:
        decline(work, intent, method, refusal, charge=charge)
    else:
        settle(work, intent, charge)


def _need_state(work: Work, intent: Stored, states: set[str], verb: str) -> None:
    status = intent.body["status"]
    if status not in states:
        raise wrong_state(
            f"You cannot {verb} this PaymentIntent because it has a status of {status}.",
            code="payment_intent_unexpected_state",
            extra={"payment_intent": present(work, intent)},
        )


def _tell(work: Work, kind: str, intent: Stored, subject: Stored | None = None) -> None:
    body = present(work, subject or intent)
    emit(work, kind, body, policy=intent.private.get("webhooks"))
