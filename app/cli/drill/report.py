"""What a drill found, in a form for people in a terminal and for machines."""

import importlib.metadata
import math
import platform
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import ceil

import msgspec

from app.cli.drill.checks import Violation
from app.cli.drill.strike import Struck

HARMS = {
    "lost": "lost",
    "twice": "charged or done twice",
    "invented": "invented",
    "unresolved": "unresolved",
    "contradicted": "contradictions",
    "blind": "blind retries",
    "fault": "faults of ours",
    "ledger": "ledger errors",
}


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one kind of recovery, and the limit that it is held to, if there is one."""

    kind: str
    count: int
    median: float
    p99: float
    longest: float
    limit: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the limit holds at p99."""
        return self.limit is None or self.p99 <= self.limit


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """How acceptance went with Valkey and the PSP both down: requests, yeses, and the rate.

    `told`: what the API said about the accepted meanwhile, by status; `ended`: and at the end of
    all; `untrue`: what of it cannot be, or must not.
    """

    seconds: float
    rate: float
    asked: int
    accepted: int
    told: dict[str, int]
    ended: dict[str, int] = {}
    untrue: list[str] = []

    @property
    def share(self) -> float:
        """The share that was accepted."""
        return self.accepted / self.asked if self.asked else 0.0

    @property
    def holds(self) -> bool:
        """Whether 99.99 % were accepted (of few, all), and nothing untrue was said."""
        enough = self.asked > 0 and self.asked - self.accepted <= self.asked // 10_000
        return enough and not self.untrue


class Report(msgspec.Struct, kw_only=True):
    """One drill."""

    seed: int
    command: str
    note: str
    database: str
    versions: dict[str, str]
    seconds: float
    rounds: int
    planned: list[str]
    kills: int
    placed: int
    faults: dict[str, int]
    orders: int
    accepted: int
    on_page: int  # Paid by a customer on the PSP's own page.
    requests: int
    unanswered: int
    webhooks: int
    ledger: str
    recovery: list[Times]
    outage: Outage | None
    violations: list[Violation]

    @property
    def holds(self) -> bool:
        """Whether nothing was violated and every limit held."""
        times = all(one.holds for one in self.recovery)
        return not self.violations and times and (self.outage is None or self.outage.holds)

    def count(self, harm: str) -> int:
        """Return how many violations did this kind of harm."""
        return sum(1 for one in self.violations if one.harm == harm)


def times(kind: str, seconds: Sequence[float], limit: float | None = None) -> Times:
    """Return median, p99 and longest of some seconds, by nearest rank."""
    ordered = sorted(seconds) or [math.inf]  # Nothing measured holds no limit.

    def rank(share: float) -> float:
        return round(ordered[max(0, ceil(share * len(ordered)) - 1)], 2)

    return Times(
        kind=kind,
        count=len(seconds),
        median=rank(0.5),
        p99=rank(0.99),
        longest=rank(1.0),
        limit=limit,
    )


def restarts(struck: Sequence[Struck]) -> list[Times]:
    """Return how long each kind of process took to work again after it was ended."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in struck:
        if one.seconds is not None and one.fault.how in {"kill", "term"}:
            found[one.fault.target.partition("-")[0]].append(one.seconds)
    return [times(f"{name} ended → works again", found[name]) for name in sorted(found)]


def counted(struck: Sequence[Struck]) -> dict[str, int]:
    """Return how often each kind of fault happened."""
    kinds = Counter(f"{one.fault.target}: {one.fault.how}" for one in struck)
    return dict(sorted(kinds.items()))


def versions(database: str) -> dict[str, str]:
    """Return what was drilled: our version, Python's, and those of the libraries that matter."""
    names = ("counterfoil", "litestar", "sqlalchemy", "asyncpg", "aiosqlite", "arq", "stripe")
    found = {"python": platform.python_version(), "database": database}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def lines(report: Report) -> list[str]:
    """Return the report for a terminal."""
    faults = f"{sum(report.faults.values())} ({report.kills} of processes, {report.placed} placed)"
    made = [
        "",
        f"Drill with seed {report.seed} on {report.database}, {report.seconds:.0f} s",
        "",
        f"  faults injected        {faults}",
        f"  orders                 {report.orders}",
        f"  payments accepted      {report.accepted}",
        f"  paid on the PSP's page {report.on_page}",
        f"  no answer to           {report.unanswered} of {report.requests} requests",
        f"  webhooks taken         {report.webhooks}",
    ]
    made += [f"  {text:<22} {report.count(harm)}" for harm, text in HARMS.items()]
    if report.recovery:
        made += ["", f"  {'recovery, seconds':<42} {'count':>5} {'p50':>6} {'p99':>6} {'max':>6}"]
    for one in report.recovery:
        limit = f"  limit {one.limit:g}: {'holds' if one.holds else 'BROKEN'}" if one.limit else ""
        made.append(
            f"  {one.kind:<42} {one.count:>5} {one.median:>6.2f} {one.p99:>6.2f}"
            f" {one.longest:>6.2f}{limit}"
        )
    if report.outage is not None:
        made += ["", f"  {outage_sentence(report.outage)}"]
        made += [f"  UNTRUE {one}" for one in report.outage.untrue]
    made += ["", f"  {report.ledger}", ""]
    made += [f"  VIOLATION {one.sentence()}" for one in report.violations]
    made.append(f"{verdict(report)} Again: {report.command}")
    return [*made, *([report.note] if report.note else [])]


def verdict(report: Report) -> str:
    """Return the verdict as a sentence."""
    if report.holds:
        return "Nothing was lost, and nothing was done twice."
    return "It does not hold."


def outage_sentence(out: Outage) -> str:
    """Say how acceptance went with Valkey and the PSP both down."""

    def words(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in sorted(counts.items()))

    return (
        f"Valkey and the PSP both down for {out.seconds:.0f} s at {out.rate:.0f} orders a second: "
        f"{out.accepted} of {out.asked} accepted ({out.share:.2%}); told meanwhile as: "
        f"{words(out.told) or 'nothing'}; at the end: {words(out.ended) or 'unknown'}."
    )
