"""Where the bodies of events and the answers of shops are sealed, and who can open them."""

from app.secrets import Sealer


def body_place(event_id: str) -> str:
    """Return the place that an event's body is sealed for."""
    return f"events:{event_id}:body"


def answer_place(delivery_id: str) -> str:
    """Return the place that a shop's answer is sealed for."""
    return f"deliveries:{delivery_id}:answer"


def secret_place(endpoint_id: str) -> str:
    """Return the place that an endpoint's secret is sealed for."""
    return f"webhook_endpoints:{endpoint_id}:secret"


def old_secret_place(endpoint_id: str) -> str:
    """Return the place that an endpoint's former secret is sealed for."""
    return f"webhook_endpoints:{endpoint_id}:old_secret"


def sealer_of(main: Sealer, payment_id: str | None, data_key_sealed: str | None) -> Sealer | None:
    """Return who opens an event of this payment (None: of no payment).

    None when the customer was erased. Raises SealBroken.
    """
    if payment_id is None:
        return main
    if data_key_sealed is None:
        return None
    return main.data_key(data_key_sealed, f"customers_of_payments:{payment_id}:data_key")
