"""The parameters of each request, made from the frozen request alone: the same for each replay."""

from typing import Any

from app.psp.port import Request
from app.psp.stripe.amounts import to_stripe

# The fee and the card are told with the charge; both may still be missing at first.
EXPAND_INTENT = ["latest_charge.balance_transaction"]
EXPAND_SESSION = ["payment_intent.latest_charge.balance_transaction"]
EXPAND_REFUND = ["balance_transaction"]
EXPAND_REFUNDS = ["data.charge"]
_REASONS = {"duplicate", "fraudulent", "requested_by_customer"}


def metadata(request: Request) -> dict[str, str]:
    """Return what makes an object ours and finds it again."""
    return {
        "installation": request.installation,
        "attempt_id": request.attempt_id,
        "payment_id": request.payment_id,
    }


def session(request: Request) -> dict[str, Any]:
    """Return the parameters of `sessions.create`."""
    intent: dict[str, Any] = {"metadata": metadata(request)}
    if request.capture_method == "manual":
        intent["capture_method"] = "manual"
    if request.description:
        intent["description"] = request.description
    price = {
        "currency": request.currency,
        "unit_amount": to_stripe(request.amount, request.currency),
        "product_data": {"name": request.description or "Payment"},
    }
    made: dict[str, Any] = {
        "mode": "payment",
        "line_items": [{"quantity": 1, "price_data": price}],
        "client_reference_id": request.payment_id,
        "metadata": metadata(request),
        "payment_intent_data": intent,
        "payment_method_types": ["card"],
    }
    for name in ("success_url", "cancel_url", "customer_email"):
        if value := getattr(request, name):
            made[name] = value
    if request.expires_at is not None:
        made["expires_at"] = int(request.expires_at.timestamp())
    return made


def intent(request: Request) -> dict[str, Any]:
    """Return the parameters of `payment_intents.create`; it moves nothing."""
    made: dict[str, Any] = {
        "amount": to_stripe(request.amount, request.currency),
        "currency": request.currency,
        "capture_method": request.capture_method,
        "payment_method_types": ["card"],
        "metadata": metadata(request),
    }
    if request.payment_method:
        made["payment_method"] = request.payment_method
    if request.description:
        made["description"] = request.description
    return made


def confirm() -> dict[str, Any]:
    """Return the parameters of `payment_intents.confirm`: the customer is not there."""
    return {"off_session": True, "expand": EXPAND_INTENT}


def capture(request: Request) -> dict[str, Any]:
    """Return the parameters of `payment_intents.capture`; what is not captured is released."""
    return {
        "amount_to_capture": to_stripe(request.amount, request.currency),
        "expand": EXPAND_INTENT,
    }


def refund(request: Request) -> dict[str, Any]:
    """Return the parameters of `refunds.create`."""
    made: dict[str, Any] = {
        "payment_intent": request.psp_reference,
        "amount": to_stripe(request.amount, request.currency),
        "metadata": metadata(request),
        "expand": EXPAND_REFUND,
    }
    # Stripe knows three reasons; a merchant's own words stay with us.
    if request.reason in _REASONS:
        made["reason"] = request.reason
    return made
