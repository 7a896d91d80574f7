"""What a caller does next with its job once an answer has been applied."""

from typing import Literal

import msgspec


class Ruling(msgspec.Struct, frozen=True):
    """What the caller does next with its job; `seconds` until then, where that is known."""

    action: Literal["done", "again", "look", "next", "bury"]
    reason: str = ""
    seconds: float | None = None


DONE = Ruling("done")
