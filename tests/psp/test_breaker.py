"""The breaker's decisions, pace and budget, as tables and as a life in virtual time."""

from collections import Counter
from itertools import pairwise

import pytest

from app.psp.breaker import FIRST, IN_A_ROW, LONGEST, LONGEST_LOOKUP, PROBE, Breaker, Outcome, Seen
from app.psp.gate_rows import Report, hand_out
from app.psp.pace import RETRY_FLOOR, RETRY_MOST, Budget, Pace

OK: Outcome = "ok"
FAILED: Outcome = "failed"
NOT_SENT: Outcome = "not_sent"
REFUSED: Outcome = "refused"


def seen(*outcomes: Outcome) -> Seen:
    made = Seen()
    for outcome in outcomes:
        made.add(outcome, outcome)
    return made


def take(breaker: Breaker, now: float, *outcomes: Outcome) -> Breaker:
    breaker.take_in(seen(*outcomes), now, era=breaker.era, jitter=max)
    return breaker


def state_of(breaker: Breaker) -> str:
    return breaker.state


TABLE: list[tuple[str, list[tuple[float, list[Outcome]]], str]] = [
    ("half of twenty fail", [(0, [OK, FAILED] * 10)], "open"),
    ("half of nineteen fail", [(0, [OK, FAILED] * 9 + [FAILED])], "closed"),
    ("less than half fail", [(0, [OK, OK, FAILED] * 10)], "closed"),
    ("spread over ten seconds", [(s, [OK, FAILED]) for s in range(10)], "open"),
    ("spread over more", [(s * 2, [OK, FAILED]) for s in range(10)], "closed"),
    ("five in a row never left us", [(0, [NOT_SENT] * 5)], "open"),
    ("five in a row, reported one by one", [(s * 60, [NOT_SENT]) for s in range(5)], "open"),
    ("four in a row", [(0, [NOT_SENT] * 4)], "closed"),
    ("an answer in between", [(0, [NOT_SENT] * 4), (1, [OK]), (2, [NOT_SENT] * 4)], "closed"),
    ("an answer in one report", [(0, [NOT_SENT] * 4), (1, [OK, NOT_SENT])], "closed"),
    ("the credential is refused once", [(0, [OK] * 30 + [REFUSED])], "open"),
    ("all is well", [(s, [OK] * 50) for s in range(20)], "closed"),
]


