"""The only place that calls a PSP: start (commit), call, finish (commit).

A crash at any line leaves an attempt that the next try, the janitor or a received event takes up
with the same key.
"""

import asyncio
from datetime import datetime, timedelta
from typing import cast

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.jobs import Bury, Claim, Job, NotNow, Postpone
from app.logging import redact
from app.payments import attempts, calls, checking, outcomes, reviving, wanted
from app.payments.calls import Step
from app.payments.change import Change, attempts_of, lock
from app.payments.checking import CHECKED, Opinion
from app.payments.ending import drop_unsent, hold_left, payable
from app.payments.models import Attempt, Refund
from app.payments.refunding import fail_refund
from app.payments.ruling import DONE, Ruling
from app.payments.states import ATTEMPT_FINAL, FINAL, LANE
from app.psp.port import NOT_TAKEN, AttemptKind, Result
from app.runtime import Runtime

log = structlog.get_logger(__name__)

_BASE = 1.0
_CAP = 3600.0
_CAP_HOSTED = 30.0  # A customer waits on our page for the PSP's.
_CAP_AWAY = 60.0  # It had surely no effect, and the gate spares the PSP.
_MESSAGE = 500  # Characters of what a PSP says that are kept.
_GIVE_UP = timedelta(hours=24)
_TOO_OLD = timedelta(minutes=1)  # A request, since it was noted. See `calls.may_arrive`.
_PAUSE = 5.0  # Seconds, at most, for a process that stood still.
_BUSY = frozenset({"created", "sent", "unknown"})


class _StoodStillError(Exception):
    """This process stood still after it had noted a request.

    Others have looked by now, and reckon with no request that arrives long after its note. It says
    nothing about the PSP, so its breaker is not told.
    """


def backoff(rt: Runtime, tries: int, *, cap: float = _CAP, at_least: float = 0.0) -> float:
    """Return seconds to wait before try `tries` + 1: full jitter, never less than `at_least`.

    The jitter comes on top of what a PSP asks for: else all that it turned away at once would
    come back at once.
    """
    ceiling = min(cap, _BASE * 2.0 ** min(tries, 20))
    return min(at_least, _CAP) + rt.ids.uniform(0.0, ceiling)


async def open_checkout(rt: Runtime, job: Claim) -> None:
    """Make the PSP's page for a hosted payment."""
    await _run(rt, job, "checkout")


async def charge(rt: Runtime, job: Claim) -> None:
    """Charge a saved method without the customer."""
    await _run(rt, job, "charge")


async def capture(rt: Runtime, job: Claim) -> None:
    """Take the money that is held."""
    await _run(rt, job, "capture", amount=int(job.args["amount"]))


async def void(rt: Runtime, job: Claim) -> None:
    """End what the customer could still pay, or let go of what is held."""
    await _run(rt, job, "void")


async def expire(rt: Runtime, job: Claim) -> None:
    """End a hosted payment whose time is over; only the PSP's word makes it expired."""

    async def work(session: AsyncSession) -> bool:
        change = await lock(session, rt, payment_id=job.args["payment_id"])
        await jobs.check(session, job=job)
        rows = await attempts_of(session, change.payment.id)
        if change.payment.status == "requires_action" and payable(rows):
            change.move("processing", "canceling")
            await change.save()
            return True
        page = any(row.kind == "checkout" and row.state == "open" for row in rows)
        unpaid = page and not any(row.pays for row in rows)
        stuck = unpaid and change.payment.status_reason == "held_for_operator"
        if change.payment.status == "processing" and (
            change.payment.status_reason == "canceling" or stuck
        ):
            return True
        if change.payment.status == "requires_action":
            drop_unsent(change, rows, "checkout")
            change.move("expired")
        drop_unsent(change, rows, "void")
        for row in rows:
            if row.kind == "checkout" and row.state == "open":
                # It was paid on another page, and the event of this one's end may be lost.
                args = {"attempt_id": row.id}
                change.job("janitor.resolve", queue="janitor", args=args)
        await change.save()
        await jobs.finish(session, job=job, now=rt.clock())
        return False

    if await rt.sessions.run(work):
        await _run(rt, job, "void")


