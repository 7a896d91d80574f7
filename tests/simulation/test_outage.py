"""A short time without the PSP; `python -m tests.simulation.outage` plays an hour with 10,000."""

import pytest

from tests.simulation.outage import MODES, Outage, told


@pytest.mark.parametrize("mode", MODES)
def test_after_an_outage_all_is_final_soon_and_the_psp_is_not_overrun(mode: str) -> None:
    """F19: all payments end, what was unknown is known, no second sees more than the limit."""
    one = Outage(1, payments=40, unknown=25, mode=mode, seconds=600)
    seen = one.measure()
    lines, bad = told(seen)
    assert bad == [], "\n".join(lines)
    assert seen.payments == 65
    assert seen.unknown >= 25
    assert seen.asked_meanwhile < 250
    assert 0 < seen.final_after < 120
