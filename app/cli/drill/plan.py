"""What will go wrong: drawn from a seed alone, so that the same seed plans the same faults."""

import random
from collections.abc import Sequence

import msgspec

from app.cli.drill.proxy import Weather
from app.failpoints import WEB_PLACES, WORKER_PLACES

WORKERS = ("worker-1", "worker-2")
PROCESSES = ("worker-1", "web", "worker-2", "valkey", "postgres", "sandbox")
_ASKING = (
    "shop-api",
    "worker-psp",
    "worker-valkey",
    "api-valkey",
    "worker-database",
    "api-database",
)
# What is told: the PSP's events to us, and ours to the shop.
_TELLING = ("psp-api", "worker-shop")
LINKS = (*_ASKING, *_TELLING)
_SHARES = {"web": 5, "worker-1": 6, "worker-2": 5, "valkey": 2, "postgres": 2, "sandbox": 2}
_WEATHERS: dict[str, Weather] = {
    "refused": Weather(refused=True),
    "cut at a byte, asking": Weather(cuts="up"),
    "cut at a byte, answering": Weather(cuts="down"),
    "blackhole, asking": Weather(holds=frozenset({"up"})),
    "blackhole, answering": Weather(holds=frozenset({"down"})),
    "500 ms, give or take 500": Weather(latency=0.5, jitter=0.5),
    "64-byte slices": Weather(slices=64),
    "10 kB a second": Weather(bytes_a_second=10_000, slices=1024),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. `gap` is how long the target works before it, `seconds` how long it lasts.

    `how`: kill, term, stop (and go on), block (the event loop), flush, or a weather's name.
    `place` names a failpoint (`nth` hit); without one it strikes whenever `gap` is over.
    """

    target: str
    how: str
    gap: float
    seconds: float = 0.0
    place: str | None = None
    nth: int = 1
    cut_after: int = 0

    @property
    def spec(self) -> str | None:
        """The failpoint as FAILPOINT takes it, or None."""
        return None if self.place is None else f"{self.place}:{self.how}:{self.nth}"

    @property
    def kills(self) -> bool:
        """Whether a process is hit by a signal; the others are faults of lines and of data."""
        return self.target in PROCESSES

    @property
    def weather(self) -> Weather:
        """The weather of a line's fault."""
        return msgspec.structs.replace(_WEATHERS[self.how], cut_after=self.cut_after)

    def sentence(self) -> str:
        """Say it in a few words: for the report, and for comparing two plans."""
        where = f" at {self.place} ({self.nth})" if self.place else ""
        after = f" after {self.cut_after} bytes" if self.cut_after else ""
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.target}: {self.how}{where}{after}{lasts}"


def draw(
    seed: int, *, sizes: Sequence[int], lease: float, postgres: bool
) -> list[tuple[Fault, ...]]:
    """Return the faults of each round: so many signals, and faults of lines beside them.

    `lease` in seconds decides how long a process is stopped: some wake after theirs ran out.
    """
    rounds = []
    decks = _Decks(random.Random(f"{seed}:places"))
    for number, kills in enumerate(sizes, 1):
        faults = _round(random.Random(f"{seed}:{number}"), decks, kills, lease, postgres=postgres)
        # With dice of their own: the others fall as they did when these lines had no faults.
        told = _told(random.Random(f"{seed}:{number}:told"))
        rounds.append((*faults, *told))
    return rounds


class _Decks:
    """Named places in an order of chance, each one before any comes again."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._left: dict[Sequence[str], list[str]] = {}

    def draw(self, places: Sequence[str]) -> str:
        left = self._left.setdefault(places, [])
        if not left:
            left += self._chance.sample(places, len(places))
        return left.pop()


def _round(
    chance: random.Random, decks: _Decks, kills: int, lease: float, *, postgres: bool
) -> tuple[Fault, ...]:
    # A swarm: each round leaves some kinds out, because faults that are always on hide others.
    others = [n for n in PROCESSES[1:] if postgres or n not in {"postgres", "worker-2"}]
    chosen = ["worker-1", *chance.sample(others, chance.randint(3, len(others)))]
    weights = [_SHARES[name] for name in chosen]
    targets = chance.choices(chosen, weights, k=kills)
    faults: list[Fault] = []
    placed: dict[str, bool] = {}
    for target in targets:
        # A failpoint is armed as a process starts, so only one that ended the life before leads
        # to another.
        fault = _kill(chance, decks, target, lease, after_life=placed.get(target, False))
        placed[target] = fault.how in {"kill", "term"}
        faults.append(fault)
    faults += _lines(chance, max(1, kills // 4), postgres=postgres)
    return tuple(faults)


def _kill(
    chance: random.Random, decks: _Decks, target: str, lease: float, *, after_life: bool
) -> Fault:
    gap = round(chance.uniform(0.2, 1.5), 2)
    places: Sequence[str] = ()
    if target == "web":
        places = WEB_PLACES
    elif target in WORKERS:
        places = WORKER_PLACES
    how = chance.choices(("kill", "term", "stop"), (6, 2, 2))[0]
    seconds = 0.0
    if how == "stop":
        # Half of them are zombies: another one has taken their work when they wake.
        seconds = round(chance.choice((0.5, lease * 1.5 + 1.0)), 2)
    if places and after_life and chance.random() < 0.6:
        place = decks.draw(places)
        if how == "stop" and chance.random() < 0.2:
            return Fault(target=target, how="block", gap=gap, place=place, seconds=10.0)
        return Fault(
            target=target, how=how, gap=gap, seconds=seconds, place=place, nth=chance.randint(1, 6)
        )
    return Fault(target=target, how=how, gap=gap, seconds=seconds)


def _lines(chance: random.Random, count: int, *, postgres: bool) -> list[Fault]:
    links = [name for name in _ASKING if postgres or not name.endswith("database")]
    kinds = chance.sample(sorted(_WEATHERS), 5)
    faults = [Fault(target="valkey-data", how="flush", gap=round(chance.uniform(0.5, 6.0), 2))]
    for _ in range(count):
        how = chance.choice(kinds)
        faults.append(_weather(chance, chance.choice(links), how))
    return faults


def _told(chance: random.Random) -> list[Fault]:
    """Return one fault for each line on which we or the shop are told something.

    One a round and no longer than a message's second try is away: the third is minutes later.
    """
    return [_weather(chance, link, chance.choice(sorted(_WEATHERS))) for link in _TELLING]


def _weather(chance: random.Random, link: str, how: str) -> Fault:
    return Fault(
        target=link,
        how=how,
        gap=round(chance.uniform(0.5, 3.0), 2),
        seconds=round(chance.uniform(0.5, 2.5), 2),
        cut_after=chance.randint(1, 1500) if how.startswith("cut") else 0,
    )
