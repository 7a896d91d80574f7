"""The runner: per queue, wait for a ring or a second, claim due rows, run them, again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app import due, jobs
from app.jobs import MAX_FAILURES, Bury, Claim, LeaseLost, NotNow, Postpone
from app.payments.processing import backoff
from app.runtime import Runtime

log = structlog.get_logger(__name__)

JobFunction = Callable[[Runtime, Claim], Awaitable[None]]
Pump = Callable[[Runtime], Awaitable[int]]

_POLL = 1.0
_NEWER_AGAIN = 60.0
_NEWER_GIVE_UP = 3600.0
_LONGEST_JOB = 120.0
_OUTSIDE_CAP = 30.0
_FINISH_BATCH = 64


# Of SQLSTATE: bad data, a broken constraint, a wrong statement, refused by a trigger.
_FAULTS = {"22", "23", "42", "0A", "P0"}


class TooLong(Exception):
    """A job did not end by itself; the next try may do no better."""


def is_outside(error: Exception) -> bool:
    """Tell whether the database or the network is at fault, not the job: then it is no failure."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    if isinstance(state, str):
        return state[:2] not in _FAULTS
    if isinstance(error, DBAPIError):
        faults = IntegrityError | DataError | ProgrammingError | NotSupportedError
        return not isinstance(error, faults)
    return isinstance(error, OSError | PoolTimeoutError)


class Known(msgspec.Struct, frozen=True):
    """A kind of job: its function and the newest version of its arguments that we read."""

    run: JobFunction
    version: int = 1


class Queue(msgspec.Struct, frozen=True):
    """How a queue is worked on: jobs at once, and what to do before claiming (its pump).

    A pump takes up to `batch` rows and returns how many. `share` is how many of the jobs one PSP
    connection may take.
    """

    name: str
    width: int
    pump: Pump | None = None
    batch: int = 500
    share: int | None = None


