"""Carrying out a round's faults: one lane a target, all lanes at once."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from time import monotonic

import msgspec

from app.cli.drill.house import House
from app.cli.drill.plan import WORKERS, Fault
from app.cli.drill.proxy import FAIR

_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
_READY_SECONDS = 60.0
_PLACE_SECONDS = 6.0  # So long a failpoint may wait for work to come by.
_END_SECONDS = 12.0
_TICK = 0.05
_WITH_PLACES = {"web", *WORKERS}


class Struck(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that happened; `seconds` until the process worked again, if it is one."""

    fault: Fault
    placed: bool
    seconds: float | None = None


async def strike(house: House, faults: Sequence[Fault], say: Callable[[str], None]) -> list[Struck]:
    """Let the faults happen; return those that did, once everything works again.

    Raises TimeoutError when a process does not come back.
    """
    lanes: dict[str, list[Fault]] = {}
    for fault in faults:
        lanes.setdefault(fault.target, []).append(fault)
    done = Noted(say)
    try:
        async with asyncio.TaskGroup() as group:
            for target, own in lanes.items():
                lane = _kills if own[0].kills else _troubles
                group.create_task(lane(house, target, own, done))
    except* TimeoutError as late:
        raise TimeoutError("; ".join(str(one) for one in late.exceptions)) from late
    finally:
        for link in house.links:
            house.weather(link, FAIR)
    for target in lanes:
        if lanes[target][0].kills:
            await until_ready(house, target)
    return done.struck


class Noted:
    """Notes the faults that happened and tells each of them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.struck: list[Struck] = []

    def note(self, fault: Fault, *, placed: bool = False, seconds: float | None = None) -> None:
        """Note a fault that has happened."""
        self.struck.append(Struck(fault=fault, placed=placed, seconds=seconds))
        back = f", back after {seconds:.1f} s" if seconds is not None else ""
        self._say(f"  {fault.sentence()}{back}")


async def until_ready(house: House, name: str) -> float:
    """Wait until a process works; return the seconds. Raises TimeoutError."""
    began = monotonic()
    while not await house.ready(name):
        if monotonic() - began > _READY_SECONDS:
            raise TimeoutError(_missing(house, name))
        await asyncio.sleep(_TICK * 2)
    return monotonic() - began


def _missing(house: House, name: str) -> str:
    log = house.folder / "logs" / f"{name}.log"
    said = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
    words = " / ".join(line[:300] for line in said)
    return f"{name} did not come back within {_READY_SECONDS:.0f} s; its last words: {words}"


async def _troubles(house: House, target: str, faults: list[Fault], done: Noted) -> None:
    """Faults of one line, or of the data in Valkey."""
    for fault in faults:
        await asyncio.sleep(fault.gap)
        if fault.how == "flush":
            await house.flush()
        else:
            house.weather(target, fault.weather)
            await asyncio.sleep(fault.seconds)
            house.weather(target, FAIR)
        done.note(fault)


async def _kills(house: House, target: str, faults: list[Fault], done: Noted) -> None:
    """Signals to one process, one after the other, each when it works again."""
    armed = False
    for index, fault in enumerate(faults):
        hit: int | None = None
        if armed:
            hit = await _happens(house, target, fault)
        else:
            await until_ready(house, target)
            await asyncio.sleep(fault.gap)
        began, placed = monotonic(), hit is not None
        if hit is None:
            hit = house.pid(target)
            house.signal(target, _SIGNALS.get(fault.how, signal.SIGSTOP))
        ended = await _ended(house, target, fault, hit)
        following = faults[index + 1].spec if index + 1 < len(faults) else None
        armed = ended and following is not None
        if ended and target in _WITH_PLACES:
            house.arm(target, following)
        seconds = None
        if not armed:
            await until_ready(house, target)
            seconds = round(monotonic() - began, 3)
        done.note(fault, placed=placed, seconds=seconds)


async def _happens(house: House, target: str, fault: Fault) -> int | None:
    """Wait until a failpoint has struck by itself; return the process that it struck.

    None: no work came by. Another process may have taken its place already.
    """
    begun: float | None = None
    ends = monotonic() + _READY_SECONDS
    while monotonic() < ends:
        pid = house.pid(target)
        if begun is None and await house.ready(target):
            begun = monotonic()
        await asyncio.sleep(_TICK)
        if house.fired(target, fault.spec or ""):
            return pid
        if begun is not None and monotonic() - begun > _PLACE_SECONDS:
            return None
    raise TimeoutError(_missing(house, target))


async def _ended(house: House, target: str, fault: Fault, pid: int) -> bool:
    """See a fault to its end; tell whether the process is gone and another one follows."""
    if fault.how in {"stop", "block"}:
        await asyncio.sleep(fault.seconds)
        house.signal(target, signal.SIGCONT)
        return False
    await gone(house, target, pid)
    return True


async def restart(house: House) -> None:
    """End web server and workers in good order and wait until the next ones work."""

    async def one(name: str) -> None:
        pid = house.pid(name)
        house.signal(name, signal.SIGTERM)
        await gone(house, name, pid)
        house.arm(name, None)  # Also takes away the word of the one before that it is ready.
        await until_ready(house, name)

    await asyncio.gather(*[one(name) for name in ("web", *house.workers)])


async def gone(house: House, target: str, pid: int) -> None:
    """Wait until a process has ended; one that does not is killed.

    By its id: what takes its place may be there before anybody has seen it gone.
    """
    ends = monotonic() + _END_SECONDS
    while True:
        if not house.alive(target) or house.pid(target) != pid:
            return
        if monotonic() > ends:
            house.signal(target, signal.SIGKILL)
        await asyncio.sleep(_TICK / 2)
