"""The provider's objects as new dictionaries, with every field that its API shows."""

from typing import Any

from web.sandbox_psp.cards import Instrument

Body = dict[str, Any]


def _address() -> Body:
    names = ("city", "country", "line1", "line2", "postal_code", "state")
    return dict.fromkeys(names)


def billing(*, email: str | None = None, name: str | None = None) -> Body:
    """Return billing details."""
    return {"address": _address(), "email": email, "name": name, "phone": None, "tax_id": None}


def payment_method(object_id: str, instrument: Instrument, *, created: int, details: Body) -> Body:
    """Return a payment method; details hold last4, exp_month, exp_year, email and name."""
    return {
        "id": object_id,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": billing(email=details.get("email"), name=details.get("name")),
        "card": {
            "brand": instrument.brand,
            "checks": {
                "address_line1_check": None,
                "address_postal_code_check": None,
                "cvc_check": "pass",
            },
            "country": "US",
            "display_brand": instrument.brand,
            "exp_month": details.get("exp_month", 12),
            "exp_year": details.get("exp_year", 2034),
            "fingerprint": f"sandbox{instrument.last4}",
            "funding": "credit",
            "generated_from": None,
            "last4": details.get("last4", instrument.last4),
            "networks": {"available": [instrument.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": created,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


def payment_intent(object_id: str, *, created: int, amount: int, currency: str) -> Body:
    """Return a payment intent that nobody has confirmed."""
    return {
        "id": object_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": f"{object_id}_secret_{object_id[-12:]}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": currency,
        "customer": None,
        "customer_account": None,
        "description": None,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def charge(object_id: str, intent: Body, method: Body, *, created: int, amount: int) -> Body:
    """Return a charge of an intent, neither paid nor captured yet."""
    return {
        "id": object_id,
        "object": "charge",
        "amount": amount,
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "SANDBOX PSP",
        "captured": False,
        "created": created,
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "seller_message": "Payment complete.",
            "type": "authorized",
        },
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"card": dict(method["card"]), "type": "card"},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "pending",
        "transfer_data": None,
        "transfer_group": None,
    }


def refund(object_id: str, of_charge: Body, *, created: int, amount: int) -> Body:
    """Return a refund of a charge."""
    return {
        "id": object_id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": of_charge["id"],
        "created": created,
        "currency": of_charge["currency"],
        "customer": None,
        "customer_account": None,
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": {},
        "payment_intent": of_charge["payment_intent"],
        "payment_method": of_charge["payment_method"],
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }


def balance_transaction(
    object_id: str, source: Body, *, created: int, amount: int, fee: int
) -> Body:
    """Return a line of the provider's account: net is amount less fee."""
    details = {
        "amount": fee,
        "application": None,
        "currency": source["currency"],
        "description": "Processing fees",
        "type": "stripe_fee",
    }
    return {
        "id": object_id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": created + 7 * 86400,
        "balance_type": "payments",
        "created": created,
        "currency": source["currency"],
        "description": source.get("description"),
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [details] if fee else [],
        "net": amount - fee,
        "reporting_category": "charge",
        "source": source["id"],
        "status": "pending",
        "type": "charge",
    }


def checkout_session(object_id: str, *, created: int, amount: int, currency: str) -> Body:
    """Return an open checkout session."""
    empty = (
        "after_expiration allow_promotion_codes billing_address_collection client_secret consent "
        "consent_collection currency_conversion customer customer_account customer_creation "
        "discounts invoice locale origin_context payment_intent payment_link "
        "payment_method_configuration_details phone_number_collection recovered_from "
        "setup_intent shipping_address_collection shipping_cost submit_type subscription "
        "integration_identifier permissions wallet_options saved_payment_method_options"
    )
    return {
        "id": object_id,
        "object": "checkout.session",
        **dict.fromkeys(empty.split()),
        "adaptive_pricing": {"enabled": False},
        "amount_subtotal": amount,
        "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": None,
        "client_reference_id": None,
        "collected_information": None,
        "created": created,
        "currency": currency,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer_details": None,
        "customer_email": None,
        "expires_at": created + 86400,
        "livemode": False,
        "metadata": {},
        "mode": "payment",
        "payment_method_collection": "if_required",
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "shipping_options": [],
        "status": "open",
        "success_url": None,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted",
        "url": None,
    }