@pytest.mark.parametrize(
    ("reports", "state"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_a_breaker_opens_when_it_should(
    reports: list[tuple[float, list[Outcome]]], state: str
) -> None:
    """F18, F25, F51."""
    breaker = Breaker()
    for now, outcomes in reports:
        take(breaker, 1_000_000.0 + now, *outcomes)
    assert state_of(breaker) == state


def test_the_wait_doubles_from_five_seconds_to_a_minute_and_starts_again_when_it_held() -> None:
    breaker, now, waits = Breaker(), 100.0, []
    take(breaker, now, *[NOT_SENT] * IN_A_ROW)
    for _ in range(6):
        waits.append(breaker.wait(now))
        assert not breaker.probe(breaker.until - 0.001)
        now = breaker.until
        assert breaker.probe(now)
        take(breaker, now, FAILED)
        assert state_of(breaker) == "open"
    assert waits == [FIRST, 10.0, 20.0, 40.0, LONGEST, LONGEST]
    now = breaker.until
    assert breaker.probe(now)
    take(breaker, now, OK)
    breaker.settle(now + 60, 100)
    assert (breaker.state, breaker.opened) == ("closed", 0)
    take(breaker, now + 61, *[NOT_SENT] * IN_A_ROW)
    assert breaker.wait(now + 61) == FIRST


def test_look_ups_are_probed_more_often() -> None:
    """F19: what is unknown is known within a minute of the PSP's return."""
    breaker, now, waits = Breaker(longest=LONGEST_LOOKUP), 100.0, []
    take(breaker, now, *[NOT_SENT] * IN_A_ROW)
    for _ in range(4):
        waits.append(breaker.wait(now))
        now = breaker.until
        assert breaker.probe(now)
        take(breaker, now, FAILED)
    assert waits == [FIRST, 10.0, LONGEST_LOOKUP, LONGEST_LOOKUP]


def test_a_refused_credential_waits_for_a_minute_at_once_and_says_so() -> None:
    """F25."""
    breaker = take(Breaker(), 0.0, REFUSED)
    assert breaker.wait(0.0) == LONGEST
    assert "credential" in breaker.reason


def test_one_probe_is_out_at_a_time_and_a_lost_one_is_replaced() -> None:
    breaker = take(Breaker(), 0.0, *[NOT_SENT] * IN_A_ROW)
    assert breaker.probe(5.0)
    assert not breaker.probe(5.0)
    assert not breaker.probe(5.0 + PROBE - 1)
    assert breaker.probe(5.0 + PROBE)


def test_calls_of_an_earlier_era_say_nothing() -> None:
    """Thirty slow calls that were out when it opened do not end the probe's era."""
    breaker = take(Breaker(), 0.0, *[FAILED] * 20)
    early = 0
    assert breaker.probe(5.0)
    breaker.take_in(seen(*[FAILED] * 12), 6.0, era=early, jitter=max)
    assert state_of(breaker) == "half_open"
    breaker.take_in(seen(OK), 6.0, era=breaker.era, jitter=max)
    assert state_of(breaker) == "ramp"
    breaker.take_in(seen(*[FAILED] * 12), 7.0, era=early, jitter=max)
    assert state_of(breaker) == "ramp"


def test_the_ramp_doubles_each_second_up_to_the_limit_and_a_second_fall_is_noticed() -> None:
    breaker = take(Breaker(), 0.0, *[NOT_SENT] * IN_A_ROW)
    breaker.probe(5.0)
    take(breaker, 6.0, OK)
    assert [breaker.rate(6.0 + s, 100.0) for s in range(8)] == [1, 2, 4, 8, 16, 32, 64, 100]
    breaker.settle(12.0, 100.0)
    assert state_of(breaker) == "ramp"
    take(breaker, 8.0, OK, FAILED, FAILED)
    assert state_of(breaker) == "open"


def test_two_reports_are_one_report() -> None:
    rows: list[list[Outcome]] = [[NOT_SENT] * 3, [NOT_SENT] * 2, [OK, NOT_SENT], [REFUSED], []]
    for first in rows:
        for later in rows:
            assert seen(*first).then(seen(*later)) == seen(*first, *later)


def test_starting_times_are_never_closer_than_the_rate_allows() -> None:
    pace, now = Pace(), 50.0
    times = []
    for step in range(200):
        times += pace.reserve(now + step * 0.01, rate=100.0, want=3, within=1.0)
    assert all(later - earlier > 0.0099 for earlier, later in pairwise(times))
    assert len(times) >= 200
    assert pace.reserve(10.0, rate=100.0, want=5, within=1.0) == []


def test_calls_that_nobody_asked_for_first_push_the_others_back() -> None:
    pace = Pace()
    pace.spent(9.0, rate=10.0, count=20)
    assert pace.reserve(10.0, rate=10.0, want=1, within=2.0) == [11.0]


def test_retries_are_a_tenth_of_first_tries_and_a_quiet_system_still_retries() -> None:
    budget = Budget(tokens=0.0, at=100.0)
    budget.move(100.0, firsts=1000, retries=0)
    assert budget.tokens == RETRY_MOST
    budget.move(100.0, firsts=0, retries=int(RETRY_MOST))
    budget.move(101.0, firsts=50, retries=0)
    assert budget.tokens == RETRY_FLOOR + 5
    budget.move(90.0, firsts=0, retries=0)  # A clock set back earns nothing and takes nothing.
    assert budget.tokens == RETRY_FLOOR + 5


class World:
    """Workers of several processes, a PSP that is away for an hour, and one breaker, virtually."""

    RATE, ROUND_TRIP, PROCESSES = 100.0, 0.2, 4

    def __init__(self, waiting: int) -> None:
        self.now = 1_000_000.0
        self.waiting = waiting
        self.final = 0
        self.breaker, self.pace = Breaker(), Pace()
        self.arrivals: Counter[int] = Counter()
        self.ending: list[tuple[float, Outcome, int]] = []

    def step(self, *, away: bool, seconds: float) -> None:
        self._end(self.now)
        self.breaker.settle(self.now, self.RATE)
        for _ in range(self.PROCESSES):
            for start in self._starts():
                self.waiting -= 1
                self.arrivals[int(start)] += 1
                outcome: Outcome = "not_sent" if away else "ok"
                self.ending.append((start + self.ROUND_TRIP, outcome, self.breaker.era))
        self.now += seconds

    def _starts(self) -> list[float]:
        report = Report("one", want={"charge": min(32, self.waiting)} if self.waiting else {})
        breakers = {"charge": self.breaker}
        made = hand_out(breakers, self.pace, report, self.now, self.RATE)
        return [start for starts in made.values() for start in starts]

    def _end(self, now: float) -> None:
        done = [one for one in self.ending if one[0] <= now]
        self.ending = [one for one in self.ending if one[0] > now]
        for _, outcome, era in done:
            self.final += outcome == "ok"
            self.waiting += outcome != "ok"
            self.breaker.take_in(seen(outcome), now, era=era, jitter=max)


def test_ten_thousand_wait_out_an_hour_and_come_back_within_the_limit() -> None:
    """F19: all are final, and no second sees more than the limit and a fifth."""
    world = World(10_000)
    began = world.now
    while world.now < began + 3600:
        world.step(away=True, seconds=0.25)
    tried = sum(world.arrivals.values())
    assert tried < 250  # An hour of probes, not of attacks.
    returned = world.now
    while world.final < 10_000 and world.now < returned + 600:
        world.step(away=False, seconds=0.25)
    assert world.final == 10_000
    assert max(world.arrivals.values()) <= world.RATE * 1.2
    assert world.now - returned < LONGEST + 10_000 / world.RATE + 15
