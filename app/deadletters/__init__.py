"""Work that stopped and waits for a person."""
