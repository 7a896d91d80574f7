"""When a delivery is tried again."""

# Seconds after the try before; the first try is at once.
DELAYS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MOST_TRIES = len(DELAYS) + 1
JITTER = 0.1


def next_delay(tries: int, jitter: float) -> float | None:
    """Return the seconds from a failed try to the next one; None after the last.

    `tries` counts those made; `jitter` in [0, 1) stretches the delay by up to a tenth, so that
    deliveries that failed together do not come back together.
    """
    if tries >= MOST_TRIES:
        return None
    return DELAYS[tries - 1] * (1 + JITTER * jitter)
