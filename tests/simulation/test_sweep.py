"""A few awaits of each flow; `python -m tests.simulation.sweep` cuts every one."""

import pytest

from tests.simulation.sweep import FLOWS, KINDS, Cut


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_that_is_cut_anywhere_ends_known_and_once(flow: str) -> None:
    """Cut in the middle.

    F03, F04, F05, F06, F07.
    """
    whole = Cut(flow, "crash", "worker", 10**6)
    assert whole.run() == []
    for kind in KINDS:
        one = Cut(flow, kind, "worker", whole.points // 3)
        assert one.run() == [], f"{flow} {kind} at {whole.points // 3}"
