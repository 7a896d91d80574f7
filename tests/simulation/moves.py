"""Attempts keep to their graph in every history, also where a transaction is rolled back later."""

from typing import Any

from sqlalchemy import event

from app.payments.models import Attempt
from app.payments.states import ATTEMPT_MOVES, may_move
from tests.simulation.loop import OWNER
from tests.simulation.process import Process


@event.listens_for(Attempt.state, "set")
def moved(attempt: Attempt, new: str, old: Any, _initiator: object) -> None:
    """Hold a move of an attempt against the graph."""
    owner = OWNER.get()
    if (
        isinstance(owner, Process)
        and isinstance(old, str)
        and not may_move(ATTEMPT_MOVES, old, new)
    ):
        owner.world.broken("I6", f"{attempt.kind} {attempt.id} went from {old} to {new}")
