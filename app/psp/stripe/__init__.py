"""Stripe, and the sandbox that speaks its wire format."""
