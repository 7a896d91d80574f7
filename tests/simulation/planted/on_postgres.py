"""A planted bug that only PostgreSQL shows: SQLite has one writer, and nobody comes between."""

from contextlib import AbstractContextManager, ExitStack
from typing import Any

from sqlalchemy import Select

from app.payments import change
from tests.simulation.planted.house import swap


def payment_not_locked() -> AbstractContextManager[Any]:
    """PostgreSQL: a payment is read without its lock, and decided on."""
    stack = ExitStack()
    for name in ("_LOCK", "_LOCK_OF_MERCHANT"):
        stack.enter_context(swap(change, name, _unlocked(getattr(change, name))))
    return stack


def _unlocked(statement: "Select[Any]") -> "Select[Any]":
    made = statement.where()
    made._for_update_arg = None
    return made


ON_POSTGRES = {payment_not_locked.__name__: payment_not_locked}
