"""The workers: claim due rows, run them, ring and be rung."""
