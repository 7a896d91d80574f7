"""What the PSP's request log and our append-only tables must show."""

from collections import defaultdict
from typing import TYPE_CHECKING

from app.db import from_micros
from tests.simulation.book import KEYS_KEPT, Logged

if TYPE_CHECKING:
    from tests.simulation.world import World

_AMBIGUOUS = {None, "unknown"}


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
    open_questions: dict[tuple[str, str], str] = {}
    for line in world.book.log:
        if line.kind == "refund":
            continue
        effect = "pay" if line.kind in {"charge", "checkout"} else line.kind
        place = line.payment_id, effect
        other = open_questions.get(place)
        if line.key is not None and other is not None and other != line.attempt_id:
            world.broken("I9", f"{line.attempt_id} was sent while {other} was unknown")
        if line.key is not None and line.answered in _AMBIGUOUS:
            open_questions[place] = line.attempt_id
        elif line.answered not in _AMBIGUOUS and other == line.attempt_id:
            open_questions.pop(place, None)


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
