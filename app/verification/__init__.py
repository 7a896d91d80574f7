"""Checks what must always hold, from the database alone."""
