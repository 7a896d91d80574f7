"""Shops, their terms and API keys."""
