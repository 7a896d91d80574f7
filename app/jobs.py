"""Jobs: rows that ask for work. The rows are the truth, Redis only rings."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
from sqlalchemy import (
    Float,
    Index,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app import db, due
from app.columns import now_and
from app.errors import Conflict
from app.logging import redact

MAX_FAILURES = 8
_HISTORY = 50
_CAUSE = 200


class Job(db.Base):
    """Work to do. `run_at` is when it may be claimed next; while it runs, the end of its lease."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(db.id_column_type(), primary_key=True)
    kind: Mapped[str] = mapped_column(String(60))
    version: Mapped[int] = mapped_column(default=1)
    args: Mapped[dict[str, Any]]
    queue: Mapped[str] = mapped_column(String(20))
    fair_key: Mapped[str] = mapped_column(String(80), default="")
    merchant_id: Mapped[str | None] = mapped_column(db.id_column_type())
    livemode: Mapped[bool | None]
    payment_id: Mapped[str | None] = mapped_column(db.id_column_type())
    unique_key: Mapped[str | None] = mapped_column(String(160))
    state: Mapped[str] = mapped_column(String(12), default="due")  # due done dead discarded
    run_at: Mapped[datetime]
    owner: Mapped[str | None] = mapped_column(String(80))  # Who runs it now; null when nobody.
    fence: Mapped[int] = mapped_column(default=0)
    tries: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    history: Mapped[Any] = mapped_column(db.json_column_type(), default=list)
    reason: Mapped[str | None] = mapped_column(Text)  # Why it is dead or was postponed, in words.
    died_of: Mapped[str | None] = mapped_column(String(200))  # Why it was dead last; it stays.
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_jobs_due",
            "queue",
            "fair_key",
            "run_at",
            postgresql_where=text("state = 'due'"),
            sqlite_where=text("state = 'due'"),
        ),
        Index(
            "uq_jobs_unique_key_due",
            "unique_key",
            unique=True,
            postgresql_where=text("state = 'due'"),
            sqlite_where=text("state = 'due'"),
        ),
        Index(
            "ix_jobs_dead",
            "id",
            postgresql_where=text("state = 'dead'"),
            sqlite_where=text("state = 'dead'"),
        ),
        Index(
            "ix_jobs_died_of",
            "kind",
            "died_of",
            postgresql_where=text("died_of IS NOT NULL"),
            sqlite_where=text("died_of IS NOT NULL"),
        ),
        Index("ix_jobs_payment_id", "payment_id"),
        Index("ix_jobs_finished_at", "finished_at"),
    )


class LeaseLost(Exception):
    """Somebody else holds the job now; what this try did must not be committed."""


class Postpone(Exception):
    """Raised by a job: not now, again after `seconds`. Not a failure."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class NotNow(Postpone):
    """Raised by a job that was not tried at all: its call may not go out at this moment."""


class Bury(Exception):
    """Raised by a job: no further try can help, a person must look."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotRetryable(Conflict):
    """The dead letter has been retried, discarded or was never dead."""

    code = "dead_letter_changed"


class Claim(msgspec.Struct):
    """A claimed job as its function sees it. `finished` is set by the transaction that ends it."""

    id: str
    kind: str
    version: int
    args: dict[str, Any]
    queue: str
    fence: int
    tries: int
    failures: int
    crashes: int
    created_at: datetime
    merchant_id: str | None = None
    livemode: bool | None = None
    history: list[dict[str, Any]] = []
    fair_key: str = ""
    finished: bool = False


def row(
    *,
    id: str,  # noqa: A002 - the column's name
    kind: str,
    args: dict[str, Any],
    queue: str,
    now: datetime,
    after: float = 0.0,
    merchant_id: str | None = None,
    livemode: bool | None = None,
    payment_id: str | None = None,
    fair_key: str | None = None,
    unique_key: str | None = None,
    version: int = 1,
) -> dict[str, Any]:
    """Return the values of a job row, for a caller that inserts several rows at once.

    Due `after` seconds from now by the database's clock: one of a host that runs ahead would make
    it wait for as long. `now` is for people. `fair_key` (default: the merchant) is what a claim
    takes at most a quarter of its rows from. The caller also calls `db.wake(session, [queue])`.
    """
    return {
        "id": id,
        "kind": kind,
        "version": version,
        "args": args,
        "queue": queue,
        "fair_key": fair_key or merchant_id or "",
        "merchant_id": merchant_id,
        "livemode": livemode,
        "payment_id": payment_id,
        "unique_key": unique_key,
        "state": "due",
        "run_at": db.After(after),
        "fence": 0,
        "tries": 0,
        "failures": 0,
        "crashes": 0,
        "history": [],
        "created_at": now,
    }


