"""The few kinds of refusal; each shell translates a kind once (web/errors.py, app/cli)."""

from typing import Any, ClassVar


class FieldError(dict[str, str]):
    """One bad field: `param` (a path such as `customer.email`), `code`, `detail`."""

    def __init__(self, param: str, code: str, detail: str) -> None:
        super().__init__(param=param, code=code, detail=detail)


class Problem(Exception):
    """A refusal with a stable code, told to the caller as RFC 9457 problem details.

    Subclasses of the kinds below stand above the function that raises them and set `code`: it
    belongs to the class alone, so that the spec and the reference know every code there is.
    `extra` holds further members of the answer and must be safe to show to the caller.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong"

    def __init__(
        self,
        detail: str = "",
        *,
        param: str | None = None,
        errors: list[FieldError] | None = None,
        retry_after: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.param = param
        self.errors = errors or []
        self.retry_after = retry_after
        self.extra = extra or {}


class Invalid(Problem):
    """What the schema alone can refuse; nothing is stored."""

    status = 400
    code = "invalid_request"
    title = "The request is not valid"


class Unauthenticated(Problem):
    """No credential, or one that we do not know (any more)."""

    status = 401
    code = "unauthenticated"
    title = "A valid API key is needed"


class Declined(Problem):
    """The customer's bank or the PSP said no."""

    status = 402
    code = "declined"
    title = "The payment was declined"


class Forbidden(Problem):
    """Known, but not allowed."""

    status = 403
    code = "forbidden"
    title = "This is not allowed"


class NotFound(Problem):
    """It does not exist, or it belongs to somebody else; the two read the same."""

    status = 404
    code = "not_found"
    title = "There is no such object"


class Conflict(Problem):
    """Right in itself, wrong in the present state."""

    status = 409
    code = "conflict"
    title = "The present state does not allow this"


class Stale(Problem):
    """The caller decided on numbers that are no longer so."""

    status = 412
    code = "stale"
    title = "The object has changed since you read it"


class Refused(Problem):
    """Right by the schema, refused by a rule."""

    status = 422
    code = "refused"
    title = "A rule does not allow this"


class TooMany(Problem):
    """Slow down; `retry_after` says for how many seconds."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"


class Unavailable(Problem):
    """We cannot do this now; try again after `Retry-After` seconds."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"


REFUSALS_WITH_KEY = (402, 409, 412, 422)  # Stored with an Idempotency-Key and replayed unchanged.
