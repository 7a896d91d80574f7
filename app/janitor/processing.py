"""The janitor: looks at unknown outcomes on schedule until they are known."""

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.ids import Ids
from app.jobs import Bury, Claim, Job, Postpone
from app.payments import resolving
from app.payments.calls import in_flight
from app.payments.change import attempts_of, lock, operation_of
from app.payments.ending import hold_left
from app.payments.models import Attempt, Payment, PspCall, Refund
from app.payments.outcomes import STILL_UNKNOWN
from app.payments.states import FINAL, HELD_TWICE, REVIEW_AFTER, next_check
from app.psp.gates import LOOKUP, fair_key
from app.reviews.models import Review
from app.runtime import Runtime

_SWEEP = 200
_RESOLVE = "janitor.resolve"
_OPEN = ("sent", "unknown", "open")
_DAY = timedelta(days=1)
_NOT_WITHIN = timedelta(seconds=10)
_TELLS_WITHIN = 30.0


async def resolve(rt: Runtime, job: Claim) -> None:
    """Find out what became of one attempt; again on schedule while it is unknown."""
    attempt_id = job.args["attempt_id"]
    async with rt.sessions.read() as session:
        attempt = await session.get(Attempt, attempt_id)
    # Whoever found that out may have been killed before the letter was written.
    if attempt is not None and attempt.state == "needs_review":
        raise Bury(attempt.message or "The PSP did something else than we asked for.")
    rejected = attempt is not None and attempt.state == "rejected"
    untold = await _untold(rt, job) if rejected else None
    if untold is not None:
        if await _another_runs(rt, job):
            raise Postpone(_TELLS_WITHIN, "The refusal is being told.")
        raise Bury(untold)
    held = attempt is not None and attempt.state == "succeeded"
    look = resolving.look_at_hold if held else resolving.resolve
    ruling = await look(rt, attempt_id=attempt_id)
    if ruling.action in {"look", "again"}:
        raise Postpone(ruling.seconds or await _seconds(rt, attempt_id), ruling.reason)
    if ruling.action == "bury":
        raise Bury(ruling.reason)
    if await _untold(rt, job) is not None:
        # Another look has found it out while this one was made, and may tell of it yet.
        raise Postpone(_TELLS_WITHIN, "The refusal is being told.")


async def _untold(rt: Runtime, job: Claim) -> str | None:
    """Return what is to be told of a refusal of which nobody was told; None: nothing is."""
    async with rt.sessions.read() as session:
        attempt = await session.get(Attempt, job.args["attempt_id"])
        if attempt is None or not await _forgotten(session, attempt, job):
            return None
        return f"The PSP refused the request: {attempt.message or attempt.code}"


async def _another_runs(rt: Runtime, job: Claim) -> bool:
    """Tell whether an older look at the same attempt runs just now, which may tell of it yet."""
    payment = select(Attempt.payment_id).where(Attempt.id == job.args["attempt_id"])
    query = select(Job.id).where(
        Job.payment_id == payment.scalar_subquery(),
        Job.kind == _RESOLVE,
        Job.state == "due",
        Job.owner.is_not(None),
        Job.id < job.id,
        Job.args["attempt_id"].as_string() == job.args["attempt_id"],
    )
    async with rt.sessions.read() as session:
        return await session.scalar(query.limit(1)) is not None


async def _forgotten(session: AsyncSession, attempt: Attempt, job: Claim) -> bool:
    """Tell whether a refusal waits for a person, and neither a letter nor a job is about it.

    Of two looks at it that run at the same time the one with the greater id writes the letter: if
    each took the other for it, neither would.
    """
    if attempt.state != "rejected":
        return False
    if not await _waits_for_person(session, attempt):
        return False
    # The end of a page is not about it either: whatever was refused, that comes in its time.
    counts = and_(Job.kind != "payments.expire", or_(Job.kind != _RESOLVE, Job.id > job.id))
    query = select(Job.kind, Job.args).where(
        Job.payment_id == attempt.payment_id,
        Job.id != job.id,
        or_(Job.state == "dead", and_(Job.state == "due", counts)),
    )
    for kind, args in await session.execute(query):
        same = operation_of(kind) == attempt.kind and args.get("refund_id") == attempt.refund_id
        if same or args.get("attempt_id") == attempt.id:
            return False
    return True


async def _waits_for_person(session: AsyncSession, attempt: Attempt) -> bool:
    payment = await session.get_one(Payment, attempt.payment_id)
    if attempt.code == HELD_TWICE:
        return True
    if attempt.kind == "void" and payment.status in FINAL:
        return hold_left(payment, await attempts_of(session, payment.id)) is not None
    held: Payment | Refund = payment
    if attempt.refund_id is not None:
        held = await session.get_one(Refund, attempt.refund_id)
    return held.status not in FINAL and held.status_reason == "held_for_operator"


async def _seconds(rt: Runtime, attempt_id: str) -> float:
    async with rt.sessions.read() as session:
        attempt = await session.get(Attempt, attempt_id)
    if attempt is None:
        return 60.0
    since = attempt.first_sent_at or attempt.created_at
    return next_check(attempt.checks, since=since, now=rt.clock())


