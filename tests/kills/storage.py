"""What a disk may do to an installation on SQLite: it is full, it lies, or it ends in a syscall.

F45: a small file system runs full with database, log files and Valkey's own file on it. F46: fsync
fails. F47: a process dies at the n-th write or flush. `python -m tests.kills.storage`.
"""

import asyncio
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from app.cli.drill.client import Answer
from app.cli.drill.house import House
from app.cli.drill.run import Found, Stage
from app.cli.drill.strike import gone, until_ready

_DISK_BYTES = 48_000_000
_SEED = 45
_BACK_SECONDS = 30.0
_CALLS = "fsync,fdatasync,pwrite64"
Tell = Callable[[str], None]


class Wrong(Exception):
    """Something does not hold; the message says what."""


def command() -> list[str] | None:
    """Return how to run this module where it may mount a file system; None when it may not."""
    mine = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    enter = ["unshare", *mine, "--"]
    if shutil.which("unshare") is None:
        return None
    probe = [*enter, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tempfile.gettempdir()]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return None
    return [*enter, sys.executable, "-m", "tests.kills.storage"]


@asynccontextmanager
async def selling(folder: Path, tell: Tell) -> AsyncIterator[Stage]:
    """Start an installation with a shop that has sold something; check everything at the end."""
    async with House(folder, seed=_SEED) as house:
        stage = Stage(house, _SEED, 1.0, tell)
        try:
            await stage.open()
            for order in await stage.shop.batch(4):
                order.done = True
            yield stage
            found = Found()
            await stage.check(found)
            if found.violations:
                raise Wrong("; ".join(one.sentence() for one in found.violations))
        finally:
            await stage.close()


async def order_once(stage: Stage) -> Answer:
    order = stage.shop.plain()
    order.done = True
    return await stage.client.act_once("/v1/payments", stage.shop.wish(order))


async def accepts_again(stage: Stage) -> float:
    """Wait until a payment is accepted; return the seconds."""
    began = monotonic()
    while not (await order_once(stage)).good:
        if monotonic() - began > _BACK_SECONDS:
            raise Wrong(f"nothing is accepted {_BACK_SECONDS:.0f} s after the disk is well again")
        await asyncio.sleep(0.5)
    return monotonic() - began


async def full_disk(folder: Path, tell: Tell) -> None:
    """F45: on a full disk no money is accepted, nothing is said that is not so, and it recovers."""
    _mount(folder)
    async with selling(folder / "data", tell) as stage:
        filler = folder / "filler"
        _fill(filler)
        answers: list[Answer] = []
        ends = monotonic() + 60.0
        # What the log file still has room for is truly written; then there must be a no.
        while [a.status for a in answers[-5:]] != [503] * 5 and monotonic() < ends:
            answers.append(await order_once(stage))
            _fill(filler)
        refused = [answer.status for answer in answers if not answer.good]
        accepted = len(answers) - len(refused)
        if refused[-5:] != [503] * 5:
            raise Wrong(f"a full disk was answered with {refused[-5:]}, {accepted} accepted")
        alive = await stage.client.once("GET", "/healthz")
        if not alive.good:
            raise Wrong(f"on a full disk /healthz answers {alive.status}")
        filler.unlink()
        seconds = await accepts_again(stage)
        tell(
            f"F45: full disk: {len(refused)} refused, {accepted} written and accepted; "
            f"accepting again after {seconds:.1f} s"
        )


def _mount(folder: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for size in (1_000_000, 4096, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


@asynccontextmanager
async def injected(pid: int, *rules: str) -> AsyncIterator[None]:
    """Let strace spoil some system calls of a process and of its threads."""
    options = [word for rule in rules for word in ("-e", f"inject={rule}")]
    tracer = await asyncio.create_subprocess_exec(
        *["strace", "-f", "-q", "-o", "/dev/null", "-e", f"trace={_CALLS}", *options],
        *["-p", str(pid)],
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.sleep(0.5)
        yield
    finally:
        if tracer.returncode is None:
            tracer.send_signal(signal.SIGINT)
        await tracer.wait()


async def failing_fsync(folder: Path, tell: Tell) -> None:
    """F46: what could not be flushed is not acknowledged, and nobody goes on as if it were."""
    async with selling(folder, tell) as stage:
        async with injected(stage.house.pid("web"), "fsync,fdatasync:error=EIO:when=1+3"):
            statuses = [(await order_once(stage)).status for _ in range(12)]
        if not {503} <= set(statuses) <= {201, 503}:
            raise Wrong(f"a failing fsync was answered with {statuses}")
        # What the kernel has of it and the disk has not is told apart by a start from the file.
        pid = stage.house.pid("web")
        stage.house.signal("web", signal.SIGKILL)
        await gone(stage.house, "web", pid)
        await until_ready(stage.house, "web")
        seconds = await accepts_again(stage)
        tell(
            f"F46: failing fsync: {statuses.count(503)} refused, {statuses.count(201)} accepted; "
            f"accepting again after {seconds:.1f} s"
        )


async def cut_syscalls(folder: Path, tell: Tell) -> None:
    """F47: a process that dies inside of a write or a flush leaves a whole database."""
    kills = 0
    async with selling(folder, tell) as stage:
        house = stage.house
        for name, nth in (("web", 2), ("worker-1", 5), ("web", 7), ("worker-1", 12)):
            async with injected(house.pid(name), f"{_CALLS}:signal=SIGKILL:when={nth}"):
                ends = monotonic() + 20.0
                while house.alive(name) and monotonic() < ends:
                    await order_once(stage)
            if house.alive(name) and monotonic() >= ends:
                raise Wrong(f"{name} came by no {nth} writes")
            kills += 1
            await until_ready(house, name)
            _integrity(Path(house.url.partition("///")[2]))
        await accepts_again(stage)
    tell(f"F47: {kills} kills at the n-th write: the database is whole after each")


def _integrity(path: Path) -> None:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        [(said,)] = connection.execute("PRAGMA integrity_check").fetchall()
    finally:
        connection.close()
    if said != "ok":
        raise Wrong(f"the database is not whole: {said}")


def unseen() -> int:
    """Return what a part that cannot run here counts: a failure where everything must be seen."""
    return int(os.environ.get("CI", "").lower() in {"1", "true"})


def main() -> int:
    """Run all; return how many failed."""
    failed = 0
    parts = [full_disk]
    if shutil.which("strace") is None:
        tell("*** NOT RUN: F46 and F47 need strace, which is not here.")
        failed += unseen()
    else:
        parts += [failing_fsync, cut_syscalls]
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="cf-disk-") as folder:
            try:
                asyncio.run(part(Path(folder), tell))
            except Wrong as wrong:
                failed += 1
                tell(f"FAILED {part.__name__}: {wrong}")
            finally:
                subprocess.run(["umount", folder], capture_output=True, check=False)
    tell(f"storage: {len(parts) - failed} passed, {failed} failed")
    return min(failed, 1)


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
