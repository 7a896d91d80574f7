"""Who did what, from where: one row an action."""
