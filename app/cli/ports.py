"""Ports of the loopback address that nobody uses."""

import random
import socket

# Below the ports that systems hand out by themselves: one of those may be taken between this look
# and the start of whoever wants to listen there.
_LOWEST, _HIGHEST = 10_000, 30_000
_LOOKS = 50


def free_port(neighbours: int = 0) -> int:
    """Return a free port; so are as many above it as asked. Raises OSError when none is found."""
    for _ in range(_LOOKS):
        port = random.randrange(_LOWEST, _HIGHEST)
        if all(_is_free(port + more) for more in range(neighbours + 1)):
            return port
    raise OSError("no free port was found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
