"""What a route says of itself: permission, query, answer, refusals; the spec is made of it."""

from typing import Any, Literal

import msgspec

from app.errors import Problem


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the API. `rows` is the shape in a list's `data`, `answer` any other's."""

    permission: str
    tag: str
    answer: type[msgspec.Struct] | None = None
    rows: type[msgspec.Struct] | None = None
    status: int = 200
    query: type[msgspec.Struct] | None = None
    key: Literal["required", "welcome", "none"] = "none"  # Idempotency-Key.
    consistency: Literal["strong", "eventual"] = "strong"
    refusals: tuple[type[Problem], ...] = ()
    ids: str | None = None  # Prefix of the id in the path.
    example: dict[str, Any] | None = None

    def opt(self) -> dict[str, Any]:
        """Return the route's `opt`: guards read the permission, the spec reads all of it."""
        return {"permission": self.permission, "operation": self}


PUBLIC: dict[str, Any] = {"permission": "public"}
