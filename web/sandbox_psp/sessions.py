"""Checkout Sessions: a page where the customer pays, and what becomes of it."""

import secrets
from typing import Any

from web.sandbox_psp import charges, intents, money, shapes, triggers
from web.sandbox_psp.book import Stored
from web.sandbox_psp.cards import AUTHENTICATION_FAILED
from web.sandbox_psp.charges import present
from web.sandbox_psp.errors import ApiError, wrong_state
from web.sandbox_psp.events import emit
from web.sandbox_psp.forms import Params
from web.sandbox_psp.work import Work, new_id

_CREATE = (
    "line_items mode success_url cancel_url client_reference_id customer_email metadata "
    "payment_intent_data expires_at payment_method_types locale submit_type ui_mode expand "
    "branding_settings currency customer_creation billing_address_collection"
)
_INTENT = (
    "metadata capture_method description receipt_email statement_descriptor "
    "statement_descriptor_suffix"
)
_MAX_LIFE = 86400
# Clocks of the two sides differ a little.
_GRACE = 60


def create(work: Work, params: Params) -> dict[str, Any]:
    """Open a session; raises ApiError for parameters that the provider refuses."""
    params.only(_CREATE)
    params.choice("mode", "payment", default="payment")
    params.choice("ui_mode", "hosted hosted_page", default="hosted")
    lines = _lines(work, params)
    amount = sum(line["amount_total"] for line in lines)
    currency = lines[0]["currency"]
    money.check(amount, currency, minimum=work.settings.minimum_amount, param="line_items")
    fault = triggers.fault_of(work, amount)
    subject = f"session:{work.key or work.request_id}"
    triggers.before(work, fault, subject)
    # The id is part of the page's address and the only thing that protects it.
    body = shapes.checkout_session(
        new_id("cs_test") + secrets.token_hex(12),
        created=work.epoch,
        amount=amount,
        currency=currency,
    )
    for name in ("success_url", "cancel_url"):
        body[name] = _url(params, name)
    for name in ("client_reference_id", "customer_email", "locale", "submit_type"):
        body[name] = params.text(name, limit=500)
    body["metadata"] = {k: v for k, v in params.metadata().items() if v is not None}
    body["expires_at"] = _expiry(work, params)
    body["url"] = f"{work.sandbox.config.public_url}/pay/{body['id']}"
    private = {
        "lines": lines,
        "intent_data": _intent_data(params.branch("payment_intent_data")),
        "merchant": params.branch("branding_settings").text("display_name", limit=200),
    }
    session = Stored(
        kind="checkout.session",
        created=work.now,
        body=body,
        private=private,
        due=float(body["expires_at"]),
    )
    work.book.save(session)
    triggers.after(work, fault, subject)
    return present(work, session)


def _url(params: Params, name: str) -> str | None:
    url = params.text(name) if name == "cancel_url" else params.need(name)
    if url is not None and not url.startswith(("http://", "https://")):
        raise ApiError(400, "Not a valid URL", code="url_invalid", param=name)
    return url


def _expiry(work: Work, params: Params) -> int:
    least = work.epoch + work.settings.expires_in_minimum
    expires = params.integer("expires_at", high=10**11)
    if expires is None:
        return work.epoch + _MAX_LIFE
    if not least - 1 <= expires <= work.epoch + _MAX_LIFE + _GRACE:
        raise ApiError(
            400,
            "The `expires_at` timestamp must be within 24 hours and not too soon.",
            param="expires_at",
        )
    return expires


def _lines(work: Work, params: Params) -> list[dict[str, Any]]:
    items = params.items("line_items")
    if not 1 <= len(items) <= 100:
        raise ApiError(
            400, "1 to 100 line_items are required.", code="parameter_missing", param="line_items"
        )
    lines = []
    for index, item in enumerate(items):
        name = f"line_items[{index}]"
        if not isinstance(item, dict):
            raise ApiError(400, f"Invalid object: {name}", param=name)
        lines.append(_line(Params(item, name)))
    if len({line["currency"] for line in lines}) > 1:
        raise ApiError(400, "All line items must have the same currency.", param="line_items")
    return lines


