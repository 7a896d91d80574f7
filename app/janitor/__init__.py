"""Finds out what became of unknown outcomes."""
