"""Keyed hashes that stand for a customer and a saved card; pure."""

from app.secrets import Sealer


def of_email(sealer: Sealer, email: str) -> str:
    """Return what stands for a customer's e-mail address."""
    return sealer.keyed_hash("customer_email", email.strip().lower())


def of_method(sealer: Sealer, token: str) -> str:
    """Return what stands for a PSP's token of a saved card."""
    return sealer.keyed_hash("payment_method", token)
