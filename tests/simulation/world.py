"""The world of one history: time, the database, processes, the PSP, shops, and the dice."""

import asyncio
import contextvars
import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from app import db
from app.db import Sessions
from app.ids import Ids
from app.runtime import Runtime
from app.secrets import Sealer
from app.settings import Settings
from tests.simulation.api import Api
from tests.simulation.bell import Bell
from tests.simulation.book import Book
from tests.simulation.failing import Failing
from tests.simulation.faults import Faults
from tests.simulation.loop import OWNER, Loop
from tests.simulation.post import Post
from tests.simulation.process import Process
from tests.simulation.psp import SimConnections
from tests.simulation.risk import Risk, SimRisk
from tests.simulation.shops import Shop
from tests.simulation.sqlite_store import SqliteStore
from tests.simulation.store import MEMORY, Store
from tests.simulation.worker import Worker
from tests.support.runtime import KEY, test_settings

# A refund made by hand that finds no room beside one of ours is tried for a day, then a letter, and
# again when an admin retries it: it rests while a person has not decided about ours.
WITHOUT_ROOM = """EXISTS (
  SELECT 1 FROM psp_events e JOIN attempts a ON a.psp_reference = e.psp_reference
  JOIN refunds r ON r.payment_id = a.payment_id
  WHERE r.status = 'pending' AND CAST(j.args AS TEXT) LIKE '%' || e.id || '%')"""
_NO_ROOM = f"""
  SELECT COUNT(*) FROM jobs j WHERE state = 'due' AND owner IS NULL
  AND reason LIKE '%finds no room%' AND {WITHOUT_ROOM}"""
# What is due when, and what waits: a job that somebody should see to, a question, a settlement;
# what waits without a time of its own; a job of any kind, and whether a queue waits without one.
_DUE = f"""
  SELECT (SELECT MIN(run_at) FROM jobs j WHERE state = 'due'
          AND (owner IS NOT NULL OR reason IS NULL OR reason NOT LIKE '%finds no room%'
               OR NOT {WITHOUT_ROOM})),
    (SELECT MIN(next_check_at) FROM attempts
     WHERE next_check_at IS NOT NULL AND state IN ('sent', 'unknown', 'open')),
    (SELECT MIN(available_on) FROM payments WHERE settled_at IS NULL),
    (SELECT COUNT(*) FROM events WHERE fanned_out = FALSE)
    + (SELECT COUNT(*) FROM postings WHERE status = 'waiting')
    + (SELECT COUNT(*) FROM jobs WHERE state = 'due' AND owner IS NOT NULL),
    (SELECT MIN(run_at) FROM jobs WHERE state = 'due'),
    EXISTS (SELECT 1 FROM events WHERE fanned_out = FALSE)
    OR EXISTS (SELECT 1 FROM postings WHERE status = 'waiting')"""
_QUESTION_RESTS = 10_000_000  # Microseconds after which the janitor's sweep takes up a look.
_WAITS = "SELECT DISTINCT queue, fair_key FROM jobs WHERE state = 'due' AND run_at <= ?"
_POSTED = """
  SELECT 'ledger' FROM postings WHERE status = 'waiting'
  UNION SELECT 'webhooks' FROM events WHERE fanned_out = FALSE"""
_LEFT = """
  SELECT (SELECT COUNT(*) FROM jobs WHERE state = 'due'),
    (SELECT COUNT(*) FROM attempts WHERE state IN ('created', 'sent', 'unknown', 'open')),
    (SELECT COUNT(*) FROM events WHERE fanned_out = FALSE),
    (SELECT COUNT(*) FROM postings WHERE status = 'waiting'),
    (SELECT COUNT(*) FROM payments WHERE settled_at IS NULL AND available_on IS NOT NULL)"""
# What may still charge the customer of a payment that has ended: only the PSP's own word ends one
# that it knows of. A hold is let go of after the end, too, and a refund comes after it.
_ENDED_TOO_SOON = """
  SELECT p.id, p.status, a.id FROM payments p JOIN attempts a ON a.payment_id = p.id
  WHERE p.status IN ('canceled', 'failed', 'expired')
    AND a.kind IN ('charge', 'checkout', 'capture') AND a.state IN ('sent', 'unknown')"""
BEGINS = datetime(2026, 3, 2, 9, tzinfo=UTC)
_BEGINS_MICROS = db.to_micros(BEGINS)


def _has_come(micros: int | None, now: int) -> bool:
    return micros is not None and micros <= now