def _line(item: Params) -> dict[str, Any]:
    item.only("price_data quantity")
    price = item.branch("price_data")
    price.only("currency unit_amount product_data tax_behavior")
    product = price.branch("product_data")
    product.only("name description metadata images tax_code unit_label")
    unit = price.integer("unit_amount")
    if unit is None:
        name = price.name("unit_amount")
        raise ApiError(
            400, f"Missing required param: {name}.", code="parameter_missing", param=name
        )
    quantity = item.integer("quantity", low=1, high=999_999) or 1
    currency = price.need("currency").lower()
    return {
        "id": new_id("li"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": unit * quantity,
        "amount_tax": 0,
        "amount_total": unit * quantity,
        "currency": currency,
        "description": product.need("name", limit=1000),
        "price": {"object": "price", "currency": currency, "unit_amount": unit},
        "quantity": quantity,
    }


def _intent_data(params: Params) -> dict[str, Any]:
    params.only(_INTENT)
    return {
        "metadata": {k: v for k, v in params.metadata().items() if v is not None},
        "capture_method": params.choice(
            "capture_method", "automatic automatic_async manual", default="automatic"
        ),
        "description": params.text("description"),
        "receipt_email": params.text("receipt_email"),
    }


def expire(work: Work, params: Params, object_id: str) -> dict[str, Any]:
    """Close an open session for good; raises ApiError when it is not open."""
    params.only("expand")
    session = work.need("checkout.session", object_id, param="session")
    if session.body["status"] != "open":
        raise wrong_state(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of {session.body['status']}.",
            code="checkout_session_not_open",
        )
    close(work, session)
    return present(work, session)


def close(work: Work, session: Stored) -> None:
    """Expire a session and cancel its intent, so that nobody can pay it any more."""
    session.body.update(status="expired", url=None)
    session.due = None
    work.book.save(session)
    if session.body["payment_intent"]:
        intent = work.need("payment_intent", session.body["payment_intent"])
        if intent.body["status"] not in {"canceled", "succeeded"}:
            intents.end(work, intent, "abandoned")
    emit(work, "checkout.session.expired", present(work, session))


def current(work: Work, object_id: str) -> Stored | None:
    """Return a session as it is now: one whose time is up is expired first."""
    session = work.book.find("checkout.session", object_id)
    if (
        session is not None
        and session.body["status"] == "open"
        and work.now >= session.body["expires_at"]
    ):
        close(work, session)
    return session


def pay(work: Work, session: Stored, token: str, details: dict[str, Any]) -> dict[str, Any] | None:
    """Try to pay an open session by card; return the error of a decline, or None."""
    intent = _intent_of(work, session)
    fault = triggers.fault_of(work, intent.private.get("asked", intent.body["amount"]))
    intent.private["webhooks"] = triggers.travel(work, fault)
    if fault == "wrong_amount" and intent.private.get("asked") is None:
        intent.private["asked"] = intent.body["amount"]
        intent.body["amount"] += 1
    session.body["customer_details"] = {
        **shapes.billing(email=details.get("email"), name=details.get("name")),
        "tax_exempt": "none",
        "tax_ids": None,
        "business_name": None,
        "individual_name": None,
    }
    method = intents.new_method(work, token, details)
    error = intents.attempt(work, intent, method, off_session=False)
    _conclude(work, session, intent)
    return error


def answer_challenge(work: Work, session: Stored, *, passed: bool) -> dict[str, Any] | None:
    """Finish the second step of a card; return the error when it was not passed."""
    intent = work.need("payment_intent", session.body["payment_intent"])
    method = work.need("payment_method", intent.body["payment_method"])
    if not passed:
        return intents.decline(work, intent, method, AUTHENTICATION_FAILED, charge=None)
    intents.settle(work, intent, charges.new_charge(work, intent, method))
    _conclude(work, session, intent)
    return None


def _intent_of(work: Work, session: Stored) -> Stored:
    body = session.body
    if body["payment_intent"]:
        return work.need("payment_intent", body["payment_intent"])
    data = session.private["intent_data"]
    intent = intents.new_intent(work, amount=body["amount_total"], currency=body["currency"])
    intent.body.update(data)
    intent.private["session"] = session.id
    body["payment_intent"] = intent.id
    work.book.save(intent)
    emit(work, "payment_intent.created", present(work, intent))
    return intent


def _conclude(work: Work, session: Stored, intent: Stored) -> None:
    status = intent.body["status"]
    if status in {"succeeded", "requires_capture", "processing"}:
        session.body.update(
            status="complete",
            payment_status="paid" if status == "succeeded" else "unpaid",
            url=None,
        )
        session.due = None
    work.book.save(session)
    if session.body["status"] == "complete":
        emit(work, "checkout.session.completed", present(work, session))