async def send_refund(rt: Runtime, job: Claim) -> None:
    """Send a refund to its PSP, after the ledger has set the money aside."""
    await _run(rt, job, "refund", refund_id=job.args["refund_id"])


async def refund_refused(rt: Runtime, job: Claim) -> None:
    """Fail a refund that the wallet does not cover; its amount is free again."""

    async def work(session: AsyncSession) -> None:
        change = await lock(session, rt, payment_id=job.args["payment_id"])
        refund = await session.get(Refund, job.args["refund_id"], populate_existing=True)
        if refund is not None and refund.status == "pending":
            fail_refund(
                change,
                refund,
                code="insufficient_balance",
                message="The wallet does not cover this refund.",
                reserved=False,
            )
            await change.save()
        await jobs.finish(session, job=job, now=rt.clock())

    await rt.sessions.run(work)


async def _run(
    rt: Runtime,
    job: Claim,
    kind: AttemptKind,
    *,
    amount: int | None = None,
    refund_id: str | None = None,
) -> None:
    opinion = await checking.ask(rt, job, kind)
    step = await rt.sessions.run(
        lambda session: _start(session, rt, job, kind, opinion, amount=amount, refund_id=refund_id)
    )
    while step is not None:
        result, duration = await call(rt, step)
        step = await _finish(rt, job, step, result, duration)


async def _start(
    session: AsyncSession,
    rt: Runtime,
    job: Claim,
    kind: AttemptKind,
    opinion: Opinion | None,
    *,
    amount: int | None,
    refund_id: str | None,
) -> Step | None:
    """Freeze the attempt and note the call. None: another try, event or person was faster."""
    change = await lock(session, rt, payment_id=job.args["payment_id"])
    await jobs.check(session, job=job)
    rows = await attempts_of(session, change.payment.id)
    mine = [row for row in rows if row.kind == kind and row.refund_id == refund_id]
    if kind == "void" and change.payment.status in FINAL:
        mine = wanted.of_hold(change, rows, mine)
    if kind == "capture":
        await wanted.drop_idle_void(change, rows)
    if kind in LANE and any(row.state in _BUSY for row in rows if row.kind in LANE - {kind}):
        # The other one's outcome decides whether this is still to be done.
        seconds = backoff(rt, job.tries, cap=60.0, at_least=1.0)
        raise Postpone(seconds, "Another call about this payment is under way.")
    current = attempts.current_of(mine)
    if current is not None and current.state == "needs_review":
        # An earlier try found that out and was killed before its letter was written.
        raise Bury(current.message or "The PSP did something else than we asked for.")
    if current is not None and current.state in {"sent", "unknown"}:
        await _hand_over(change, current)
    elif not await wanted.is_wanted(change, rows, kind, current, refund_id):
        drop_unsent(change, mine, kind)
    elif kind == "checkout" and wanted.time_is_over(change):
        # The PSP was away for as long as the payment could be paid: there is no page to end.
        drop_unsent(change, mine, kind)
        change.move("expired")
    elif kind not in CHECKED or await checking.clear(change, rows, opinion):
        current = await _again_or_anew(change, rows, kind, amount, refund_id, current)
        pass_gate(rt, current)
        step = await attempts.send(change, current, _next_step(rt, current))
        await change.save()
        return step
    await change.save()
    await jobs.finish(session, job=job, now=rt.clock())
    return None


def pass_gate(rt: Runtime, attempt: Attempt) -> None:
    """Leave an attempt unsent while its PSP may not be called; nothing has failed then.

    Raises NotNow: what the transaction did is rolled back and done again.
    """
    retry = attempts.sent_before(attempt, _next_step(rt, attempt))
    shut = rt.gates.shut(attempt.connection_id, attempt.kind, retry=retry)
    if shut is not None:
        raise NotNow(shut.seconds, shut.reason)