class World:
    """Everything that is not our code, and our processes with it."""

    def __init__(
        self,
        seed: object,
        *,
        workers: int = 2,
        apis: int = 1,
        make_store: Callable[[Path], Store] = SqliteStore,
        risks: bool = False,
    ) -> None:
        self.seed = seed
        # What a loop has for sockets, signals and threads is missing here on purpose.
        self.loop = Loop()  # type: ignore[abstract] # See above.
        self.random = random.Random(f"{seed}:world")
        self._ids = random.Random(f"{seed}:ids")
        self.story: list[tuple[float, str, str]] = []
        self.violations: list[str] = []
        self.faults = Faults(seed, self.note)
        self.failing = Failing()
        self.statements = 0
        self._log = hashlib.sha256()
        self._folder = Path(tempfile.mkdtemp(prefix="history-", dir=MEMORY))
        self.store = make_store(self._folder)
        self.risk = Risk(self, asked=risks)
        self.settings: Settings = test_settings(
            self.store.url,
            self._folder,
            lease_seconds=self.random.choice((5.0, 15.0, 15.0)),
            second_person_above=random.Random(f"{seed}:limit").choice((0, 10_000, 10**12)),
            risk_url=self.risk.url,
        )
        self._quick = self.random.random() < 0.4  # Statements take no time at all.
        self._pace = random.Random(f"{seed}:pace").choice(self.store.paces)
        self.book = Book(seed, self.now)
        self.book.later = self.later
        self.book.hit = self.faults.hit
        self.post = Post(self)
        self.book.emit = self.post.emit
        self.api = Api(self)
        self.workers = workers
        # Seconds that a worker gives its jobs when it is told to end.
        self.graces: tuple[float, ...] = (0.0, 0.0, 2.0)
        self.apis = apis
        self.processes: list[Process] = []
        self.shops: list[Shop] = []
        self.retried: list[tuple[str, str]] = []  # Letters that an admin was told are due again.
        self.said: list[tuple[str, str]] = []  # What people at the desk did, and the item.
        # How long jobs wait, by id and fence, that the PSP's absence put back.
        self.waits: dict[tuple[str, int], float] = {}
        self.ended = False
        self._number = 0
        self._next_sweep = 0.0
        self._looked_at: tuple[int, tuple[Any, ...]] = (-1, ())
        # What each task has executed in its last transaction, or alone.
        self.done: WeakKeyDictionary[asyncio.Task[Any], tuple[str, ...]] = WeakKeyDictionary()

    # Time.

    def now(self) -> datetime:
        return BEGINS + timedelta(microseconds=round(self.loop.time() * 1_000_000))

    def micros(self) -> int:
        """Return the same in microseconds since 1970, which is asked for at every statement."""
        return _BEGINS_MICROS + round(self.loop.time() * 1_000_000)

    def latency(self) -> float:
        """Return how long a statement takes."""
        return 0.0 if self._quick else self.random.expovariate(2000) * self._pace

    def travel(self) -> float:
        """Return how long a message is on its way to another system."""
        return 0.005 + self.random.expovariate(20)

    def later(self, seconds: float, call: Any) -> None:
        """Have the outside world do something, whatever becomes of our processes."""
        self.loop.call_later(max(0.0, seconds), call, context=contextvars.Context())

    def outside(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something that belongs to none of our processes."""
        return self.loop.create_task(work, context=contextvars.Context())

    def watching(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something that is no part of the world: its waiting keeps nobody from skipping."""
        context = contextvars.Context()
        context.run(OWNER.set, _Eye())
        return self.loop.create_task(work, context=context)

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Look into the database past everything; sees what is committed."""
        return self.store.rows(query, *values)

    def idle_until(self, visit: Callable[[], float | None]) -> float:
        """Return in how many seconds anything is due: in our rows, outside, or to a person.

        `visit` tells when somebody comes to whom nothing can be told before.
        """
        row = self._due()
        if row[3] or self.api.busy:
            return 0.0
        now = self.now().timestamp()
        waits = [micros / 1_000_000 - now for micros in row[:3] if micros is not None]
        outside = self.loop.next_timer(lambda owner: owner is None)
        if outside is not None:
            waits.append(outside - self.loop.time())
        if (comes := visit()) is not None:
            waits.append(comes - self.loop.time())
        return min(waits, default=0.0)

    def look_around(self) -> None:
        """Wake whom a look at this moment would show something to do.

        The looks of a quiet second find nothing and change nothing; leaving them out is what
        makes days pass quickly.
        """
        micros = self.micros()
        _, check_at, settle_at, _, run_at, waits = self._due()
        awake = [one for one in self.living("worker") if isinstance(one, Worker) and not one.frozen]
        for one in awake:
            one.time_for(keep_gates=one.has_seen_the_psp())
        if awake:
            process = self.random.choice(awake)
            if waits or _has_come(run_at, micros):
                for name in self._waiting(micros, tuple(process.rt.gates.held())):
                    process.ring(name)
            # Not more often than by the clock: what is overdue may wait for a PSP that is away.
            sweep = _has_come(check_at, micros) and self.loop.time() >= self._next_sweep
            self._next_sweep = self.loop.time() + 10.0 if sweep else self._next_sweep
            process.time_for(settle=_has_come(settle_at, micros), sweep=sweep)

    def _waiting(self, micros: int, held: tuple[str, ...]) -> list[str]:
        """Return the queues in which something waits that is not held back, in order."""
        found = {queue for queue, key in self.rows(_WAITS, micros) if not key.startswith(held)}
        return sorted(found.union(name for (name,) in self.rows(_POSTED)))

    def _due(self) -> tuple[Any, ...]:
        """Return what `_DUE` tells; asked again, and checked, after something was committed."""
        version = self.store.changes()
        if version != self._looked_at[0]:
            for payment_id, status, attempt_id in self.rows(_ENDED_TOO_SOON):
                self.broken("I6", f"{payment_id} is {status}, and {attempt_id} is an open question")
            run_at, check_at, *rest = self.rows(_DUE)[0]
            check_at = None if check_at is None else check_at + _QUESTION_RESTS
            self._looked_at = (version, (run_at, check_at, *rest))
        return self._looked_at[1]

    def waits_for_room(self) -> int:
        """Return how many refunds made by hand find no room; see `_NO_ROOM`."""
        return int(self.rows(_NO_ROOM)[0][0])

    def unfinished(self) -> str:
        """Say what is left to do; empty when there is nothing."""
        (row,) = self.rows(_LEFT)
        words = ("due jobs", "open attempts", "events", "postings", "unsettled")
        if row[0] and row[0] == self.waits_for_room():
            row = (0, *row[1:])
        left = [f"{n} {word}" for n, word in zip(row, words, strict=True) if n]
        if self.post.under_way:
            left.append(f"{self.post.under_way} events of the PSP")
        return ", ".join(left)

    # What is kept for later.

    def note(self, who: str, what: str) -> None:
        """Write a line of the story."""
        self.story.append((self.loop.time(), who, what))

    def broken(self, invariant: str, why: str) -> None:
        """Note that an invariant does not hold."""
        if not self.ended and len(self.violations) < 20:
            self.violations.append(f"{invariant}: {why}")
            self.note("CHECK", f"{invariant} does not hold: {why}")

    def log_statement(self, process: Process, statement: str, parameters: Any) -> None:
        self.statements += 1
        if (task := asyncio.current_task()) is not None:
            before = self.done.get(task, ())
            ended = not before or before[-1] in {"COMMIT", "ROLLBACK"}
            self.done[task] = (statement,) if ended else (*before, statement)
        if statement.startswith("UPDATE jobs SET run_at") and "Connection refused." in parameters:
            job, fence = parameters[-3:-1]
            self.waits[job, fence] = parameters[0]  # Once, however often its answer was lost.
        self._log.update(
            f"{process.name} {self.loop.time():.6f} {statement} {parameters!r}".encode()
        )

    def log_hash(self) -> str:
        """Return the hash of every statement that was executed, in order."""
        return self._log.hexdigest()

    # Processes.

    def make_runtime(self, process: Process) -> Runtime:
        """Build the runtime of a process with stand-ins."""
        ids = Ids(process.now, self._ids.randbytes)
        bell = Bell(self, process)
        return Runtime(
            settings=self.settings,
            sessions=Sessions(self.store.engine(), bell.ring),
            queue=bell,
            clock=process.now,
            ids=ids,
            sealer=Sealer({"k1": KEY}, "k1", KEY, self._ids.randbytes),
            connections=SimConnections(process, self.settings, process.now),
            egress=self.post.egress(process),
            http=SimRisk(self),
            timer=self.loop.time,
        )

    def start(self) -> None:
        """Start the processes that a house has."""
        for _ in range(self.apis):
            self.spawn("api")
        for _ in range(self.workers):
            self.spawn("worker")

    def spawn(self, kind: str) -> Process:
        """Start a process."""
        self._number += 1
        made = Worker if kind == "worker" else Process
        process = made(self, f"{kind}-{self._number}")
        process.kind = kind
        self.processes.append(process)
        self.note(process.name, "starts")
        return process

    def process_ended(self, process: Process) -> None:
        """A supervisor starts another one in its place."""
        self.processes.remove(process)
        self.api.process_ended(process)
        if not self.ended:
            wait = self.random.uniform(0.2, 4.0)
            self.later(wait, lambda: None if self.ended else self.spawn(process.kind))

    def living(self, kind: str) -> list[Process]:
        """Return the processes of a kind that can do something."""
        return [one for one in self.processes if one.kind == kind and one.alive]

    def meanwhile(self, process: Process) -> None:
        """Perhaps kill or stop a process while its request is on the way."""
        if self.faults.hit("psp.caller_dies", process.name):
            self.later(self.random.uniform(0, 0.3), process.crash)
        elif self.faults.hit("psp.caller_stops", process.name):
            self.later(self.random.uniform(0, 0.3), process.stop_soon)

    def close(self) -> None:
        """Take everything down; nothing of it may act later."""
        self.ended = True
        for process in self.processes:
            process.alive = False
            for connection in list(process.connections):
                connection.stop()
        self.loop.bury()
        self.store.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Eye:
    """Owns what looks on from outside of the world."""

    alive = True
    frozen = False

    def hold(self, handle: asyncio.Handle) -> None:
        """Never happens."""
