"""The plan of a drill is its seed's alone."""

import hashlib
import random
from itertools import pairwise

import pytest

from app.cli.drill import plan
from app.cli.drill.plan import LINKS, PROCESSES, Fault, draw
from app.failpoints import PLACES, WEB_PLACES, WORKER_PLACES, parse
from app.webhooks.schedule import DELAYS


def drawn(seed: int, *, postgres: bool = True) -> list[tuple[Fault, ...]]:
    return draw(seed, sizes=[20] * 5, lease=4.0, postgres=postgres)


def test_the_same_seed_plans_the_same_faults_and_another_seed_others() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_a_plan_takes_no_chance_from_elsewhere() -> None:
    random.seed(1)
    first = drawn(7)
    random.seed(2)
    assert drawn(7) == first


@pytest.mark.parametrize("postgres", [True, False])
def test_each_round_spoils_the_lines_of_events_and_webhooks_once(postgres: bool) -> None:
    """F49: once, and shorter than a message waits for its second try."""
    for seed in range(20):
        for faults in drawn(seed, postgres=postgres):
            told = [fault for fault in faults if fault.target in {"psp-api", "worker-shop"}]
            assert [fault.target for fault in told] == ["psp-api", "worker-shop"]
            assert all(fault.seconds < DELAYS[0] for fault in told)


def test_faults_of_events_and_webhooks_change_no_other_fault_of_a_seed() -> None:
    """They have dice of their own, so that a seed plans the others as it would without them."""
    sentences = [fault.sentence() for faults in drawn(7) for fault in faults[:-2]]
    told = hashlib.sha256("\n".join(sentences).encode()).hexdigest()
    assert told.startswith("f92e73c60b7c")


@pytest.mark.parametrize("postgres", [True, False])
@pytest.mark.parametrize("places", [WEB_PLACES, WORKER_PLACES])
def test_no_named_place_comes_again_before_the_others_came(
    postgres: bool, places: tuple[str, ...]
) -> None:
    for seed in range(20):
        faults = [fault for faults in drawn(seed, postgres=postgres) for fault in faults]
        times = [sum(fault.place == place for fault in faults) for place in places]
        assert max(times) - min(times) <= 1


@pytest.mark.parametrize("postgres", [True, False])
def test_the_seed_that_each_run_plays_comes_by_every_named_place(postgres: bool) -> None:
    faults = [fault for faults in drawn(1, postgres=postgres) for fault in faults]
    assert {fault.place for fault in faults} - {None} == PLACES


@pytest.mark.parametrize("seed", range(20))
def test_every_round_has_the_signals_that_were_asked_for(seed: int) -> None:
    for faults in drawn(seed):
        assert sum(fault.kills for fault in faults) == 20


@pytest.mark.parametrize("postgres", [True, False])
def test_every_target_and_every_place_comes_up_and_none_that_is_not_there(postgres: bool) -> None:
    faults = [f for seed in range(40) for faults in drawn(seed, postgres=postgres) for f in faults]
    targets = {fault.target for fault in faults}
    missing = set() if postgres else {"postgres", "worker-2", "api-database", "worker-database"}
    assert targets == ({*PROCESSES, *LINKS, "valkey-data"} - missing)
    assert {fault.place for fault in faults} - {None} == PLACES
    assert {"kill", "term", "stop", "block", "flush"} < {fault.how for fault in faults}


def test_every_failpoint_of_a_plan_is_one_that_settings_take() -> None:
    for seed in range(20):
        for fault in (fault for faults in drawn(seed) for fault in faults):
            if fault.spec is not None:
                assert parse(fault.spec) == (fault.place, fault.how, fault.nth)


def test_some_processes_sleep_longer_than_their_lease() -> None:
    """F08: only then has somebody else taken a zombie's work."""
    stops = [f.seconds for seed in range(9) for fs in drawn(seed) for f in fs if f.how == "stop"]
    assert max(stops) > 4.0
    assert min(stops) < 4.0


def test_a_failpoint_follows_only_a_life_that_has_ended() -> None:
    for seed in range(30):
        for faults in drawn(seed):
            lanes: dict[str, list[Fault]] = {}
            for fault in faults:
                lanes.setdefault(fault.target, []).append(fault)
            for lane in lanes.values():
                for before, after in pairwise(lane):
                    assert after.place is None or before.how in {"kill", "term"}


def test_every_weather_has_a_sentence_and_a_cut_names_its_byte() -> None:
    for how, weather in plan._WEATHERS.items():
        fault = Fault(target="worker-psp", how=how, gap=0.0, seconds=1.0, cut_after=17)
        assert how in fault.sentence()
        assert fault.weather.cuts == weather.cuts
        assert fault.weather.cut_after == 17
