"""Any history of the API, drawn by Hypothesis and held to a model.

A failing history is made as short as possible and printed step by step. More of them:
`pytest tests/machine --histories 2000`.
"""

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.machine.ending import History
from tests.machine.player import STEPS
from tests.machine.world import opened

NUMBERS = {
    "which": st.integers(0, 63),
    "amount": st.sampled_from([1, 3, 99, 1_000, 4_567, 10_000, 123_456, 999_999_999]),
    "flag": st.integers(0, 1),
    "kind": st.integers(0, 11),
    "n": st.integers(1, 4),
}


def _step(name: str) -> Any:
    """Return the rule that plays a step."""

    def played(machine: "Machine", **numbers: int) -> None:
        machine.play(name, numbers)

    played.__name__ = name
    drawn: dict[str, Any] = {number: NUMBERS[number] for number in STEPS[name]}
    made: Any = rule(**drawn)
    return made(played)


class Machine(RuleBasedStateMachine):
    """Plays one history in a world of its own, on an event loop of its own."""

    kind = ""
    template = ""
    folder = Path()
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.failed = False
        self.history = self.loop.run(self._begin())

    async def _begin(self) -> History:
        return History(
            await self.stack.enter_async_context(opened(self.kind, self.template, self.folder))
        )

    def play(self, name: str, numbers: dict[str, int]) -> None:
        try:
            self.loop.run(self.history.play(name, **numbers))
        except BaseException:
            self.failed = True
            raise

    def teardown(self) -> None:
        try:
            if not self.failed:
                self.loop.run(self.history.end())
        finally:
            self.loop.run(self.stack.aclose())
            self.loop.close()


for _name in STEPS:
    setattr(Machine, _name, _step(_name))


def test_there_are_enough_kinds_of_steps() -> None:
    assert len(STEPS) >= 25


@pytest.mark.timeout(1_800)
def test_any_history_keeps_every_promise(
    database_kind: str, database_template: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """F26, F27, F28, F29, F30, F39, F52, F53, F54, F59, F68."""
    histories = int(pytestconfig.getoption("--histories"))
    machine = type(
        "Machine",
        (Machine,),
        {"kind": database_kind, "template": database_template, "folder": tmp_path},
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
