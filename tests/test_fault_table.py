"""The faults that must be survived, each named by some test that is about it.

A name is no proof: what a test shows, its assertions say, and a history meets a part of what it
names.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAULTS = {
    "F01": "API killed before it commits: nothing exists, the same key then makes one",
    "F02": "API killed after the commit, before its answer: the replay tells the same id",
    "F03": "worker killed before its call to the PSP: taken up again, one charge",
    "F04": "worker killed in the middle of a call: unknown, then found out, never sent blindly",
    "F05": "worker killed after the PSP's yes, before its commit: the books agree afterwards",
    "F06": "worker killed after its commit: run again, the job does nothing",
    "F07": "stopped or cancelled at any await: nothing is called failed, no lock is left",
    "F08": "a worker wakes up after its lease ran out: its fence is too low to write",
    "F09": "out of memory, or a blocked event loop: leases and deadlines hold",
    "F10": "two releases at the same time: old and new code read each other's rows",
    "F11": "a migration killed half-way: run again, it ends whole",
    "F12": "no answer, but charged: found out, never charged twice",
    "F13": "no answer, not charged: the final status is right",
    "F14": "a lost, cut or senseless answer: unknown, not failed",
    "F15": "5xx, with or without an effect: looked up, no new key",
    "F16": "429 with any Retry-After: obeyed within bounds",
    "F17": "a key in use, or used otherwise: wait with it, or a person; never a new one",
    "F18": "a slow PSP: shops are answered as fast, the breaker opens",
    "F19": "an hour without the PSP: no herd afterwards, everything final",
    "F20": "the PSP takes something back: compensated, never rewritten",
    "F21": "another amount, currency or merchant than asked: suspense and a person",
    "F22": "unknown for longer than the PSP keeps keys: never sent again",
    "F23": "looked up while the request is still on its way: a miss proves nothing",
    "F24": "the PSP's lists are late: the same",
    "F25": "the PSP refuses our credential: not sent, alarm, goes on after the repair",
    "F26": "an event many times, at once: one effect",
    "F27": "events in any order: the PSP's object decides",
    "F28": "an event before our own commit: parked, not lost",
    "F29": "an event days late: no change, or put right",
    "F30": "a forged, stale, altered or foreign event: refused without effect, never 5xx",
    "F31": "an event that never comes: looking finds out",
    "F32": "the PSP's secret is replaced: both count meanwhile, then the new one alone",
    "F33": "a shop's server is down, gone, slow, huge or wrong: the schedule holds, others go on",
    "F34": "a shop's address leads inwards: refused when saved and when connected",
    "F35": "Redis is emptied: the rows bring everything back",
    "F36": "Redis is away: accepted as before, sign-in limits hold, API limits count alone",
    "F37": "Redis is killed and comes back: workers go on",
    "F38": "Redis is slow, full or poisoned: no crash loop, nothing in it is run",
    "F39": "a job twice, or with two workers: one effect",
    "F40": "cut around the commit: what became of it is read by its key",
    "F43": "deadlock, serialization failure, lock timeout: the whole transaction again, bounded",
    "F44": "no free connection: 503 with a time, fast",
    "F45": "the disk is full: no new money, nothing acknowledged, recovers",
    "F46": "fsync fails: not acknowledged",
    "F47": "SQLite dies at any write: whole afterwards, what was acknowledged is there",
    "F48": "a transaction left open: ended by a timeout, the queue moves",
    "F49": "parts cannot reach each other: every invariant holds",
    "F50": "a slow line, cut at any byte: nothing corrupt, nothing twice",
    "F51": "no name, or a wrong certificate at the PSP: not sent, no downgrade",
    "F52": "a hundred equal requests at once: one operation",
    "F53": "a key with another body, endpoint, shop or mode: 422, or its own namespace",
    "F54": "refunds, captures and cancels racing: never more than there is",
    "F55": "a client goes away in the middle: whole or nothing",
    "F56": "ten times the load: shed with 429, what was accepted becomes final",
    "F57": "hostile input anywhere: 4xx, never 5xx, no trace",
    "F58": "a poison job: in the dead letters after some tries, blocks nobody",
    "F59": "a dead letter retried twice: one effect",
    "F60": "clocks that step, go back or disagree: leases, order and limits hold",
    "F68": "an admin retries what is unknown: only looked up",
    "F69": "a stale page or a form sent again: one effect, or refused",
    "F70": "any three of these at once",
}


def _docstrings() -> Iterator[str]:
    for folder in ("tests", "e2e"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                tests = ast.FunctionDef | ast.AsyncFunctionDef
                if isinstance(node, tests) and not node.name.startswith("test_"):
                    continue
                if isinstance(node, tests | ast.Module) and path != Path(__file__):
                    yield ast.get_docstring(node) or ""


def _named(text: str) -> set[str]:
    """Return the ids in a text; `F03 to F07` names those between, too."""
    found = set(re.findall(r"\bF\d\d\b", text))
    for first, last in re.findall(r"\bF(\d\d) to F(\d\d)\b", text):
        found |= {f"F{number:02d}" for number in range(int(first), int(last) + 1)}
    return found


def test_every_fault_is_named_by_a_test() -> None:
    named = {fault for text in _docstrings() for fault in _named(text)}
    missing = [f"{fault}: {what}" for fault, what in FAULTS.items() if fault not in named]
    assert not missing, "no test names\n" + "\n".join(missing)


def test_no_test_names_a_fault_that_is_not_in_the_table() -> None:
    named = {fault for text in _docstrings() for fault in _named(text)}
    # These are of the ledger's integrity, whose table comes with that part.
    later = {"F41", "F42", *(f"F{number}" for number in range(61, 68))}
    assert named <= set(FAULTS) | later
