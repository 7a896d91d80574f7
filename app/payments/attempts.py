"""Attempts and their PSP calls as rows: frozen before anything is sent, completed after."""

import hashlib
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
from sqlalchemy import Table, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.jobs import Job
from app.payments import schemas
from app.payments.change import Change, json_bytes
from app.payments.models import Attempt, Payment, PspCall, Refund
from app.psp.models import Installation
from app.psp.port import AttemptKind, Request, Result
from app.runtime import Runtime

_NOT_SETTLED = frozenset({"sent", "unknown", "open", "needs_review"})
SHORTEST_PAGE = timedelta(minutes=30)
# The PSP counts by its own clock and from the moment that the request arrives.
_PAGE_MARGIN = timedelta(minutes=1)
_STALE = timedelta(seconds=30)  # After that a call without an outcome is looked up.
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


async def new_attempt(
    change: Change,
    kind: AttemptKind,
    *,
    amount: int,
    refund: Refund | None = None,
    reference: str | None = None,
) -> Attempt:
    """Freeze the parameters of one intended effect; `reference` is what it acts on."""
    rt, payment = change.rt, change.payment
    attempt = Attempt(
        id=rt.ids("att"),
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        payment_id=payment.id,
        refund_id=refund.id if refund else None,
        connection_id=payment.connection_id,
        kind=kind,
        state="created",
        amount=amount,
        currency=payment.currency,
        psp_reference=None,
        checks=0,
        misses=0,
        version=0,
        created_at=change.now,
        updated_at=change.now,
    )
    installation = await installation_of(change.session, rt)
    request = _request(change, attempt, installation, reference, refund)
    attempt.params_sealed = change.sealer().seal(json_bytes(request), params_place(attempt.id))
    change.session.add(attempt)
    return attempt


def params_place(attempt_id: str) -> str:
    """Return the place that an attempt's parameters are sealed for."""
    return f"attempts:{attempt_id}:params"


async def installation_of(session: AsyncSession, rt: Runtime) -> str:
    """Return this database's own id, which is part of every PSP key."""
    if rt.installation is None:
        rt.installation = await session.scalar(select(Installation.id))
    if rt.installation is None:
        raise RuntimeError("the database has no installation id; run the migrations")
    return rt.installation


def _request(
    change: Change,
    attempt: Attempt,
    installation: str,
    reference: str | None,
    refund: Refund | None,
) -> Request:
    payment, who = change.payment, None
    common: dict[str, Any] = {
        "kind": attempt.kind,
        "attempt_id": attempt.id,
        "payment_id": payment.id,
        "installation": installation,
        "amount": attempt.amount,
        "currency": payment.currency,
        "created_at": change.now,
        "capture_method": "manual" if change.hold_only else payment.capture_method,
    }
    if attempt.kind == "refund" and refund is not None:
        return Request(
            **common, psp_reference=payment.psp_reference, refund_id=refund.id, reason=refund.reason
        )
    if attempt.kind in {"capture", "void"}:
        return Request(**common, psp_reference=reference)
    if change.customer is not None:
        who = schemas.customer(change.customer, change.rt.sealer)
    common["description"] = payment.description
    common["customer_email"] = who.email if who else None
    if attempt.kind == "charge":
        return Request(**common, payment_method=payment.payment_method)
    token = schemas.checkout_token(change.rt.sealer, payment.id)
    back = f"{change.rt.settings.public_url}/checkout/{token}/return"
    # The PSP's page lives at least half an hour, also when the PSP was down until shortly before
    # the payment's own end.
    shortest = change.now + SHORTEST_PAGE + _PAGE_MARGIN
    ends = max(payment.expires_at or shortest, shortest)
    return Request(
        **common, success_url=back, cancel_url=back, expires_at=ends.replace(microsecond=0)
    )


def request_of(change: Change, attempt: Attempt) -> Request:
    """Return the frozen parameters of an attempt."""
    raw = change.sealer().open(attempt.params_sealed, params_place(attempt.id))
    return msgspec.json.decode(raw, type=Request)


async def send(change: Change, attempt: Attempt, step: str, *, replay: bool = False) -> Step:
    """Note that a step is about to be sent; from the commit on its outcome is open."""
    request = request_of(change, attempt)
    key = f"{request.installation}:{attempt.id}:{step}"
    before, retry = attempt.step, sent_before(attempt, step)
    attempt.state = "unknown" if replay or attempt.state == "unknown" else "sent"  # Still open.
    attempt.step = step
    attempt.first_sent_at = attempt.first_sent_at or change.now
    # Should this worker die, the janitor's sweep takes the attempt up from here.
    attempt.next_check_at = change.now + _STALE
    attempt.updated_at = change.now
    kind = "replay" if replay else "request"
    reference = attempt.psp_reference or request.psp_reference
    noted = _call(change, attempt, request, kind=kind, step=step, key=key, reference=reference)
    noted.retry, noted.before = retry, before
    return noted


def sent_before(attempt: Attempt, step: str) -> bool:
    """Tell whether a step of an attempt went out before; the one after it is no retry."""
    return attempt.first_sent_at is not None and attempt.step == step


def not_let_out(attempt: Attempt, step: Step) -> None:
    """Take back that a step was sent: our own gate kept it, and to send it later is no retry.

    Not where anybody has done anything about the attempt since: it may have been sent by them.
    """
    alone = attempt.updated_at == step.noted_at
    if alone and step.kind in {"request", "replay"} and not step.retry:
        attempt.step = step.before
        if step.before is None:
            attempt.first_sent_at = None


def too_short(change: Change, attempt: Attempt) -> bool:
    """Tell whether a page that was never made would be refused now: too little time is left."""
    ends = request_of(change, attempt).expires_at
    return ends is not None and ends - change.now < SHORTEST_PAGE


