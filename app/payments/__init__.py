"""Payments, refunds and attempts at payment service providers."""
