"""Calls to a PSP as rows: noted before anything is sent, completed after; and what they tell."""

import hashlib
from datetime import datetime, timedelta
from typing import cast

import msgspec
from sqlalchemy import Table, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.payments.change import Change, json_bytes
from app.payments.models import Attempt, PspCall
from app.psp.port import Request, Result

STALE = timedelta(seconds=30)  # After that a call without an outcome is looked up.
_MISSES_APART = timedelta(minutes=10)
_MAY_ARRIVE = timedelta(minutes=5)  # So long a request whose answer was lost may be on its way.


class Step(msgspec.Struct, kw_only=True):
    """One request that is about to be sent; everything about it is committed already."""

    attempt_id: str
    payment_id: str
    connection_id: str
    call_id: str
    kind: str  # request, replay, lookup, close
    step: str
    key: str | None
    reference: str | None
    request: Request
    retry: bool = False  # It went out before, so it counts against the budget of retries.
    before: str | None = None  # The attempt's last step before this one.
    noted_at: datetime  # A request leaves it as the attempt's `updated_at`, too.

    @property
    def operation(self) -> str:
        """Return which of a PSP's gates it passes."""
        if self.kind == "lookup":
            return "lookup"
        return "void" if self.kind == "close" else self.request.kind


def note(
    change: Change,
    attempt: Attempt,
    request: Request,
    *,
    kind: str,
    step: str,
    key: str | None,
    reference: str | None,
) -> Step:
    """Note a call that is about to be sent; `key` is None for a look-up, which changes nothing."""
    call_id = change.rt.ids("call")
    hashed = hashlib.sha256(json_bytes([step, reference, request])).hexdigest()
    change.row(
        PspCall,
        {
            "id": call_id,
            "merchant_id": attempt.merchant_id,
            "livemode": attempt.livemode,
            "payment_id": attempt.payment_id,
            "attempt_id": attempt.id,
            "connection_id": attempt.connection_id,
            "kind": kind,
            "step": step,
            "key": key,
            "params_hash": hashed if key else None,
            "started_at": change.now,
        },
    )
    return Step(
        attempt_id=attempt.id,
        payment_id=attempt.payment_id,
        connection_id=attempt.connection_id,
        call_id=call_id,
        kind=kind,
        step=step,
        key=key,
        reference=reference,
        request=request,
        noted_at=change.now,
    )


_CALLS = cast("Table", PspCall.__table__)
_COMPLETE = update(_CALLS).where(_CALLS.c.id == bindparam("call"))


async def complete(change: Change, step: Step, result: Result, duration: float) -> None:
    """Write down how a call ended; `duration` in seconds."""
    sealed = None
    if result.raw:
        place = f"psp_calls:{step.call_id}:answer"
        sealed = change.sealer().seal(json_bytes(result.raw), place)
    await change.session.execute(
        _COMPLETE,
        {
            "call": step.call_id,
            "finished_at": change.now,
            "outcome": result.outcome,
            "http_status": result.http_status,
            "duration_us": round(duration * 1_000_000),
            "psp_request_id": (result.request_id or "")[:80] or None,
            "detail": (result.message or "")[:500] or None,
            "answer_sealed": sealed,
        },
    )


async def in_flight(session: AsyncSession, attempt: Attempt, *, now: datetime) -> bool:
    """Tell whether a call of an attempt may be under way just now.

    Where the outcome is unknown already, whoever made the first call has been given up. A replay by
    somebody else may still be on its way; each step has one key, whoever sends it.
    """
    kinds = ("request", "replay", "close") if attempt.state == "sent" else ("replay", "close")
    query = select(PspCall.id).where(
        PspCall.attempt_id == attempt.id,
        PspCall.kind.in_(kinds),
        PspCall.finished_at.is_(None),
        PspCall.started_at > now - STALE,
    )
    return (await session.scalar(query.limit(1))) is not None


async def may_arrive(change: Change, attempt: Attempt) -> datetime | None:
    """Return until when an earlier request of an attempt may reach the PSP; None: there is none.

    Its answer was lost, and a refusal of a later one says nothing about it.
    """
    query = select(func.max(PspCall.started_at)).where(
        PspCall.attempt_id == attempt.id,
        PspCall.kind.in_(("request", "replay")),
        or_(PspCall.outcome.is_(None), PspCall.outcome == "unknown"),
    )
    last = await change.session.scalar(query)
    return last + _MAY_ARRIVE if last else None


async def missed_before(
    change: Change, attempt: Attempt, *, after: datetime, asked: datetime
) -> bool:
    """Tell whether a look-up had found nothing ten minutes or more before that moment.

    It began after the one, and was answered long enough before the other: looks may lie.
    """
    query = select(PspCall.id).where(
        PspCall.attempt_id == attempt.id,
        PspCall.kind == "lookup",
        PspCall.outcome == "not_found",
        PspCall.started_at > after,
        PspCall.finished_at <= asked - _MISSES_APART,
    )
    return (await change.session.scalar(query.limit(1))) is not None