async def _again_or_anew(
    change: Change,
    rows: list[Attempt],
    kind: AttemptKind,
    amount: int | None,
    refund_id: str | None,
    current: Attempt | None,
) -> Attempt:
    """Return the attempt to send: the one that waits for it, with the same key, or a new one."""
    waits = current is not None and current.state == "created"
    if current is not None and waits and kind == "checkout" and attempts.too_short(change, current):
        # It never left us, and by now the PSP would refuse a page that ends so soon.
        drop_unsent(change, [current], kind)
        await change.session.flush()
        waits = False
    if current is not None and waits:
        return current
    made = await _make(change, rows, kind, amount, refund_id)
    await change.session.flush()
    return made


async def _hand_over(change: Change, attempt: Attempt) -> None:
    # Whoever sent it died or was cut off: it may have been carried out. The janitor asks.
    if attempt.state == "sent":
        outcomes.interrupted(change, attempt)
    change.job("janitor.resolve", queue="janitor", args={"attempt_id": attempt.id})


async def _make(
    change: Change,
    rows: list[Attempt],
    kind: AttemptKind,
    amount: int | None,
    refund_id: str | None,
) -> Attempt:
    payment = change.payment
    if kind == "refund":
        refund = await change.session.get(Refund, refund_id)
        if refund is None:
            raise Bury("The refund does not exist.")
        refund.status_reason = None
        return await attempts.new_attempt(change, kind, rows, amount=refund.amount, refund=refund)
    if payment.status_reason in {"held_for_operator", "psp_unavailable"}:
        payment.status_reason = "canceling" if kind == "void" else None
    reference = None
    if kind in {"capture", "void"}:
        target = hold_left(payment, rows) or attempts.charged(rows, payment)
        if target is not None:
            reference = target.psp_reference or target.session_reference
        if reference is None:
            raise Postpone(5.0, "The PSP's reference is not known yet.")
    value = payment.amount if amount is None else amount
    return await attempts.new_attempt(change, kind, rows, amount=value, reference=reference)


def _next_step(rt: Runtime, attempt: Attempt) -> str:
    steps = rt.psp(attempt.connection_id).steps(cast("AttemptKind", attempt.kind))
    if attempt.psp_reference is not None and len(steps) > 1 and attempt.kind == "charge":
        return steps[1]
    return steps[0]


async def call(rt: Runtime, step: Step) -> tuple[Result, float]:
    """Call the PSP through its gate; no transaction is open.

    Our own bug in between is an unknown outcome.
    """
    adapter, began = rt.psp(step.connection_id), rt.timer()

    def in_time() -> None:
        if step.kind != "lookup" and rt.clock() - step.noted_at > _TOO_OLD:
            raise _StoodStillError

    async def send() -> Result:
        nonlocal began
        began = rt.timer()
        rt.failpoints.hit("psp.before_send")
        if step.kind == "lookup":
            return await adapter.look_up(step.request, reference=step.reference)
        in_time()
        key, reference = step.key or "", step.reference
        if step.kind == "close":
            return await adapter.close_out(step.request, key=key, reference=reference or "")
        return await adapter.send(step.step, step.request, key=key, reference=reference)

    try:
        in_time()  # Before it takes a probe, or the room of another one.
        result = await rt.gates.through(step.connection_id, step.operation, send, retry=step.retry)
    except asyncio.CancelledError:
        # Shutdown or timeout in the middle of the call: the attempt stays `sent`, and whoever
        # claims the job next asks the PSP what became of it.
        log.warning("psp_call_cut", attempt_id=step.attempt_id, step=step.step)
        raise
    except _StoodStillError:
        log.warning("psp_call_stood_still", attempt_id=step.attempt_id, step=step.step)
        why, wait = "It was noted too long ago to be sent.", rt.ids.uniform(_PAUSE / 2, _PAUSE)
        result = Result(cls="not_sent", message=why, retry_after=wait, turned_away=True)
    except Exception as error:
        log.exception("psp_call_failed", attempt_id=step.attempt_id, step=step.step)
        result = Result(cls="unknown", message=f"Our own fault: {type(error).__name__}")
    rt.failpoints.hit("psp.after_answer")
    if result.message is not None:
        # PSPs repeat what they refuse: the customer's address, a card, a part of our key.
        result.message = redact(result.message, _MESSAGE)
    return result, rt.timer() - began


