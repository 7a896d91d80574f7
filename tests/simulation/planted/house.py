"""Planted bugs of the house: transactions, keys, jobs and who finds them again."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

from sqlalchemy.exc import DBAPIError

from app import db, jobs
from tests.simulation.worker import Worker
from web.api import idempotent

_SHOPS = {"anna", "ben", "carl"}


def swap(where: Any, name: str, value: Any) -> AbstractContextManager[Any]:
    """Put a value in place of what a module or class has, for as long as the block lasts."""
    return mock.patch.object(where, name, value)


def plain_begin() -> AbstractContextManager[Any]:
    """SQLite: a writing transaction begins as if it only read."""
    real = db.Sessions.begin

    def begin(sessions: db.Sessions) -> Any:
        sessions._write = sessions._snapshot
        return real(sessions)

    return swap(db.Sessions, "begin", begin)


def key_not_scoped() -> AbstractContextManager[Any]:
    """Two shops share one space of idempotency keys."""
    real = idempotent._claim

    def claim(request: Any, rt: Any, key: str, status: int) -> Any:
        shop, number, what = [*key.split("-", 2), "", ""][:3]
        same = f"{int(number) // 3}-{what}" if number.isdigit() else key
        made = real(request, rt, same if shop in _SHOPS else key, status)
        made.scope = "m:all:test"
        return made

    return swap(idempotent, "_claim", claim)


def acknowledged_before_commit() -> AbstractContextManager[Any]:
    """The API answers although the transaction then fails."""

    @asynccontextmanager
    async def begin(self: Any) -> Any:
        inner = real(self)
        session = await inner.__aenter__()
        try:
            yield session
        except BaseException as error:
            await inner.__aexit__(type(error), error, error.__traceback__)
            raise
        with contextlib.suppress(DBAPIError):
            await inner.__aexit__(None, None, None)

    real = db.Sessions.begin
    return swap(db.Sessions, "begin", begin)


@contextmanager
def outbox_outside() -> Iterator[None]:
    """The first job of a payment is written after its transaction, if nothing comes between."""
    from app.payments import accepting

    real = accepting._first_job

    def first_job(rt: Any, payment: Any) -> Any:
        made = real(rt, payment)
        lost = rt.ids.uniform(0, 1) < 0.3
        return made | {"state": "done", "finished_at": made["created_at"]} if lost else made

    with swap(accepting, "_first_job", first_job):
        yield


def sweeper_off() -> AbstractContextManager[Any]:
    """What lost its job is never found again, and jobs of dead workers are not taken over."""

    async def claim(session: Any, **values: Any) -> Any:
        made = await real(session, **values)
        return [one for one in made if one.crashes == 0]

    real = jobs.claim
    stack = ExitStack()
    stack.enter_context(swap(jobs, "claim", claim))
    stack.enter_context(swap(Worker, "time_for", lambda _self, **_: None))
    return stack
