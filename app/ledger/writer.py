"""The one writer of a ledger: takes waiting postings and records them, a batch a transaction."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import structlog
from sqlalchemy import CompoundSelect, bindparam, case, or_, select, union_all, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.ledger import rows
from app.ledger.batch import Answer, BadPosting, Batch, Checked, Waiting, check
from app.ledger.models import Ledger, PostingRow
from app.runtime import Runtime

# How long the ledger waits for a holder that died. Two writers never write at once, whatever it
# is: a batch holds the ledger's row from its first statement on.
LEASE_SECONDS = 5.0
DEAD_LETTER = "ledger.posting"

_COLUMNS = (
    PostingRow.id,
    PostingRow.key,
    PostingRow.kind,
    PostingRow.livemode,
    PostingRow.merchant_id,
    PostingRow.payment_id,
    PostingRow.transfers,
    PostingRow.guard,
    PostingRow.answer_job,
)

log = structlog.get_logger(__name__)


async def write_batches(
    rt: Runtime, *, ledger_ids: Sequence[str], owner: str, limit: int = 500
) -> int:
    """Answer up to `limit` waiting postings of each ledger; return how many were answered.

    One look finds those of all; a long backlog of one holds up none of the others.
    0: nothing waits, or another owner holds the lease. A posting that cannot be recorded is
    stamped `failed` and put into the dead letters; the others go on.
    """
    async with rt.sessions.read() as session:
        wanted = {f"ledger{n}": name for n, name in enumerate(ledger_ids)}
        found = await session.execute(_waiting(len(ledger_ids)), wanted | {"most": limit})
        waiting: dict[str, list[int]] = {}
        for ledger_id, posting_id in found:
            waiting.setdefault(ledger_id, []).append(posting_id)
    return sum([await _write(rt, name, owner, sorted(ids)) for name, ids in waiting.items()])


@cache
def _waiting(ledgers: int) -> CompoundSelect[Any]:
    """Return the statement that finds what waits in so many ledgers: ledger0, ledger1, …, most."""
    of_each = [
        select(PostingRow.ledger_id, PostingRow.id)
        .where(PostingRow.ledger_id == bindparam(f"ledger{n}"), PostingRow.status == "waiting")
        .order_by(PostingRow.id)
        .limit(bindparam("most"))
        .subquery()
        for n in range(ledgers)
    ]
    return union_all(*[select(one.c.ledger_id, one.c.id) for one in of_each])


async def _write(rt: Runtime, ledger_id: str, owner: str, ids: Sequence[int]) -> int:
    """Write these postings in one transaction, or in halves to find the one that raises."""
    fault: str | None = None
    try:
        done = await rt.sessions.run(lambda session: _batch(session, rt, ledger_id, owner, ids))
    except Exception as error:
        if not _is_fault_of_posting(error):
            raise
        fault = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
    else:
        rt.failpoints.hit("ledger.after_commit")
        return done
    if len(ids) == 1:
        reason = fault
        return await rt.sessions.run(
            lambda session: _batch(session, rt, ledger_id, owner, ids, fault=reason)
        )
    middle = len(ids) // 2
    first = await _write(rt, ledger_id, owner, ids[:middle])
    return first + await _write(rt, ledger_id, owner, ids[middle:])


def _is_fault_of_posting(error: Exception) -> bool:
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            unique = "UNIQUE constraint" in str(error.orig)
            return isinstance(error, IntegrityError | DataError) and not unique
        # A number that is taken already is the ledger's fault, not the posting's: stop and shout
        # instead of failing every posting (23505). P0: refused by a trigger.
        return bool(state[:2] in {"22", "23", "P0"} and state != "23505")
    return not isinstance(error, SQLAlchemyError | OSError)


async def _batch(
    session: AsyncSession,
    rt: Runtime,
    ledger_id: str,
    owner: str,
    ids: Sequence[int],
    *,
    fault: str | None = None,
) -> int:
    """Answer postings in the caller's transaction; with `fault`, all of them as failed."""
    last_seq = await _take_lease(session, ledger_id, owner)
    if last_seq is None:
        return 0
    found = await session.execute(
        select(*_COLUMNS)
        .where(PostingRow.id.in_(ids), PostingRow.status == "waiting")
        .order_by(PostingRow.id)
    )
    waiting = [Waiting(**line) for line in found.mappings()]
    if not waiting:
        return 0
    now = rt.clock()
    if fault is not None:
        answers = [Answer(posting, "failed", reason=fault) for posting in waiting]
        batch = Batch(last_seq, {})
    else:
        answers, batch = await _decide(session, rt, ledger_id, last_seq, waiting)
    await rows.insert_entries(session, ledger_id, batch.lines, recorded_at=db.to_micros(now))
    await rows.move_accounts(session, {name: batch.balances[name] for name in sorted(batch.moved)})
    await rows.stamp_postings(session, answers, now=now)
    await _insert_jobs(session, rt, answers)
    if batch.seq != last_seq:
        await session.execute(
            update(Ledger).where(Ledger.id == ledger_id).values(last_seq=batch.seq)
        )
    rt.failpoints.hit("ledger.before_commit")
    return len(answers)