async def _finish(
    rt: Runtime, job: Claim, step: Step, result: Result, duration: float
) -> Step | None:
    ruling, follow = await rt.sessions.run(
        lambda session: _apply(session, rt, job, step, result, duration)
    )
    rt.failpoints.hit("payments.after_finish")
    if ruling.action == "again" and result.turned_away:
        raise NotNow(ruling.seconds or 0.0, ruling.reason)
    if ruling.action == "again":
        give_up(job, rt, ruling.reason)
        cap = _CAP_AWAY if result.cls == "not_sent" else _CAP
        cap = _CAP_HOSTED if step.request.kind == "checkout" else cap
        raise Postpone(
            backoff(rt, job.tries, cap=cap, at_least=ruling.seconds or 0.0), ruling.reason
        )
    if ruling.action == "bury":
        raise Bury(ruling.reason)
    return follow


async def _apply(
    session: AsyncSession, rt: Runtime, job: Claim, step: Step, result: Result, duration: float
) -> tuple[Ruling, Step | None]:
    change = await lock(session, rt, payment_id=step.payment_id)
    attempt = await attempts.find(session, step.attempt_id)
    if attempt is None:
        raise Bury("The attempt does not exist.")
    await calls.complete(change, step, result, duration)
    if result.turned_away:
        attempts.not_let_out(attempt, step)
    ruling = await _heard(change, attempt, step, result)
    follow = await follow_up(rt, change, attempt, step, ruling)
    await change.save()
    if ruling.action in {"done", "look"}:
        await jobs.finish(session, job=job, now=rt.clock())
    else:
        await jobs.check(session, job=job)
    rt.failpoints.hit("payments.before_commit")
    return ruling, follow


async def _heard(change: Change, attempt: Attempt, step: Step, result: Result) -> Ruling:
    """Apply an answer, which may have lain while others found out more about the attempt."""
    alone = attempt.updated_at == step.noted_at
    if attempt.state == "sent" and not alone and result.cls in NOT_TAKEN:
        return DONE  # By now the PSP has it, and decides later; or it was sent once more.
    if attempts.gone_on(attempt, step, result):
        return DONE
    if attempt.state in ATTEMPT_FINAL:
        await reviving.hear(change, attempt, result)
    return await outcomes.apply(change, attempt, result)


def last_retry(job: Claim | Job) -> datetime | None:
    """Return when a person had a job run again last; None: never."""
    lines = [line["at"] for line in job.history if line.get("what") == "retried"]
    return datetime.fromisoformat(lines[-1]) if lines else None


def give_up(job: Claim, rt: Runtime, reason: str, *, since: datetime | None = None) -> None:
    """Bury a job tried for a day, since a person's last retry or `since`. Raises Bury."""
    began = last_retry(job) or job.created_at
    if rt.clock() - max(began, since or began) > _GIVE_UP:
        raise Bury(f"Tried for 24 hours. {reason}")


async def follow_up(
    rt: Runtime, change: Change, attempt: Attempt, step: Step, ruling: Ruling
) -> Step | None:
    """Note the attempt's next step, or hand an unknown outcome to the janitor."""
    if ruling.action == "look":
        args = {"attempt_id": attempt.id}
        change.job("janitor.resolve", queue="janitor", args=args, after=ruling.seconds or 0.0)
    if ruling.action != "next":
        return None
    steps = rt.psp(attempt.connection_id).steps(cast("AttemptKind", attempt.kind))
    following = steps[steps.index(step.step) + 1]
    return await attempts.send(change, attempt, following, replay=step.kind == "replay")
