"""Attempts as rows: frozen before anything is sent, and noted with each request."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.jobs import Job
from app.payments import calls, schemas
from app.payments.calls import STALE, Step
from app.payments.change import Change, json_bytes
from app.payments.models import Attempt, Payment, Refund
from app.psp.models import Installation
from app.psp.port import AttemptKind, Request, Result
from app.runtime import Runtime

_NOT_SETTLED = frozenset({"sent", "unknown", "open", "needs_review"})
SHORTEST_PAGE = timedelta(minutes=30)
# The PSP counts by its own clock and from the moment that the request arrives.
_PAGE_MARGIN = timedelta(minutes=1)


async def new_attempt(
    change: Change,
    kind: AttemptKind,
    rows: Sequence[Attempt],
    *,
    amount: int,
    refund: Refund | None = None,
    reference: str | None = None,
) -> Attempt:
    """Freeze the parameters of one intended effect; `reference` is what it acts on.

    It comes behind the payment's attempts so far, `rows`, whatever the clock of this host says.
    """
    rt, payment = change.rt, change.payment
    attempt = Attempt(
        id=rt.ids("att", after=max((row.id for row in rows), default=None)),
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
    attempt.next_check_at = change.now + STALE
    attempt.updated_at = change.now
    kind = "replay" if replay else "request"
    reference = attempt.psp_reference or request.psp_reference
    noted = calls.note(change, attempt, request, kind=kind, step=step, key=key, reference=reference)
    noted.retry, noted.before = retry, before
    return noted


def sent_before(attempt: Attempt, step: str) -> bool:
    """Tell whether a step of an attempt went out before; the one after it is no retry."""
    return attempt.first_sent_at is not None and attempt.step == step


def not_let_out(attempt: Attempt, step: Step) -> None:
    """Take back that a step was sent: we kept it, and to send it later is no retry.

    Not where anybody has done anything about the attempt since: it may have been sent by them.
    """
    alone = attempt.updated_at == step.noted_at
    if alone and step.kind in {"request", "replay"} and not step.retry:
        attempt.step = step.before
        if step.before is None:
            attempt.first_sent_at = None


def gone_on(attempt: Attempt, step: Step, result: Result) -> bool:
    """Tell whether an answer lay while others sent the step that it leads to: it is theirs now."""
    return step.kind in {"request", "replay"} and result.cls == "next" and attempt.step != step.step


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


def close(change: Change, attempt: Attempt) -> Step:
    """Note that the PSP is about to be asked to close an object for good, unless it was paid."""
    request = request_of(change, attempt)
    key = f"{request.installation}:{attempt.id}:close"
    attempt.state, attempt.updated_at = "unknown", change.now
    attempt.next_check_at = change.now + STALE
    reference = attempt.psp_reference
    return calls.note(
        change, attempt, request, kind="close", step="close", key=key, reference=reference
    )


def look(change: Change, attempt: Attempt) -> Step:
    """Note that the PSP is about to be asked what became of an attempt."""
    request = request_of(change, attempt)
    reference = attempt.psp_reference or attempt.session_reference or request.psp_reference
    if attempt.kind == "refund":
        reference = attempt.psp_reference  # The refund itself, else the list of its charge.
    return calls.note(
        change, attempt, request, kind="lookup", step="lookup", key=None, reference=reference
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
