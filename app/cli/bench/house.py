"""The installation that is measured: private, durable, started as `up` starts it, then gone."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from sqlalchemy import func, select

from app import runtime
from app.__main__ import ROOT
from app.audit.operations import command
from app.cli import local_keys, programs, valkey
from app.cli.ports import free_port
from app.cli.postgres import Cluster
from app.cli.processes import Program, Supervisor
from app.cli.up import open_folder
from app.db import Sessions
from app.merchants import operations as merchants
from app.merchants.models import Merchant
from app.queue import SilentDoorbell
from app.runtime import Runtime
from app.settings import Settings, from_environment

_READY_SECONDS = 60.0


class BenchError(Exception):
    """A benchmark cannot go on; the message is a sentence for the user."""


class Shop(msgspec.Struct, frozen=True):
    """The shop that asks for payments."""

    merchant_id: str
    secret: str


class House:
    """Database, Valkey and some programs of `up`, for the length of a `with`."""

    def __init__(
        self, *wanted: str, database_url: str | None = None, libraries: str = "", pool: int = 10
    ) -> None:
        self._wanted: Sequence[str] = wanted
        self._database_url = database_url
        self._libraries = libraries
        self._pool = pool
        self._cluster: Cluster | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start everything and wait until it answers.

        Raises BenchError, StartError, PostgresMissingError.
        """
        with ExitStack() as stack:
            self.folder = open_folder(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            url = self._database_url or self._own_database(stack)
            self.supervisor = Supervisor(self.folder / "logs", ROOT, print)
            stack.callback(self.supervisor.stop)
            self._start(url)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything and remove what is private."""
        self._stack.close()

    def _own_database(self, stack: ExitStack) -> str:
        self._cluster = stack.enter_context(Cluster(durable=True, libraries=self._libraries))
        return self._cluster.url()

    def _start(self, url: str) -> None:
        carrier, redis_url = valkey.program(self.folder / "valkey")
        self.supervisor.start(carrier)
        self.supervisor.wait_ready("valkey", _READY_SECONDS)
        self.port = free_port(1)
        self.environment = self._environment(url, redis_url)
        prepare = programs.prepare(self.folder, wants_demo=False)
        if problem := self.supervisor.run_once("prepare", prepare, self.environment).strip():
            raise BenchError(problem)
        for program in self._programs():
            self.supervisor.start(program)
        for name in self._wanted:
            self.supervisor.wait_ready(name, _READY_SECONDS)

    def _programs(self) -> list[Program]:
        makers = {
            "sandbox": lambda: programs.sandbox(self.environment, self.folder),
            "web": lambda: programs.web(self.environment),
            "worker": lambda: programs.worker(self.environment, self.folder),
        }
        return [makers[name]() for name in self._wanted]

    def _environment(self, url: str, redis_url: str) -> dict[str, str]:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(ROOT),
            "BIND_HOST": "127.0.0.1",
            # What is measured is our own speed, not a PSP's limit or our own protection.
            "PSP_RATE_PER_SECOND": "100000",
            "PSP_CALLS_AT_ONCE": "64",
            "REQUESTS_AT_ONCE": "2000",
            "PORT": str(self.port),
            "PUBLIC_URL": f"http://localhost:{self.port}",
            "SANDBOX_URL": f"http://127.0.0.1:{self.port + 1}",
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "DATA_DIR": str(self.folder),
            "GRACE_SECONDS": "2",
            "POOL_SIZE": str(self._pool),
            "WEBHOOK_ALLOW_LOOPBACK": "true",
            # One shop asks for everything here; its limit is not what is measured.
            "RATE_LIMIT_PER_SECOND": "100000",
            "RATE_LIMIT_BURST": "1000000",
        }
        return environment | local_keys.fill_in(environment, self.folder / "keys")

    @property
    def settings(self) -> Settings:
        """The settings of the started programs."""
        return from_environment(self.environment)

    @property
    def pids(self) -> dict[str, int]:
        """The processes to measure, by name; a database of somebody else's is not among them."""
        found = {name: self.supervisor.pid(name) for name in (*self._wanted, "valkey")}
        if self._cluster is not None and self._cluster.pid is not None:
            found["postgres"] = self._cluster.pid
        return found | {"client": os.getpid()}

    @staticmethod
    def spare_port() -> int:
        """Return a free port."""
        return free_port()

    def runtime(self) -> Runtime:
        """Return a runtime on the same database that rings nobody; the caller closes it."""
        rt = runtime.build(self.settings)
        rt.queue = SilentDoorbell()
        rt.sessions = Sessions(rt.sessions.engine, rt.queue.ring)
        return rt


async def make_shop(rt: Runtime) -> Shop:
    """Make the only shop, with a test key. Raises BenchError when there are shops already."""
    actor = command("bench")
    async with rt.sessions.begin() as session:
        if await session.scalar(select(func.count()).select_from(Merchant)):
            raise BenchError("the database is not empty; a benchmark fills one of its own.")
        shop = await merchants.create_merchant(
            session, ids=rt.ids, now=rt.clock(), actor=actor, name="Benchmark shop"
        )
        _, secret = await merchants.create_key(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=actor,
            merchant_id=shop.id,
            livemode=False,
            name="Benchmark key",
        )
    return Shop(shop.id, secret)
