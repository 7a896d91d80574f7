"""What the PSP's request log and our append-only tables must show."""

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from app.db import from_micros
from tests.simulation.book import KEYS_KEPT, Logged

if TYPE_CHECKING:
    from tests.simulation.world import World

_AMBIGUOUS = {None, "unknown"}
_NO_WORD = {"busy", "rejected", "not_sent"}
# Five minutes from its note; a process may stand still for one before it asks, and clocks differ.
_ARRIVES_WITHIN = timedelta(minutes=3, seconds=45)


def no_blind_retry(world: "World") -> None:
    """I9: one key and one form for each step of an attempt, inside the PSP's window only.

    And no second attempt at what an earlier one may have done: a new key comes only after the
    PSP's own word about the old one.
    """
    steps: dict[tuple[str, str], list[Logged]] = defaultdict(list)
    for line in world.book.log:
        if line.key is not None and line.step != "close":
            steps[line.attempt_id, line.step].append(line)
    for (attempt, step), lines in steps.items():
        if len({line.key for line in lines}) > 1:
            world.broken("I9", f"{attempt} {step} was sent under {len(lines)} keys")
        if len({line.parameters for line in lines}) > 1:
            world.broken("I9", f"{attempt} {step} was sent with other parameters")
        if lines[-1].at - lines[0].at > KEYS_KEPT and any(
            line.answered in _AMBIGUOUS for line in lines[:-1]
        ):
            world.broken("I9", f"{attempt} {step} was sent again after its key's window")
    _one_attempt_at_a_time(world)


def _one_attempt_at_a_time(world: "World") -> None:
    """Look for a mutation while another attempt for the same effect is an open question."""
    refunds = dict(world.rows("SELECT id, refund_id FROM attempts WHERE refund_id IS NOT NULL"))
    open_questions: dict[tuple[str, str], Logged] = {}
    for line in world.book.log:
        effect = "pay" if line.kind in {"charge", "checkout"} else line.kind
        place = refunds.get(line.attempt_id, line.payment_id), effect
        other = open_questions.get(place)
        ours = other is not None and other.attempt_id == line.attempt_id
        if line.key is not None and other is not None and not ours:
            world.broken("I9", f"{line.attempt_id} was sent while {other.attempt_id} was unknown")
        if line.key is not None and line.answered in _AMBIGUOUS:
            open_questions[place] = line
        elif other is not None and ours and _settles(line, other):
            del open_questions[place]


def _settles(line: Logged, question: Logged) -> bool:
    """Tell whether an answer says what became of a request that nobody answered.

    What refuses a second try (`busy`, `rejected`, `not_sent`) says nothing of the first one; what
    is not to be seen may still arrive for some minutes.
    """
    if line.answered in {"not_found", "next"}:
        return line.at - question.at >= _ARRIVES_WITHIN
    return line.answered not in _AMBIGUOUS | _NO_WORD


def reserved_before_sent(world: "World") -> None:
    """I14: the PSP hears of a refund only after the ledger has accepted its reserve."""
    query = (
        "SELECT a.id, p.status, p.answered_at FROM attempts a LEFT JOIN postings p "
        "ON p.key = 'refund_reserve:' || a.refund_id WHERE a.kind = 'refund'"
    )
    reserved = {row[0]: row[1:] for row in world.rows(query)}
    for line in world.book.log:
        if line.kind != "refund" or line.key is None:
            continue
        status, at = reserved.get(line.attempt_id, (None, None))
        # Two processes' clocks differ by a few seconds.
        if status != "accepted" or (from_micros(at) - line.at).total_seconds() > 5:
            world.broken("I14", f"{line.attempt_id} was sent before its reserve was accepted")


def ledger_refuses_changes(world: "World") -> None:
    """I15, its append-only half: the database itself refuses to change what is recorded."""
    for process in list(world.processes):
        process.crash("as the history is over")  # Nobody holds a lock any more.
    for table, column in (("entries", "debit"), ("audit_rows", "action")):
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            if not world.rows(f"SELECT 1 FROM {table} LIMIT 1"):
                continue
            if not world.store.refuses(statement):
                world.broken("I15", f"the database let this pass: {statement}")
