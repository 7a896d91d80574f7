"""Faults: what may go wrong with one request, and the scripts that say when."""

from typing import Literal

import msgspec

from web.sandbox_psp.errors import ApiError

# What happens to the answer on its way; the operation's effect is whole or none.
MANGLED = ("reset", "truncate", "garbage", "html", "slow_body")
WEBHOOK_KINDS = {
    "no_webhook": "never",
    "double_webhook": "twice",
    "late_webhook": "late",
    "reordered_webhook": "reordered",
    "first_webhook": "first",
}
KINDS_BEFORE = (
    *("drop_request", "delay", "status", "key_in_use", "key_mismatch", "wrong_amount"),
    *MANGLED,
)
KINDS_AFTER = ("drop_response", "delay", "status", "wrong_amount", *MANGLED, *WEBHOOK_KINDS)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fault: `before` the request has an effect, or `after` it had.

    `seconds` belongs to delay, drop_request, drop_response (silence before the cut) and
    slow_body (how long the body takes), `status` to status, `bytes` to reset and truncate.
    Before the effect, a mangled answer is that of a gateway: nothing has happened.
    `before:wrong_amount` moves another amount than asked; `after:wrong_amount` only says so.
    """

    when: Literal["before", "after"]
    kind: str
    seconds: float = 0.0
    status: int = 500
    bytes: int = 0
    retry_after: str | None = None
    should_retry: bool | None = None

    def __post_init__(self) -> None:
        kinds = {"before": KINDS_BEFORE, "after": KINDS_AFTER}[self.when]
        if self.kind not in kinds:
            raise ValueError(f"no fault {self.kind!r} {self.when!r} the effect")
        if not 400 <= self.status <= 599:
            raise ValueError("status must be from 400 to 599")
        if not 0 <= self.seconds <= 3600:
            raise ValueError("seconds must be from 0 to 3600")
        if not 0 <= self.bytes <= 1_000_000:
            raise ValueError("bytes must be from 0 to 1000000")
        if self.retry_after is not None and not is_header_text(self.retry_after):
            raise ValueError("retry_after must be printable ASCII, at most 100 characters")

    @property
    def name(self) -> str:
        """Return the fault's name for the log of requests."""
        return f"{self.when}:{self.kind}"


def is_header_text(text: str) -> bool:
    """Return whether a text can stand in a header."""
    return len(text) <= 100 and text.isascii() and text.isprintable()


ALL_FAULTS = (
    *(f"before:{kind}" for kind in KINDS_BEFORE),
    *(f"after:{kind}" for kind in KINDS_AFTER),
)


class Script(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A fault for the next `count` requests whose method and path contain the given texts."""

    fault: Fault
    method: str = ""
    path: str = ""
    count: int = 1

    def matches(self, method: str, path: str) -> bool:
        """Return whether a request is meant."""
        return self.count > 0 and self.method in {"", method} and self.path in path


class Stopped(Exception):
    """A fault struck before the effect; `subject` is counted so that it strikes only so often."""

    def __init__(self, fault: Fault, subject: str) -> None:
        super().__init__(fault.name)
        self.fault = fault
        self.subject = subject


_NUMBERS = {
    "delay": "seconds",
    "drop_request": "seconds",
    "drop_response": "seconds",
    "slow_body": "seconds",
    "status": "status",
    "reset": "bytes",
    "truncate": "bytes",
}


def from_text(text: str) -> Fault:
    """Read `after:drop_response`, `after:delay=2` or `before:status=429; retry_after=1`.

    More fields follow after semicolons, as `name=value`. Raises ValueError.
    """
    head, *more = [part.strip() for part in text.split(";")]
    when, _, rest = head.partition(":")
    kind, _, number = rest.partition("=")
    fields: dict[str, object] = {"when": when, "kind": kind}
    if number:
        if kind not in _NUMBERS:
            raise ValueError(f"{kind[:40]!r} takes no number")
        fields[_NUMBERS[kind]] = number
    for part in more:
        name, _, value = part.partition("=")
        fields[name.strip()] = value.strip()
    return msgspec.convert(fields, Fault, strict=False)


def from_header(text: str) -> Fault:
    """Read the header `X-Sandbox-Fault`; raises ApiError 400."""
    try:
        return from_text(text)
    except ValueError as error:
        raise ApiError(400, f"X-Sandbox-Fault: {error}") from error


class Scripts:
    """The scripted faults that are still to strike. They do not outlive the process."""

    def __init__(self) -> None:
        self.waiting: list[Script] = []

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that is due for a request and use it up."""
        for script in self.waiting:
            if script.matches(method, path):
                script.count -= 1
                if script.count <= 0:
                    self.waiting.remove(script)
                return script.fault
        return None
