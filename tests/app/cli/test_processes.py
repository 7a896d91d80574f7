"""Processes that are started together are watched together and end together."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.__main__ import ROOT
from app.cli.processes import Program, StartError, Supervisor


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path, tmp_path, said.append)
    yield made
    made.stop()


def program(
    name: str,
    code: str,
    *,
    ready: Callable[[], bool] = lambda: True,
    stop_seconds: float = 5.0,
    stop_last: bool = False,
) -> Program:
    return Program(
        name=name,
        command=[sys.executable, "-S", "-c", code],
        environment={"PATH": os.environ["PATH"]},
        ready=ready,
        stop_seconds=stop_seconds,
        stop_last=stop_last,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def watch_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    def ask_to_stop() -> None:
        try:
            wait_for(condition)
        finally:
            supervisor.ask_to_stop()

    helper = threading.Thread(target=ask_to_stop)
    helper.start()
    supervisor.watch()
    helper.join()


def test_a_program_that_dies_is_started_again_and_reported(
    supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(3)"
    supervisor.start(program("worker", code))
    watch_until(supervisor, lambda: starts.exists() and len(starts.read_text()) >= 2)
    assert "worker ended with exit code 3; it starts again in 0.5 s" in said[0]


def test_one_that_dies_before_it_is_ready_is_told_with_its_last_words(
    supervisor: Supervisor,
) -> None:
    code = "print('the disk is full'); raise SystemExit(4)"
    supervisor.start(program("web", code, ready=lambda: False))
    with pytest.raises(StartError, match=r"web ended with exit code 4(?s:.*)the disk is full"):
        supervisor.wait_ready("web", 20)


def test_one_that_gives_no_answer_is_told_with_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(program("web", "import time; time.sleep(60)", ready=lambda: False))
    with pytest.raises(StartError, match=rf"no answer after 0 s \(log: {tmp_path}/web.log\)"):
        supervisor.wait_ready("web", 0.2)


def test_a_command_that_fails_says_why(supervisor: Supervisor) -> None:
    command = [sys.executable, "-S", "-c", "import sys; sys.exit('no such table')"]
    with pytest.raises(StartError, match=r"prepare ended with exit code 1(?s:.*)no such table"):
        supervisor.run_once("prepare", command, {})


def test_a_stop_ends_also_what_refuses_and_what_it_started(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pids) + '.new'!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(pids) + '.new'!r}, {str(pids)!r})\n"
        "time.sleep(60)\n"
    )
    supervisor.start(program("stubborn", code, stop_seconds=0.3))
    wait_for(pids.exists)
    started = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - started < 5
    for pid in map(int, pids.read_text().split()):
        wait_for(lambda pid=pid: not is_alive(pid))  # type: ignore[misc] # the default binds pid


def test_those_that_others_use_are_stopped_last(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"

    def code(name: str) -> str:
        return (
            "import signal, sys, time\n"
            f"def end(*_): time.sleep(.2); open({str(order)!r}, 'a').write({name!r}); sys.exit()\n"
            "signal.signal(signal.SIGTERM, end)\n"
            f"open({str(tmp_path / name)!r}, 'w')\n"
            "time.sleep(60)\n"
        )

    supervisor.start(program("valkey", code("v"), stop_last=True))
    supervisor.start(program("web", code("w")))
    wait_for(lambda: (tmp_path / "v").exists() and (tmp_path / "w").exists())
    supervisor.stop()
    assert order.read_text() == "wv"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_however_the_parent_ends(tmp_path: Path, number: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import sys; from pathlib import Path\n"
        "from app.cli.processes import Program, Supervisor\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "supervisor = Supervisor(folder, folder, print); supervisor.catch_signals()\n"
        'inner = \'import os, time; open("pid", "w").write(str(os.getpid())); time.sleep(60)\'\n'
        "supervisor.start(Program(name='x', command=[sys.executable, '-S', '-c', inner],\n"
        "    environment={}, ready=lambda: True))\n"
        "supervisor.watch(); supervisor.stop()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)})
    wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    parent.send_signal(number)
    assert parent.wait(timeout=10) == (-9 if number is signal.SIGKILL else 0)
    wait_for(lambda: not is_alive(int(pid_file.read_text())))


def test_one_that_falls_often_waits_no_longer_than_it_is_told(
    tmp_path: Path, said: list[str]
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(3)"
    supervisor = Supervisor(tmp_path, tmp_path, said.append, longest_pause=0.5)
    supervisor.start(program("worker", code))
    watch_until(supervisor, lambda: starts.exists() and len(starts.read_text()) >= 4)
    supervisor.stop()
    assert all("starts again in 0.5 s" in text for text in said)


def test_one_that_is_held_stays_dead_until_it_is_released(
    supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.start(program("valkey", "import time; time.sleep(60)"))
    supervisor.hold("valkey")
    for _ in range(20):
        supervisor.tend()
    assert not supervisor.alive("valkey")
    assert said == []
    supervisor.release("valkey")
    supervisor.tend()
    assert supervisor.alive("valkey")


def test_a_changed_environment_counts_from_the_next_start(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    code = (
        f"import os, time; open({str(seen)!r}, 'a').write(os.environ.get('X', '-')); time.sleep(60)"
    )
    supervisor.start(program("worker", code))
    wait_for(lambda: seen.exists() and seen.read_text() == "-")
    supervisor.program("worker").environment = {"X": "1"}
    os.kill(supervisor.pid("worker"), signal.SIGKILL)
    watch_until(supervisor, lambda: seen.read_text() == "-1")
