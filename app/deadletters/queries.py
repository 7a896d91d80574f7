"""Reading dead letters over all shops; for the platform's admins."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.deadletters import work
from app.deadletters.models import Approval
from app.deadletters.verdict import Letter, Look, judge
from app.errors import NotFound
from app.jobs import Job
from app.merchants.models import Merchant
from app.payments.models import Attempt, Payment, PspCall, Refund
from app.psp.port import KEPT

LOOK = "deadletters.look"
CARRY_OUT = "deadletters.carry_out"
MOST = 1000  # Letters that one page looks through, newest first.


class LetterUnknown(NotFound):
    """No such dead letter."""

    code = "dead_letter_not_found"


class ApprovalUnknown(NotFound):
    """No such request to a second admin."""

    code = "approval_not_found"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the list is narrowed to; null means all. `older_than` is how long a letter waits."""

    group: str | None = None
    merchant_id: str | None = None
    psp: str | None = None
    cause: str | None = None
    older_than: timedelta | None = None
    says: str | None = None


class Letters(msgspec.Struct, frozen=True, kw_only=True):
    """A page of letters, and how many there are by what is known of them.

    `capped`: there are more than the list looked through, so the counts are of its newest.
    """

    letters: list[Letter]
    counts: dict[str, int]
    has_more: bool
    capped: bool


async def dead_letters(
    session: AsyncSession,
    *,
    wanted: Wanted,
    now: datetime,
    limit: int,
    starting_after: str | None = None,
    ending_before: str | None = None,
) -> Letters:
    """Return a page of dead letters, newest work first."""
    query = _narrowed(wanted, now).order_by(Job.id.desc()).limit(MOST + 1)
    found = list((await session.scalars(query)).all())
    capped = len(found) > MOST
    letters = await _with_rows(session, found[:MOST])
    counts: dict[str, int] = {}
    chosen = []
    for letter in letters:
        says = judge(letter).says
        counts[says] = counts.get(says, 0) + 1
        if wanted.says in {None, says}:
            chosen.append(letter)
    if ending_before is not None:
        before = [one for one in chosen if one.job.id > ending_before]
        page, has_more = before[-limit:], len(before) > limit
    else:
        after = [one for one in chosen if starting_after is None or one.job.id < starting_after]
        page, has_more = after[:limit], len(after) > limit
    return Letters(letters=page, counts=counts, has_more=has_more, capped=capped)


def _narrowed(wanted: Wanted, now: datetime) -> Any:
    query = select(Job).where(Job.state == "dead")
    if wanted.group is not None:
        kinds = work.kinds_in(wanted.group)
        known = Job.kind.in_(kinds)
        query = query.where(known if wanted.group != "other" else ~Job.kind.in_(_elsewhere()))
    if wanted.merchant_id is not None:
        query = query.where(Job.merchant_id == wanted.merchant_id)
    if wanted.cause is not None:
        query = query.where(Job.reason == wanted.cause)
    if wanted.older_than is not None:
        query = query.where(Job.finished_at <= now - wanted.older_than)
    if wanted.psp is not None:
        theirs = select(Payment.id).where(Payment.psp == wanted.psp)
        query = query.where(Job.payment_id.in_(theirs))
    return query


def _elsewhere() -> list[str]:
    return [name for name, kind in work.KINDS.items() if kind.group != "other"]


async def letter(session: AsyncSession, *, job_id: str) -> Letter:
    """Return one letter, also after it was retried or discarded. Raises LetterUnknown."""
    job = await session.get(Job, job_id, populate_existing=True)
    if job is None or not was_dead(job):
        raise LetterUnknown("There is no such dead letter.")
    return (await _with_rows(session, [job]))[0]


async def letters_of(session: AsyncSession, *, job_ids: Sequence[str]) -> list[Letter]:
    """Return the letters of these ids that are still dead, newest work first."""
    query = select(Job).where(Job.id.in_(job_ids), Job.state == "dead").order_by(Job.id.desc())
    return await _with_rows(session, list((await session.scalars(query)).all()))


def was_dead(job: Job) -> bool:
    """Tell whether a job is or has been a dead letter."""
    # Its history is cut after fifty lines; what it died of stays.
    marked = job.died_of is not None
    return (
        job.state == "dead"
        or marked
        or any(line.get("what") == "buried" for line in job.history or [])
    )


class Alike(msgspec.Struct, kw_only=True):
    """What became of other letters of the same work that stopped for the same reason."""

    still: int = 0
    retried: int = 0
    succeeded: int = 0
    again: int = 0
    discarded: int = 0

    @property
    def known(self) -> int:
        """How many there are."""
        return self.still + self.retried + self.discarded


