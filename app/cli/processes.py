"""Start, watch, restart and stop the processes of one `up`; nothing outlives it."""

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

_PR_SET_PDEATHSIG = 1
_TICK = 0.05
_STEADY_SECONDS = 60.0
_LONGEST_PAUSE = 30.0
_OLD_LOG = 10_000_000


class StartError(Exception):
    """Something cannot be started; the message is a sentence or more for the user."""


class Program(msgspec.Struct, kw_only=True):
    """What to run, and how to see that it works.

    `ready` is asked until it says yes; `stop_seconds` is how long it may take to end by itself.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    stdin: bytes | None = None
    stop_seconds: float = 8.5
    stop_last: bool = False


class _Child:
    """A program that was started, with the story of its restarts."""

    def __init__(
        self, program: Program, process: "subprocess.Popen[bytes]", log_start: int
    ) -> None:
        self.program = program
        self.process = process
        self.log_start = log_start
        self.started = time.monotonic()
        self.falls = 0
        self.restart_at: float | None = None


class Supervisor:
    """Runs programs together: one that dies is started again, and all stop together."""

    def __init__(
        self,
        logs: Path,
        folder: Path,
        say: Callable[[str], None],
        *,
        longest_pause: float = _LONGEST_PAUSE,
    ) -> None:
        """Prepare; one that falls again and again waits up to `longest_pause` seconds."""
        self._logs = logs
        self._longest_pause = longest_pause
        self._folder = folder
        self._say = say
        self._children: list[_Child] = []
        self._stop = threading.Event()
        self._hurry = False

    def catch_signals(self) -> None:
        """Make Ctrl-C and SIGTERM end everything; a second one does it at once."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._hurry = self._stop.is_set()
        self._stop.set()

    def ask_to_stop(self) -> None:
        """Make `watch` and every wait return; for another thread."""
        self._stop.set()

    def has(self, name: str) -> bool:
        """Tell whether a program of this name was started."""
        return any(child.program.name == name for child in self._children)

    def pid(self, name: str) -> int:
        """Return the process id of a program that was started, for measuring it."""
        return self._child(name).process.pid

    def program(self, name: str) -> Program:
        """Return a program that was started; a changed environment counts from its next start."""
        return self._child(name).program

    def alive(self, name: str) -> bool:
        """Tell whether a program that was started has not ended (it may be stopped)."""
        return self._child(name).process.poll() is None

    def _child(self, name: str) -> _Child:
        return next(child for child in self._children if child.program.name == name)

    @property
    def stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set()

    def start(self, program: Program) -> None:
        """Start a program without waiting for it."""
        log = self._log_path(program.name)
        log_start = log.stat().st_size if log.exists() else 0
        self._children.append(_Child(program, self._spawn(program), log_start))

    def run_once(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """Run a command to its end and return what it printed. Raises StartError."""
        log = self._log_path(name)
        with log.open("ab") as errors:
            start = errors.tell()
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                preexec_fn=_tie_to_parent,  # noqa: PLW1509 - `up` has one thread
                start_new_session=True,
            )
        output: bytes | None = None
        while output is None:
            try:
                output, _ = process.communicate(timeout=_TICK * 4)
            except subprocess.TimeoutExpired:
                if self.stopping:
                    _send(process, signal.SIGTERM)
        if process.returncode:
            raise StartError(_failure(name, process.returncode, log, start))
        return output.decode()

    def wait_ready(self, name: str, seconds: float) -> None:
        """Wait until a started program works. Raises StartError when it ends or takes too long."""
        child = self._child(name)
        deadline = time.monotonic() + seconds
        while not self.stopping:
            code = child.process.poll()
            if code is not None:
                raise StartError(_failure(name, code, self._log_path(name), child.log_start))
            if child.program.ready():
                return
            if time.monotonic() > deadline:
                log = self._log_path(name)
                raise StartError(f"{name} gives no answer after {seconds:.0f} s (log: {log}).")
            self._stop.wait(_TICK)

    def watch(self) -> None:
        """Keep everything running until somebody asks to stop."""
        while not self._stop.wait(_TICK * 4):
            self.tend()

    def tend(self) -> None:
        """Look after every program once: note who ended, start those again whose pause is over."""
        for child in self._children:
            self._look_after(child)

    def hold(self, name: str) -> None:
        """Kill a program and leave it dead until `release`; for drills of an outage."""
        child = self._child(name)
        _send(child.process, signal.SIGKILL)
        child.process.wait()
        child.restart_at = math.inf

    def release(self, name: str) -> None:
        """Start a program that was held."""
        self._child(name).restart_at = time.monotonic()

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.restart_at is not None:
            if now >= child.restart_at:
                child.process = self._spawn(child.program)
                child.started, child.restart_at = now, None
            return
        code = child.process.poll()
        if code is None:
            return
        if now - child.started > _STEADY_SECONDS:
            child.falls = 0
        pause = min(0.5 * 2**child.falls, self._longest_pause)
        child.falls += 1
        child.restart_at = now + pause
        name = child.program.name
        log = self._log_path(name)
        self._say(f"{name} {_ending(code)}; it starts again in {pause:g} s (log: {log}).")

    def stop(self) -> None:
        """Stop everything: first those that use the others, then the others."""
        self._stop.set()
        for last in (False, True):
            some = [child for child in self._children if child.program.stop_last is last]
            for child in some:
                _send(child.process, signal.SIGTERM)
            self._await_end(some)
        self._children.clear()

    def _await_end(self, children: list[_Child]) -> None:
        started = time.monotonic()
        waiting = [child for child in children if child.process.poll() is None]
        while waiting:
            for child in waiting:
                late = time.monotonic() - started > child.program.stop_seconds
                if late or self._hurry:
                    _send(child.process, signal.SIGKILL)
            time.sleep(_TICK / 2)
            waiting = [child for child in waiting if child.process.poll() is None]
        for child in children:
            # What a program itself started is in its group and must not stay behind.
            _send(child.process, signal.SIGKILL)

    def _spawn(self, program: Program) -> "subprocess.Popen[bytes]":
        with self._log_path(program.name).open("ab") as log:
            process = subprocess.Popen(
                program.command,
                cwd=self._folder,
                env=dict(program.environment),
                stdin=subprocess.PIPE if program.stdin is not None else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_tie_to_parent,  # noqa: PLW1509 - `up` has one thread
                start_new_session=True,
            )
        if process.stdin is not None and program.stdin is not None:
            # One that ended already breaks the pipe; the caller sees its end next.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(program.stdin)
                process.stdin.close()
        return process

    def _log_path(self, name: str) -> Path:
        path = self._logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _OLD_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path


def _tie_to_parent() -> None:
    # Even when `up` is killed outright, the system then kills what it started. Only Linux has it.
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_LIBC = ctypes.CDLL(None)


def _send(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    # Nobody left in that group is what we want.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _failure(name: str, code: int, log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)  # What an earlier start said would only mislead.
        said = file.read().decode(errors="replace").splitlines()[-15:]
    lines = "".join(f"\n    {line}" for line in said if line.strip())
    return f"{name} {_ending(code)} (log: {log}):{lines}"
