"""Errors of the sandbox's API, in the provider's envelope."""

from typing import Any


class ApiError(Exception):
    """A request that is refused; `stored` says whether its idempotency key keeps the refusal.

    A provider keeps an answer only once it began to carry the request out, so a refusal of the
    parameters is not kept and a refusal by the state of an object is.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        stored: bool = False,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.stored = stored
        self.headers = headers or {}
        self.error: dict[str, Any] = {"type": kind, "message": message}
        if code is not None:
            self.error["code"] = code
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        if param is not None:
            self.error["param"] = param
        self.error.update(extra or {})


def missing(kind: str, object_id: str, *, param: str | None = None, status: int = 404) -> ApiError:
    """Return the refusal for an id that names nothing."""
    return ApiError(
        status, f"No such {kind}: '{object_id}'", code="resource_missing", param=param or "id"
    )


def wrong_state(message: str, *, code: str, extra: dict[str, Any] | None = None) -> ApiError:
    """Return the refusal for an object whose state does not allow the request."""
    return ApiError(400, message, code=code, stored=True, extra=extra)