async def enqueue(session: AsyncSession, **values: Any) -> bool:
    """Insert a job (arguments as for `row`) and ring its queue after the commit.

    With `unique_key` a second due job of that key is not made; tells whether one was made.
    """
    db.wake(session, [values["queue"]])
    return await db.insert_once(session, Job, row(**values))


async def insert_due(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Insert many jobs (values as of `row`) that are due now, or dead already; rings nobody."""
    many = [{name: one[name] for name in one if name != "run_at"} for one in rows]
    await session.execute(_JOBS.insert().values(run_at=db.now()), many)


async def claim(
    session: AsyncSession,
    *,
    queue: str,
    limit: int,
    owner: str,
    lease: float,
    held: Sequence[str] = (),
) -> list[Claim]:
    """Claim up to `limit` due jobs for `lease` seconds, fair between merchants.

    Jobs whose fair key begins with one of `held` are left alone, so that work that cannot be done
    now is not taken up and given back again and again.

    While others wait, one merchant gets a quarter at most; alone it gets all.
    A row whose lease ran out while somebody held it counts one crash more; the runner buries
    it when there are too many.
    """
    share = max(1, limit // 4)
    ids = await due.find(session, queue=queue, share=share, limit=limit, held=held)
    if len(ids) == share < limit:
        ids = await due.find(session, queue=queue, share=limit, limit=limit, held=held)
    if not ids:
        return []
    values = {"ids": ids, "lease": lease, "claimed_by": owner}
    return [Claim(*found) for found in await session.execute(_CLAIM, values)]


async def renew(session: AsyncSession, *, claims: Sequence[Claim], lease: float) -> None:
    """Prolong the leases of jobs that still run; what was taken away meanwhile stays away."""
    # One statement: row by row, each job would wait for all of them when it wants to finish.
    held = or_(*[and_(*_held(job)) for job in claims])
    await session.execute(update(_JOBS).where(held).values(run_at=db.now(lease)))


def _held(held: Claim) -> tuple[Any, ...]:
    return (_JOBS.c.id == held.id, _JOBS.c.fence == held.fence, _JOBS.c.state == "due")


# Every job needs these, and building a statement costs more than running it: they are built once.
_JOBS = cast("Table", Job.__table__)
_IS_HELD = and_(
    _JOBS.c.id == bindparam("held_id"),
    _JOBS.c.fence == bindparam("held_fence"),
    _JOBS.c.state == "due",
)
_CLAIM = (
    update(_JOBS)
    .where(_JOBS.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        run_at=now_and(bindparam("lease", type_=Float())),
        fence=_JOBS.c.fence + 1,
        tries=_JOBS.c.tries + 1,
        crashes=_JOBS.c.crashes + case((_JOBS.c.owner.is_not(None), 1), else_=0),
        owner=bindparam("claimed_by"),
    )
    .returning(*[_JOBS.c[name] for name in Claim.__struct_fields__ if name != "finished"])
)
_FINISH = (
    update(_JOBS)
    .where(_IS_HELD)
    .values(state="done", owner=None, finished_at=bindparam("moment"), reason=None)
)
_CHECK = select(_JOBS.c.id).where(_IS_HELD).with_for_update()


async def finish(session: AsyncSession, *, job: Claim, now: datetime) -> None:
    """End a job in the transaction that does its work. Raises LeaseLost: roll everything back."""
    place = {"held_id": job.id, "held_fence": job.fence}
    changed = await session.execute(_FINISH, place | {"moment": now})
    if changed.rowcount != 1:  # type: ignore[attr-defined] # An UPDATE gives a CursorResult.
        raise LeaseLost(job.id)
    job.finished = True


async def check(session: AsyncSession, *, job: Claim) -> None:
    """Hold the job's row and check the fence, in a transaction that is not the job's last.

    Raises LeaseLost: roll everything back.
    """
    found = await session.execute(_CHECK, {"held_id": job.id, "held_fence": job.fence})
    if found.first() is None:
        raise LeaseLost(job.id)


async def finish_many(session: AsyncSession, *, jobs: Sequence[Claim], now: datetime) -> None:
    """End jobs whose work is already committed; one that was taken away meanwhile is left."""
    held = [and_(*_held(job)) for job in jobs]
    ended = {"state": "done", "owner": None, "finished_at": now, "reason": None}
    await session.execute(update(_JOBS).where(or_(*held)).values(**ended))


def told(job: Claim, *, now: datetime, what: str, why: str) -> list[dict[str, Any]]:
    """Return the job's story with one line more; old tries are forgotten, what people did not."""
    line = {"at": now.isoformat(), "try": job.tries, "what": what, "why": redact(why, 500)}
    story = [*job.history, line]
    tries = [at for at, one in enumerate(story) if one.get("what") in {"postponed", "failed"}]
    forgotten = set(tries[: max(0, len(story) - _HISTORY)])
    return [one for at, one in enumerate(story) if at not in forgotten]


async def postpone(
    session: AsyncSession,
    *,
    job: Claim,
    now: datetime,
    seconds: float,
    reason: str,
    failed: bool,
    tried: bool = True,
) -> None:
    """Give a job back for later; `failed` counts towards burying, not `tried` for nothing."""
    what = "failed" if failed else "postponed"
    await session.execute(
        update(_JOBS)
        .where(*_held(job))
        .values(
            run_at=db.now(seconds),
            owner=None,
            failures=_JOBS.c.failures + (1 if failed else 0),
            tries=_JOBS.c.tries - (0 if tried else 1),
            reason=redact(reason, 1000),
            history=told(job, now=now, what=what, why=reason) if tried else job.history,
        )
    )


async def hand_back(session: AsyncSession, *, jobs: Sequence[Claim]) -> None:
    """Give jobs back at once, as on shutdown; this counts neither as failure nor as crash."""
    for job in jobs:
        await session.execute(
            update(_JOBS)
            .where(*_held(job))
            .values(run_at=db.now(), owner=None, tries=_JOBS.c.tries - 1)
        )


async def bury(session: AsyncSession, *, job: Claim, now: datetime, reason: str) -> None:
    """Put a job into the dead letters, with its story."""
    await session.execute(
        update(_JOBS)
        .where(*_held(job))
        .values(
            state="dead",
            owner=None,
            finished_at=now,
            reason=redact(reason, 1000),
            died_of=redact(reason, _CAUSE),
            history=told(job, now=now, what="buried", why=reason),
        )
    )


async def bury_at_once(
    session: AsyncSession, *, values: dict[str, Any], now: datetime, reason: str
) -> None:
    """Insert a dead letter for work that nobody tried as a job (values as of `row`)."""
    story = [{"at": now.isoformat(), "try": 0, "what": "buried", "why": redact(reason, 500)}]
    dead = {"state": "dead", "reason": redact(reason, 1000), "history": story, "finished_at": now}
    await db.insert_all(session, [(Job, values | dead | {"died_of": redact(reason, _CAUSE)})])


async def revive(session: AsyncSession, *, job_id: str, now: datetime, why: str) -> Job:
    """Make a dead letter due again. Raises NotRetryable when it is not dead (any more)."""
    found = await _dead(session, job_id)
    found.state = "due"
    found.run_at = db.now()
    found.finished_at = None
    found.failures = found.crashes = 0
    found.unique_key = None  # Another job of the key may be due by now; a person wants this one.
    db.wake(session, [found.queue])
    return await _told(session, found, "retried", now, why)


async def discard(session: AsyncSession, *, job_id: str, now: datetime, why: str) -> Job:
    """Close a dead letter without doing its work. Raises NotRetryable when it is not dead."""
    found = await _dead(session, job_id)
    found.state = "discarded"
    found.finished_at = now
    return await _told(session, found, "discarded", now, why)


async def _told(session: AsyncSession, found: Job, what: str, now: datetime, why: str) -> Job:
    found.history = [*found.history, {"at": now.isoformat(), "what": what, "why": why}]
    await session.flush()
    return found


async def _dead(session: AsyncSession, job_id: str) -> Job:
    found = await session.scalar(
        select(Job).where(Job.id == bindparam("job", job_id), Job.state == "dead").with_for_update()
    )
    if found is None:
        raise NotRetryable("This item has been retried or discarded meanwhile.")
    return found
