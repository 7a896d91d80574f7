"""What PostgreSQL and its driver say about an error, without the values that they repeat.

An error's text goes into logs and dead letters; the values are people's, and some are secrets.
"""

import re
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

# "Key (email)=(…) already exists", "Failing row contains (…)", "query argument $1: '…' (expected".
_VALUES = re.compile(r"(?s)\nDETAIL:.*|(?<=query argument \$)(\d+): .*")


def keep(engine: Engine) -> None:
    """Take values out of every error of this engine."""
    event.listen(engine, "handle_error", _forget)


def _forget(context: ExceptionContext) -> None:
    original = context.original_exception
    errors: list[Any] = [context.sqlalchemy_exception, original, original.__cause__]
    for error in errors:
        if error is None:
            continue
        if isinstance(getattr(error, "detail", None), str):
            # The driver's own errors have it apart, and say it whenever they are written.
            error.detail = None
        error.args = tuple(
            _VALUES.sub(r"\1", said) if isinstance(said, str) else said for said in error.args
        )