async def _take_lease(session: AsyncSession, ledger_id: str, owner: str) -> int | None:
    """Take or prolong the lease and lock the ledger; return its last position, None if held."""
    mine = Ledger.owner == owner
    taken = await session.execute(
        update(Ledger)
        .where(
            Ledger.id == ledger_id,
            or_(mine, Ledger.owner.is_(None), Ledger.lease_until < db.now()),
        )
        .values(
            owner=owner,
            lease_until=db.now(LEASE_SECONDS),
            fence=Ledger.fence + case((mine, 0), else_=1),
        )
        .returning(Ledger.last_seq)
    )
    return taken.scalar_one_or_none()


async def _decide(
    session: AsyncSession, rt: Runtime, ledger_id: str, last_seq: int, waiting: list[Waiting]
) -> tuple[list[Answer], Batch]:
    checked: dict[int, Checked | BadPosting] = {}
    accounts: set[str] = set()
    for posting in waiting:
        try:
            good = check(posting, ledger_id)
            checked[posting.id] = good
            accounts |= good.accounts()
        except BadPosting as error:
            checked[posting.id] = error
    batch = Batch(last_seq, await rows.lock_accounts(session, sorted(accounts), now=rt.clock()))
    answers = []
    for posting in waiting:
        form = checked[posting.id]
        try:
            if isinstance(form, BadPosting):
                raise form
            answers.append(batch.answer(form))
        except BadPosting as error:
            answers.append(Answer(posting, "failed", reason=str(error)))
    return answers, batch


async def _insert_jobs(session: AsyncSession, rt: Runtime, answers: list[Answer]) -> None:
    made = []
    for answer in answers:
        if answer.status == "failed":
            made.append(_dead_letter(rt, answer))
        elif wanted := (answer.posting.answer_job or {}).get(answer.status):
            made.append(_answer_job(rt, answer, wanted))
    if made:
        await jobs.insert_due(session, made)
        db.wake(session, {job["queue"] for job in made if job["state"] == "due"})


def _answer_job(rt: Runtime, answer: Answer, wanted: dict[str, Any]) -> dict[str, Any]:
    outcome = (
        {"posting_seq": answer.seq} if answer.status == "accepted" else {"reason": answer.reason}
    )
    job = _job(rt, answer.posting, wanted["kind"], wanted["queue"], wanted["args"] | outcome)
    return job | {"fair_key": wanted.get("fair_key") or job["fair_key"]}


def _dead_letter(rt: Runtime, answer: Answer) -> dict[str, Any]:
    posting, reason, now = answer.posting, answer.reason or "", rt.clock()
    log.error("posting_failed", posting_id=posting.id, key=posting.key, reason=reason)
    buried = {"at": now.isoformat(), "try": 1, "what": "buried", "why": reason[:500]}
    job = _job(rt, posting, DEAD_LETTER, "ledger", {"posting_id": posting.id})
    return job | {
        "state": "dead",
        "tries": 1,
        "failures": 1,
        "reason": f"{posting.key}: {reason}"[:1000],
        "history": [buried],
        "finished_at": now,
    }


def _job(
    rt: Runtime, posting: Waiting, kind: str, queue: str, args: dict[str, Any]
) -> dict[str, Any]:
    values = jobs.row(
        id=rt.ids("job"),
        kind=kind,
        args=args,
        queue=queue,
        now=rt.clock(),
        merchant_id=posting.merchant_id,
        livemode=posting.livemode,
        payment_id=posting.payment_id,
    )
    # Rows of one statement need the same columns.
    return {"reason": None, "finished_at": None} | values