async def sweep(rt: Runtime) -> int:
    """Take up attempts whose check is overdue and whose job was lost; returns how many."""
    # A job that runs, or waits because the PSP may not be asked just now, is not lost.
    waiting = select(Job.id).where(
        Job.payment_id == Attempt.payment_id,
        Job.kind == _RESOLVE,
        Job.state == "due",
        Job.args["attempt_id"].as_string() == Attempt.id,
        or_(Job.owner.is_not(None), Job.run_at < db.now(60.0)),
    )

    async def work(session: AsyncSession) -> int:
        query = (
            select(Attempt)
            .where(
                Attempt.next_check_at < db.now(-10.0),
                Attempt.state.in_((*_OPEN, "succeeded")),  # Which has a next look while it holds.
                ~waiting.exists(),
            )
            .order_by(Attempt.next_check_at)
            .limit(_SWEEP)
            .with_for_update(skip_locked=True)
        )
        due = list(await session.scalars(query))
        buried = await _buried(session, due)
        made = 0
        for attempt in due:
            if attempt.id in buried:
                # One letter is enough: a person has it, and it is looked at again in a day.
                attempt.next_check_at = buried[attempt.id] + _DAY
            else:
                made += await _look(session, rt.ids, rt, attempt)
        return made

    return await rt.sessions.run(work)


async def ask_people(rt: Runtime) -> int:
    """Open the item of each outcome that is unknown for a day, should no look have done it.

    A look does it too, in its own transaction; this is for attempts that nobody can look at,
    because their job died or the worker has no way to the PSP. Returns how many were opened.
    """
    now = rt.clock()
    has_one = select(Review.id).where(
        Review.attempt_id == Attempt.id,
        Review.kind == "unknown_outcome",
        Review.state == "open",
    )
    query = (
        select(Attempt.id, Attempt.payment_id)
        .where(
            Attempt.state == "unknown",
            Attempt.next_check_at.is_not(None),  # Has an index, and so has every unknown one.
            func.coalesce(Attempt.first_sent_at, Attempt.created_at) <= now - REVIEW_AFTER,
            ~has_one.exists(),
        )
        .limit(_SWEEP)
    )
    async with rt.sessions.read() as session:
        late = (await session.execute(query)).all()
    for attempt_id, payment_id in late:
        await rt.sessions.run(partial(_ask, rt=rt, attempt_id=attempt_id, payment_id=payment_id))
    return len(late)


async def _ask(session: AsyncSession, *, rt: Runtime, attempt_id: str, payment_id: str) -> None:
    change = await lock(session, rt, payment_id=payment_id)
    attempt = await session.get(Attempt, attempt_id, populate_existing=True)
    if attempt is not None and attempt.state == "unknown":
        change.review(attempt, "unknown_outcome", STILL_UNKNOWN)
        await change.save()


async def _buried(session: AsyncSession, attempts: list[Attempt]) -> dict[str, datetime]:
    """Return which attempts' looks went into the dead letters within a day, and when."""
    query = select(Job.args, Job.finished_at).where(
        Job.payment_id.in_({row.payment_id for row in attempts}),
        Job.kind == _RESOLVE,
        Job.state == "dead",
        Job.finished_at > db.now(-_DAY.total_seconds()),
    )
    return {args["attempt_id"]: when for args, when in (await session.execute(query)).all()}


async def _look(session: AsyncSession, ids: Ids, rt: Runtime, attempt: Attempt) -> bool:
    return await jobs.enqueue(
        session,
        id=ids("job"),
        kind=_RESOLVE,
        args={"attempt_id": attempt.id},
        queue="janitor",
        now=rt.clock(),
        merchant_id=attempt.merchant_id,
        livemode=attempt.livemode,
        payment_id=attempt.payment_id,
        unique_key=f"janitor.sweep:{attempt.id}",
        fair_key=fair_key(attempt.connection_id, LOOKUP, attempt.merchant_id),
    )


async def hurry(session: AsyncSession, *, ids: Ids, rt: Runtime, payment_id: str) -> None:
    """Bring the next look at a payment forward to now; a shell never asks a PSP itself.

    Nothing happens within ten seconds of the last look, however many processes ask for one.
    """
    recent = select(PspCall.id).where(
        PspCall.payment_id == payment_id,
        PspCall.kind == "lookup",
        PspCall.started_at > rt.clock() - _NOT_WITHIN,
    )
    if await session.scalar(recent.limit(1)) is not None:
        return
    moved = await session.execute(
        update(Job)
        .where(
            Job.payment_id == payment_id,
            Job.kind == _RESOLVE,
            Job.state == "due",
            Job.owner.is_(None),
        )
        .values(run_at=db.now())
        .returning(Job.id)
    )
    if moved.first() is None:
        query = select(Attempt).where(Attempt.payment_id == payment_id, Attempt.state.in_(_OPEN))
        for attempt in (await session.scalars(query)).all():
            # Of a call that is under way the answer is still to come.
            if not await in_flight(session, attempt, now=rt.clock()):
                await _look(session, ids, rt, attempt)
    db.wake(session, ["janitor"])