class Runner:
    """Runs jobs of some queues in this process until it is stopped."""

    def __init__(
        self,
        rt: Runtime,
        *,
        kinds: Mapping[str, Known],
        queues: Sequence[Queue],
        owner: str,
        lease: float,
        poll: float = _POLL,
    ) -> None:
        self._rt = rt
        self._kinds = kinds
        self._queues = queues
        self._owner = owner
        self._lease = lease
        self._poll = poll  # Seconds after which a queue that nobody rings looks by itself.
        self._bells = {queue.name: asyncio.Event() for queue in queues}
        self._rung: set[str] = set()  # Rung, as against woken by a place that became free.
        self._short: set[str] = set()  # Queues whose last look found all there was for us.
        self._running: dict[asyncio.Task[None], Claim] = {}
        self._ended: asyncio.Queue[Claim] = asyncio.Queue()
        self._finished: list[Claim] = []  # What the finisher is writing just now.
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    def ring(self, queue: str) -> None:
        """Wake one queue's loop."""
        if queue in self._bells:
            self._rung.add(queue)
            self._bells[queue].set()

    async def run(self) -> None:
        """Work until `stop` is called."""
        async with asyncio.TaskGroup() as group:
            self._loops = [
                group.create_task(self._loop(queue), name=f"queue {queue.name}")
                for queue in self._queues
            ]
            helpers = [
                group.create_task(self._renewing(), name="leases"),
                group.create_task(self._finishing(), name="finisher"),
            ]
            # Jobs may still finish while we are stopping, and until then they keep their leases.
            await self._stopped.wait()
            for helper in helpers:
                helper.cancel()

    async def stop(self, grace: float) -> None:
        """Claim nothing more, give running jobs `grace` seconds, then cut and hand them back."""
        self._stopping.set()
        for bell in self._bells.values():
            bell.set()
        ends = asyncio.get_running_loop().time() + grace
        if self._loops:
            # What is being claimed just now is handed back, or has become a running job.
            _, late = await asyncio.wait(self._loops, timeout=grace)
            for loop in late:
                loop.cancel()
        if self._running:
            left = max(0.0, ends - asyncio.get_running_loop().time())
            await asyncio.wait(list(self._running), timeout=left)
        cut = dict(self._running)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        try:
            await self._let_go(list(cut.values()))
        except (SQLAlchemyError, OSError) as error:
            log.warning("jobs_left_to_lease", error=type(error).__name__)
        finally:
            self._stopped.set()

    async def _let_go(self, cut: Sequence[Claim]) -> None:
        ended = list(self._finished)
        while batch := self._drained():
            ended += batch
        async with self._rt.sessions.begin() as session:
            if ended:
                await jobs.finish_many(session, jobs=ended, now=self._rt.clock())
            # Also one that said it was done: if that was committed, its row is not touched.
            await jobs.hand_back(session, jobs=cut)

    async def drain(self) -> int:
        """Run everything that is due, in this task, until nothing is; for tests and commands."""
        done = 0
        while True:
            before = done
            for queue in self._queues:
                while queue.pump is not None and await queue.pump(self._rt):
                    done += 1
                for job in await self._claim(queue, queue.width, Counter()):
                    await self._work(job)
                    done += 1
            ended = self._drained()
            if ended:
                async with self._rt.sessions.begin() as session:
                    await jobs.finish_many(session, jobs=ended, now=self._rt.clock())
            if done == before:
                return done

    async def _loop(self, queue: Queue) -> None:
        bell = self._bells[queue.name]
        mine: set[asyncio.Task[None]] = set()
        self._rung.add(queue.name)
        while not self._stopping.is_set():
            bell.clear()
            try:
                busy = await self._turn(queue, mine)
            except Exception as error:
                # The database is away, or a pump has a fault: the rows are still there, and the
                # other queues go on.
                if is_outside(error):
                    log.warning("queue_stalled", queue=queue.name, error=type(error).__name__)
                else:
                    log.exception("queue_stalled", queue=queue.name)
                busy = False
                await asyncio.sleep(_POLL)
            if not busy and not await self._woken(bell):
                self._rung.add(queue.name)

    async def _turn(self, queue: Queue, mine: set[asyncio.Task[None]]) -> bool:
        """Pump and claim once; tell whether there may be more to do right away."""
        pumped = False
        rung = queue.name in self._rung
        self._rung.discard(queue.name)
        if queue.pump is not None and rung:
            # Less than a batch was all there was; whoever writes more rings.
            pumped = await queue.pump(self._rt) >= queue.batch
            if pumped:
                self._rung.add(queue.name)
        free = queue.width - len(mine)
        self._short.discard(queue.name)
        if free <= 0:
            return pumped
        claims = await self._claim(queue, free, self._taken(mine))
        if claims:
            self._rt.failpoints.hit("jobs.after_claim")
        if self._stopping.is_set():
            async with self._rt.sessions.begin() as session:
                await jobs.hand_back(session, jobs=claims)
            return False
        for job in claims:
            task = asyncio.create_task(self._work(job), name=f"{job.kind} {job.id}")
            self._running[task] = job
            mine.add(task)
            task.add_done_callback(mine.discard)
            task.add_done_callback(self._running.pop)
            task.add_done_callback(lambda _task: self._place_free(queue.name))
        return pumped or (bool(claims) and queue.name not in self._short)

    def _place_free(self, queue: str) -> None:
        # Where the last look found all there was, a free place changes nothing: whoever writes a
        # job rings, and the next look by itself comes within a second.
        if queue not in self._short:
            self._bells[queue].set()

    def _taken(self, mine: set[asyncio.Task[None]]) -> Counter[str]:
        """Count which PSP connection takes how many of a queue's places."""
        keys = [self._running[task].fair_key for task in mine if task in self._running]
        return Counter(key.partition("/")[0] for key in keys if "/" in key)

    async def _claim(self, queue: Queue, limit: int, taken: Counter[str]) -> list[Claim]:
        held = self._rt.gates.held()
        if queue.share is not None:
            held += [f"{name}/" for name, count in taken.items() if count >= queue.share]
            room = [queue.share - count for count in taken.values() if count < queue.share]
            limit = min([limit, queue.share, *room])
        claims: list[Claim] = []
        if await self._looks_busy(queue, held):
            async with self._rt.sessions.begin() as session:
                claims = await jobs.claim(
                    session,
                    queue=queue.name,
                    limit=limit,
                    owner=self._owner,
                    lease=self._lease,
                    held=held,
                )
        # One key may have no more than a quarter while others wait (see `jobs.claim`).
        if not held and len(claims) < max(1, limit // 4):
            self._short.add(queue.name)
        return claims

    async def _looks_busy(self, queue: Queue, held: Sequence[str]) -> bool:
        if not self._rt.sessions.sqlite:
            return True
        return await due.any_due(self._rt.sessions, queue=queue.name, held=held)

    async def _woken(self, bell: asyncio.Event) -> bool:
        try:
            await asyncio.wait_for(bell.wait(), self._poll)
        except TimeoutError:
            return False
        return True

    async def _work(self, job: Claim) -> None:
        known = self._kinds.get(job.kind)
        try:
            if job.crashes >= self._rt.settings.max_crashes:
                raise Bury(f"The worker died {job.crashes} times while doing this.")
            if known is None or job.version > known.version:
                await self._newer(job)
            else:
                await self._within_limit(known, job)
        except asyncio.CancelledError:
            raise
        except LeaseLost:
            log.warning("lease_lost", job_id=job.id, kind=job.kind)
        except NotNow as later:
            await self._put_back(job, later.seconds, later.reason, failed=False, tried=False)
        except Postpone as later:
            await self._put_back(job, later.seconds, later.reason, failed=False)
        except Bury as end:
            await self._bury(job, end.reason)
        except Exception as error:  # noqa: BLE001 - a job may raise anything; it is counted and shown.
            await self._failed(job, error)
        else:
            if not job.finished:
                self._ended.put_nowait(job)

    async def _within_limit(self, known: Known, job: Claim) -> None:
        limit = asyncio.timeout(_LONGEST_JOB)
        try:
            async with limit:
                await known.run(self._rt, job)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TooLong(f"It took longer than {_LONGEST_JOB:.0f} seconds.") from error

    async def _newer(self, job: Claim) -> None:
        # A rolling deploy is no poison: a newer worker will know it.
        age = (self._rt.clock() - job.created_at).total_seconds()
        if age > _NEWER_GIVE_UP:
            raise Bury(f"No worker knows {job.kind} version {job.version}.")
        raise Postpone(_NEWER_AGAIN, f"This worker does not know {job.kind} {job.version}.")

    async def _failed(self, job: Claim, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        log.error("job_failed", job_id=job.id, kind=job.kind, exc_info=error)
        if is_outside(error):
            seconds = backoff(self._rt, job.tries, cap=_OUTSIDE_CAP)
            await self._put_back(job, seconds, reason, failed=False)
        elif job.failures + 1 >= MAX_FAILURES:
            await self._bury(job, reason)
        else:
            seconds = backoff(self._rt, job.failures + 1)
            await self._put_back(job, seconds, reason, failed=True)

    async def _put_back(
        self, job: Claim, seconds: float, reason: str, *, failed: bool, tried: bool = True
    ) -> None:
        async def write() -> None:
            async with self._rt.sessions.begin() as session:
                await jobs.postpone(
                    session,
                    job=job,
                    now=self._rt.clock(),
                    seconds=seconds,
                    reason=reason,
                    failed=failed,
                    tried=tried,
                )

        await self._surely(write)

    async def _bury(self, job: Claim, reason: str) -> None:
        async def write() -> None:
            async with self._rt.sessions.begin() as session:
                await jobs.bury(session, job=job, now=self._rt.clock(), reason=reason)

        log.error("job_buried", job_id=job.id, kind=job.kind)
        await self._surely(write)

    async def _surely(self, write: Callable[[], Awaitable[None]]) -> None:
        # While the database is away the lease runs out and somebody else takes the job; trying
        # for a lease's length keeps a short outage from counting as a crash.
        ends = asyncio.get_running_loop().time() + self._lease
        while True:
            try:
                await write()
            except Exception as error:
                if asyncio.get_running_loop().time() > ends:
                    log.exception("job_left_to_lease", error=type(error).__name__)
                    return
                await asyncio.sleep(0.5)
            else:
                return

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            held = [job for job in self._running.values() if not job.finished]
            if not held:
                continue
            try:
                async with self._rt.sessions.begin() as session:
                    await jobs.renew(session, claims=held, lease=self._lease)
            except Exception as error:  # noqa: BLE001 - whatever it was, the next turn tries again.
                log.warning("leases_not_renewed", error=type(error).__name__)

    async def _finishing(self) -> None:
        while True:
            self._finished = [await self._ended.get()]
            self._finished += self._drained()
            self._rt.failpoints.hit("jobs.before_finish")
            try:
                async with self._rt.sessions.begin() as session:
                    await jobs.finish_many(session, jobs=self._finished, now=self._rt.clock())
            except Exception as error:  # noqa: BLE001 - the jobs are still due and come again.
                # Their work is committed; run again they find nothing to do.
                log.warning("jobs_not_finished", error=type(error).__name__)

    def _drained(self) -> list[Claim]:
        batch: list[Claim] = []
        while not self._ended.empty() and len(batch) < _FINISH_BATCH - 1:
            batch.append(self._ended.get_nowait())
        return batch
