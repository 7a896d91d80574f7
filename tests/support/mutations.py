"""Bytes that somebody tampered with, from a seed."""

import random


def altered(chance: random.Random, data: bytes) -> bytes:
    """Return other bytes than `data`, mostly close to it (by chance they may be the same)."""
    at = chance.randrange(len(data) + 1)
    other = bytes([chance.randrange(256)])
    return chance.choice(
        [
            data[:at] + other + data[at + 1 :],
            data[:at] + other + data[at:],
            data[:at] + data[at + chance.randrange(1, 9) :],
            data[at:] + data[:at],
            data[:at],
            data + data,
            data.swapcase(),
            chance.randbytes(chance.randrange(200)),
        ]
    )
