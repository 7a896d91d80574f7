"""Journeys through a whole installation, as its users make them."""
