"""Events sent to merchants."""
