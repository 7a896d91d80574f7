"""A few awaits of each flow; `python -m tests.simulation.sweep` cuts every one."""

import pytest

from tests.simulation.sweep import FLOWS, KINDS, Cut, places


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_that_is_cut_anywhere_ends_known_and_once(flow: str) -> None:
    """Cut in the middle.

    F03, F04, F05, F06, F07.
    """
    whole = Cut(flow, "crash", "worker", 10**6)
    assert whole.run() == []
    for kind in KINDS:
        nth = whole.points // 3 if kind != "fail" else 5
        one = Cut(flow, kind, "worker", nth)
        assert one.run() == [], f"{flow} {kind} at {nth}"
        assert one.was_cut


def test_a_job_is_cut_off_at_that_very_await() -> None:
    """F07: told to end, a worker would have done most of what it does before it cuts anything."""
    whole = Cut("charge", "cancel", "worker", 0)
    assert whole.run() == []
    of_the_charge = [nth for place, nth in whole.first.items() if place[0] == "payments.charge"]
    for nth in sorted(of_the_charge)[::12]:
        one = Cut("charge", "cancel", "worker", nth)
        assert one.run() == []
        assert one.cut_there


def test_every_commit_of_a_kind_of_job_is_failed_and_followed_by_a_crash() -> None:
    """What a flow has committed when it is cut differs from commit to commit."""
    failing = Cut("charge", "fail", "worker", 0)
    assert failing.run() == []
    kinds = [place[0] for place in failing.world.failing.first if place[-1] == "COMMIT"]
    assert kinds.count("payments.charge") == 5
    assert kinds.count("inbox.apply") == 1
    crashing = Cut("charge", "crash", "worker", 0)
    assert crashing.run() == []
    after = [place[0] for place in crashing.first if place[-1] == "COMMIT"]
    assert after.count("payments.charge") >= 5
    assert len(places("charge", "crash", "worker")) == len(crashing.first)