async def alike(session: AsyncSession, *, job: Job) -> Alike:
    """Return what became of similar letters; done work is remembered for seven days."""
    query = select(Job.state, Job.history).where(
        Job.kind == job.kind, Job.died_of == job.died_of, Job.id != job.id
    )
    made = Alike()
    for state, history in (await session.execute(query.order_by(Job.id.desc()).limit(MOST))).all():
        retried = any(line.get("what") == "retried" for line in history or [])
        made.discarded += state == "discarded"
        made.still += state == "dead" and not retried
        made.retried += retried and state != "discarded"
        made.succeeded += retried and state == "done"
        made.again += retried and state == "dead"
    return made


async def approval(session: AsyncSession, *, approval_id: str) -> Approval:
    """Return what was asked of a second admin. Raises ApprovalUnknown."""
    found = await session.get(Approval, approval_id, populate_existing=True)
    if found is None:
        raise ApprovalUnknown("There is no such request.")
    return found


async def approvals(session: AsyncSession) -> list[Approval]:
    """Return what waits for a second admin, oldest first."""
    query = select(Approval).where(Approval.state == "waiting").order_by(Approval.id).limit(50)
    return list(await session.scalars(query))


async def merchants_with_letters(session: AsyncSession) -> list[tuple[str, str]]:
    """Return ids and names of the shops that have dead letters, by name."""
    ids = select(Job.merchant_id).where(Job.state == "dead", Job.merchant_id.is_not(None))
    query = select(Merchant.id, Merchant.name).where(Merchant.id.in_(ids)).order_by(Merchant.name)
    return [(row.id, row.name) for row in (await session.execute(query)).all()]


async def _with_rows(session: AsyncSession, found: Sequence[Job]) -> list[Letter]:
    payment_ids = {str(job.payment_id) for job in found if job.payment_id}
    payments = await _by_id(session, Payment, payment_ids)
    merchants = await _by_id(
        session, Merchant, {str(j.merchant_id) for j in found if j.merchant_id}
    )
    attempts: dict[str, list[Attempt]] = {}
    query = select(Attempt).where(Attempt.payment_id.in_(payment_ids)).order_by(Attempt.id)
    for row in await session.scalars(query.execution_options(populate_existing=True)):
        attempts.setdefault(row.payment_id, []).append(row)
    letters = [
        Letter(
            job=job,
            payment=payments.get(job.payment_id or ""),
            attempts=attempts.get(job.payment_id or "", []),
            merchant=merchants.get(job.merchant_id or ""),
        )
        for job in found
    ]
    await _with_looks(session, letters, payment_ids)
    refunds = await _by_id(session, Refund, {one for one in map(_refund_id, letters) if one})
    for one in letters:
        one.refund = refunds.get(_refund_id(one) or "")
    return letters


async def _with_looks(session: AsyncSession, letters: list[Letter], payment_ids: set[str]) -> None:
    """Add the last look-up of each letter's attempt, and whether a worker is about to look."""
    asked = select(Job.args).where(
        Job.payment_id.in_(payment_ids), Job.kind == LOOK, Job.state == "due"
    )
    looking = {args.get("job_id") for args in await session.scalars(asked)} if letters else set()
    ids = {one.attempt.id for one in letters if one.attempt is not None}
    looks: dict[str, Look] = {}
    query = (
        select(PspCall.attempt_id, PspCall.kind, PspCall.outcome, PspCall.finished_at)
        .where(PspCall.attempt_id.in_(ids), PspCall.kind != "fee")
        .where(or_(PspCall.outcome.is_(None), PspCall.outcome != KEPT))  # Nobody was asked.
        .order_by(PspCall.id)
    )
    for attempt_id, kind, outcome, finished in (await session.execute(query)).all() if ids else ():
        if kind == "lookup" and outcome is not None and finished is not None:
            looks[attempt_id] = Look(at=finished, outcome=outcome)
        elif kind != "lookup" and attempt_id in looks:
            looks[attempt_id] = msgspec.structs.replace(looks[attempt_id], sent_since=True)
    for one in letters:
        one.looking = one.job.id in looking
        one.look = looks.get(one.attempt.id) if one.attempt is not None else None


def _refund_id(letter: Letter) -> str | None:
    attempt = letter.attempt
    named = letter.job.args.get("refund_id")
    return str(named) if named else (attempt.refund_id if attempt is not None else None)


async def _by_id(session: AsyncSession, table: Any, ids: set[str]) -> dict[str, Any]:
    if not ids:
        return {}
    query = select(table).where(table.id.in_(ids)).execution_options(populate_existing=True)
    return {row.id: row for row in await session.scalars(query)}