async def look_soon(change: Change) -> None:
    """Bring the next look at this payment's unknown outcome forward: somebody waits for it."""
    moved = await change.session.execute(
        update(Job)
        .where(
            Job.payment_id == change.payment.id,
            Job.kind == "janitor.resolve",
            Job.state == "due",
            Job.owner.is_(None),
        )
        .values(run_at=db.now())
        .returning(Job.id)
    )
    if moved.first() is not None:
        db.wake(change.session, ["janitor"])


async def in_flight(session: AsyncSession, attempt: Attempt, *, now: datetime) -> bool:
    """Tell whether a call of an attempt may be under way just now.

    Where the outcome is unknown already, whoever made the first call has been given up; a replay
    by somebody else may still be on its way.
    """
    kinds = ("request", "replay", "close") if attempt.state == "sent" else ("replay", "close")
    query = select(PspCall.id).where(
        PspCall.attempt_id == attempt.id,
        PspCall.kind.in_(kinds),
        PspCall.finished_at.is_(None),
        PspCall.started_at > now - _STALE,
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


async def missed_before(change: Change, attempt: Attempt, *, after: datetime) -> bool:
    """Tell whether a look-up has found nothing before, at least ten minutes ago."""
    query = select(PspCall.id).where(
        PspCall.attempt_id == attempt.id,
        PspCall.kind == "lookup",
        PspCall.outcome == "not_found",
        PspCall.started_at > after,
        PspCall.started_at <= change.now - _MISSES_APART,
    )
    return (await change.session.scalar(query.limit(1))) is not None


def close(change: Change, attempt: Attempt) -> Step:
    """Note that the PSP is about to be asked to close an object for good, unless it was paid."""
    request = request_of(change, attempt)
    key = f"{request.installation}:{attempt.id}:close"
    attempt.state, attempt.updated_at = "unknown", change.now
    attempt.next_check_at = change.now + _STALE
    reference = attempt.psp_reference
    return _call(change, attempt, request, kind="close", step="close", key=key, reference=reference)


def look(change: Change, attempt: Attempt) -> Step:
    """Note that the PSP is about to be asked what became of an attempt."""
    request = request_of(change, attempt)
    reference = attempt.psp_reference or attempt.session_reference or request.psp_reference
    if attempt.kind == "refund":
        reference = attempt.psp_reference  # The refund itself, else the list of its charge.
    return _call(
        change, attempt, request, kind="lookup", step="lookup", key=None, reference=reference
    )


def _call(
    change: Change,
    attempt: Attempt,
    request: Request,
    *,
    kind: str,
    step: str,
    key: str | None,
    reference: str | None,
) -> Step:
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


async def complete_call(change: Change, step: Step, result: Result, duration: float) -> None:
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
            "outcome": result.cls,
            "http_status": result.http_status,
            "duration_us": round(duration * 1_000_000),
            "psp_request_id": (result.request_id or "")[:80] or None,
            "detail": (result.message or "")[:500] or None,
            "answer_sealed": sealed,
        },
    )


_FIND = (
    select(Attempt)
    .where(Attempt.id == bindparam("attempt"))
    .execution_options(populate_existing=True)
)
_PAYMENT_OF = select(Attempt.payment_id).where(Attempt.id == bindparam("attempt"))


async def find(session: AsyncSession, attempt_id: str) -> Attempt | None:
    """Return an attempt as it is now; the payment's lock is held already."""
    return await session.scalar(_FIND, {"attempt": attempt_id})


async def payment_id_of(session: AsyncSession, attempt_id: str) -> str | None:
    """Return which payment an attempt belongs to, so that the payment can be locked first."""
    return cast("str | None", await session.scalar(_PAYMENT_OF, {"attempt": attempt_id}))


def current_of(mine: list[Attempt]) -> Attempt | None:
    """Return the attempt of one effect that counts now: one that is not settled, else the newest.

    One that was held to have had no effect can turn up while a newer one is refused.
    """
    open_ = [row for row in mine if row.state in _NOT_SETTLED]
    return next(iter(open_ or mine[-1:]), None)


async def beside(change: Change, attempt: Attempt) -> list[Attempt]:
    """Return the payment's attempts to charge the customer but for this one, or its target.

    What is not written yet stays so: of a page that turns up beside an open one the database would
    see two for a moment.
    """
    query = select(Attempt).where(Attempt.payment_id == attempt.payment_id).order_by(Attempt.id)
    with change.session.no_autoflush:
        rows = list(await change.session.scalars(query))
    acts = attempt.kind in {"capture", "void"}
    own = target_of(change, attempt, rows) if acts else attempt
    return [row for row in rows if row.kind in {"charge", "checkout"} and row is not own]


async def is_carried(change: Change, attempt: Attempt) -> bool:
    """Tell whether another attempt to charge holds the money of the payment, or has taken it."""
    return any(row.pays for row in await beside(change, attempt))


def target_of(change: Change, attempt: Attempt, rows: list[Attempt]) -> Attempt | None:
    """Return the attempt on whose object a capture or void acts."""
    reference = request_of(change, attempt).psp_reference
    for row in rows:
        live = row.kind in {"checkout", "charge"}
        if live and reference and reference in {row.psp_reference, row.session_reference}:
            return row
    return charged(rows, change.payment)


def charged(attempts: list[Attempt], payment: Payment) -> Attempt | None:
    """Return the attempt whose object at the PSP holds or may take the customer's money."""
    live = [row for row in attempts if row.kind in {"checkout", "charge"}]
    reference = payment.psp_reference
    for row in reversed(live):
        if reference and reference in {row.psp_reference, row.session_reference}:
            return row
    return live[-1] if live else None
