"""Real processes, really killed; `python -m tests.kills` runs all of it, pytest the small parts."""
