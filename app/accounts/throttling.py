"""How fast credentials may be tried: a ladder an account, windows for everything else (S06)."""

from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address

import msgspec

FREE_FAILURES = 4  # The fifth failure brings the first wait.
LOCK_AT = 10
LOCK = timedelta(minutes=30)
CODE_HARD_STOP = 100  # Wrong codes in the life of a seed: 100 x 3 of 10^6 is 3e-4.


class Window(msgspec.Struct, frozen=True):
    """At most `limit` failures in `seconds`, counted from the first."""

    limit: int
    seconds: int


PER_ADDRESS = Window(30, 15 * 60)
EVERYBODY = Window(600, 60)
CODES = Window(5, 60)  # Wrong codes of one person, so that a seed does not burn in a minute.
MAILS = Window(3, 3600)  # Letters that somebody else can cause, to one person.


def wait_after(failures: int) -> timedelta:
    """Return how long after the last failure an account takes no password."""
    if failures <= FREE_FAILURES:
        return timedelta()
    return timedelta(seconds=2 ** (min(failures, LOCK_AT) - FREE_FAILURES))


def may_try(
    *, failures: int, last_failure_at: datetime | None, locked_until: datetime | None, now: datetime
) -> bool:
    """Tell whether an account takes a password now."""
    if locked_until is not None and now < locked_until:
        return False
    if failures >= LOCK_AT and locked_until is not None:
        return True  # The lock has passed; the next failure locks again.
    return last_failure_at is None or now >= last_failure_at + wait_after(failures)


def address_scope(address: str | None) -> str:
    """Return the name that failures of an address are counted under; a /64 counts as one."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return "address:unknown"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return f"address:{found.ipv4_mapped}"
        return f"address:{IPv6Address(int(found) >> 64 << 64)}/64"
    return f"address:{found}"
