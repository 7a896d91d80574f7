"""The sandbox PSP: a payment provider for tests, with its own book, hosted page and faults."""
