"""The installation that is drilled: started as `up` starts it, with a proxy on every line."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import redis.asyncio as redis

from app.__main__ import ROOT
from app.cli import demo, local_keys, programs, valkey
from app.cli.drill import database
from app.cli.drill.plan import WORKERS
from app.cli.drill.proxy import FAIR, Link, Weather
from app.cli.ports import free_port
from app.cli.postgres import Cluster
from app.cli.processes import Program, StartError, Supervisor
from app.cli.up import lock_folder, open_folder
from app.failpoints import mark_of

_READY_SECONDS = 60.0
_TICK = 0.05
_FLUSHES = 20
# Short leases and deadlines: what takes minutes in production takes seconds here.
QUICK: Mapping[str, str] = {
    "LEASE_SECONDS": "3",
    "GRACE_SECONDS": "1",
    "DEADLINE_CONNECT": "1",
    "DEADLINE_CREATE": "3",
    "DEADLINE_CONFIRM": "5",
    "DEADLINE_CAPTURE": "5",
    "DEADLINE_REFUND": "5",
    "DEADLINE_VOID": "3",
    "DEADLINE_LOOKUP": "3",
}
_OURS = {
    "BIND_HOST": "127.0.0.1",
    "WEBHOOK_ALLOW_LOOPBACK": "true",
    # One shop asks for everything, and everybody dies many times here: neither is at fault.
    "RATE_LIMIT_PER_SECOND": "100000",
    "RATE_LIMIT_BURST": "1000000",
    "MAX_CRASHES": "1000",
}


class House:
    """Database, Valkey, sandbox, web server and two workers, for the length of an `async with`.

    Everything happens on one thread, so that each program dies with this process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        postgres: bool = False,
        database_url: str | None = None,
        settings: Mapping[str, str] = QUICK,
    ) -> None:
        """Prepare; with `postgres` a private server is started, which can then be killed too."""
        self.folder = folder
        self.postgres = postgres
        self._database_url = database_url
        self._settings = settings
        self._seed = seed
        self._stack = ExitStack()
        self.database = database.name_of(database_url) if database_url else _private(postgres)
        # As `up` has it: SQLite's one writer is no faster with two who ask.
        self.workers = WORKERS[:1] if self.database == "SQLite" else WORKERS
        self._tender: asyncio.Task[None] | None = None
        self.cluster: Cluster | None = None
        self.links: dict[str, Link] = {}
        self.said: list[str] = []

    async def __aenter__(self) -> Self:
        """Start everything and wait until it answers. Raises StartError, PostgresMissingError."""
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        await self._stop()

    async def _start(self) -> None:
        self.folder = open_folder(self.folder)
        self._stack.callback(lock_folder(self.folder).close)
        self.url = self._own_database()
        self.supervisor = Supervisor(
            self.folder / "logs", ROOT, self.said.append, longest_pause=0.5
        )
        self._stack.callback(self.supervisor.stop)
        carrier, self.redis_url = valkey.program(self.folder / "valkey")
        self.supervisor.start(carrier)
        self.supervisor.wait_ready("valkey", _READY_SECONDS)
        self.port = free_port(1)
        self.environment = self._environment()
        await self._lay_lines()
        self.supervisor.start(self._sandbox())
        self.supervisor.wait_ready("sandbox", _READY_SECONDS)
        prepare = programs.prepare(self.folder, wants_demo=True)
        if problem := self.supervisor.run_once("prepare", prepare, self.environment).strip():
            raise StartError(problem)
        story = demo.read(self.folder)
        if story is None:
            raise StartError("a drill fills a folder and a database of its own; these are in use.")
        self.story: dict[str, Any] = story
        for program in self._programs():
            self.supervisor.start(program)
        for name in ("web", *self.workers):
            # In another thread: the programs reach each other through our own lines.
            await asyncio.to_thread(self.supervisor.wait_ready, name, _READY_SECONDS)
        self._tender = asyncio.create_task(self._tend())

    async def _stop(self) -> None:
        if self._tender is not None:
            self._tender.cancel()
            await asyncio.gather(self._tender, return_exceptions=True)
        for link in self.links.values():
            link.set(FAIR)
        await asyncio.to_thread(self._stack.close)
        for link in self.links.values():
            await link.stop()

    def _own_database(self) -> str:
        if self._database_url is not None:
            return self._database_url
        if not self.postgres:
            return f"sqlite+aiosqlite:///{self.folder / 'counterfoil.db'}"
        self.cluster = self._stack.enter_context(Cluster(durable=True))
        return self.cluster.url()

    def _environment(self) -> dict[str, str]:
        environment = {
            **_OURS,
            **self._settings,
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(ROOT),
            "PORT": str(self.port),
            "PUBLIC_URL": f"http://localhost:{self.port}",
            "SANDBOX_URL": f"http://127.0.0.1:{self.port + 1}",
            "DATABASE_URL": self.url,
            "REDIS_URL": self.redis_url,
            "DATA_DIR": str(self.folder),
        }
        return environment | local_keys.fill_in(environment, self.folder / "keys")

    async def _lay_lines(self) -> None:
        carrier = int(self.redis_url.rpartition(":")[2].partition("/")[0])
        targets: dict[str, int | str] = {
            "shop-api": self.port,
            "worker-psp": self.port + 1,
            "psp-api": self.port,
            "worker-valkey": carrier,
            "api-valkey": carrier,
        }
        if self.cluster is not None:
            database = self.cluster.socket
            targets |= {"worker-database": database, "api-database": database}
        for name, target in targets.items():
            await self.lay(name, target)

    async def lay(self, name: str, target: int | str) -> int:
        """Lay a line of ours to a port or a socket; return the port that leads there."""
        self.links[name] = Link(name, target, self._seed)
        await self.links[name].start()
        return self.links[name].port

    def _sandbox(self) -> Program:
        """Return the PSP, whose events come to us over a line as well."""
        there = {"PUBLIC_URL": f"http://localhost:{self.links['psp-api'].port}"}
        return programs.sandbox(self.environment | there, self.folder)

    def _programs(self) -> list[Program]:
        web = programs.web(self._seen_from("web", "api"))
        workers = []
        for name in self.workers:
            environment = self._seen_from(name, "worker")
            made = programs.worker(environment, self.folder / name)
            workers.append(msgspec.structs.replace(made, name=name))
        return [web, *workers]

    def _seen_from(self, name: str, side: str) -> dict[str, str]:
        """Return a program's environment: its lines lead through ours, its folder is its own."""
        own = self.folder / name
        (own / "run").mkdir(parents=True, exist_ok=True)
        head, _, tail = self.redis_url.rpartition(":")
        database = tail.partition("/")[2]
        environment = self.environment | {
            "DATA_DIR": str(own),
            "REDIS_URL": f"{head}:{self.links[f'{side}-valkey'].port}/{database}",
        }
        if side == "worker":
            environment["SANDBOX_URL"] = f"http://127.0.0.1:{self.links['worker-psp'].port}"
        if f"{side}-database" in self.links:
            port = self.links[f"{side}-database"].port
            environment["DATABASE_URL"] = (
                f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres?ssl=disable"
            )
        return environment

    async def _tend(self) -> None:
        while True:
            self.supervisor.tend()
            if self.cluster is not None and not self.cluster.alive:
                self.cluster.launch()
            await asyncio.sleep(_TICK)

    # --- what the drill does to it ------------------------------------------------------------

    def arm(self, name: str, spec: str | None) -> None:
        """Decide at which failpoint the next life of a process ends; None: at none."""
        program = self.supervisor.program(name)
        folder = Path(program.environment["DATA_DIR"])
        environment = {k: v for k, v in program.environment.items() if k != "FAILPOINT"}
        if spec is not None:
            mark_of(folder, spec).unlink(missing_ok=True)
            environment["FAILPOINT"] = spec
        program.environment = environment
        (folder / "run" / "worker.ready").unlink(missing_ok=True)

    def settle(self, settings: Mapping[str, str]) -> None:
        """Give web server and workers other settings, which count from their next start on."""
        for name in ("web", *self.workers):
            program = self.supervisor.program(name)
            kept = {k: v for k, v in program.environment.items() if k not in self._settings}
            program.environment = {**kept, **settings}
        self._settings = settings

    def fired(self, name: str, spec: str) -> bool:
        """Tell whether the failpoint that a process was armed with has struck."""
        return mark_of(Path(self.supervisor.program(name).environment["DATA_DIR"]), spec).exists()

    def alive(self, name: str) -> bool:
        """Tell whether a process has not ended (it may be stopped)."""
        if name == "postgres":
            return self.cluster is not None and self.cluster.alive
        return self.supervisor.alive(name)

    def pid(self, name: str) -> int:
        """Return a process's id."""
        if name == "postgres":
            return (self.cluster.pid if self.cluster is not None else None) or 0
        return self.supervisor.pid(name)

    async def ready(self, name: str) -> bool:
        """Tell whether a process works; a stopped one is waited for a moment only."""
        if not self.alive(name):
            return False
        if name == "postgres":
            return self.cluster is not None and await asyncio.to_thread(self.cluster.ready)
        return await asyncio.to_thread(self.supervisor.program(name).ready)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and all that it started (a server is its children, too)."""
        first = self.pid(name)
        if number is signal.SIGTERM and name == "postgres":
            # TERM would wait for clients that stay for ever; INT is how it is stopped in earnest.
            number = signal.SIGINT
        deep = number in {signal.SIGSTOP, signal.SIGCONT}
        for pid in [first, *(_children(first) if deep else [])]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    async def flush(self) -> None:
        """Empty Valkey, as an operator's mistake does."""
        client = redis.Redis.from_url(self.redis_url, socket_timeout=2)
        try:
            for _ in range(_FLUSHES):
                try:
                    await client.flushall()
                except (redis.RedisError, OSError, TimeoutError):
                    await asyncio.sleep(0.5)  # It is dead or stopped just now.
                else:
                    return
        finally:
            await client.aclose()

    def weather(self, link: str, weather: Weather) -> None:
        """Change the weather of a line."""
        self.links[link].set(weather)

    def hold(self, name: str) -> None:
        """Kill a process and keep it dead."""
        self.supervisor.hold(name)

    def release(self, name: str) -> None:
        """Let a held process live again."""
        self.supervisor.release(name)


def _private(postgres: bool) -> str:
    return "PostgreSQL" if postgres else "SQLite"


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]
