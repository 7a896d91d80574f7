"""The planted bugs themselves: `python3 -m app test --planted` shows that each one is seen."""

import json

from tests.simulation.planted.__main__ import PLANTS, RULES, SEEDS


def test_each_planted_bug_has_the_rules_that_are_to_see_it_and_a_seed_that_showed_it() -> None:
    assert set(RULES) == set(PLANTS)
    assert set(json.loads(SEEDS.read_text())) == set(PLANTS)
