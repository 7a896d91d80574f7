"""Who belongs to which shop."""
