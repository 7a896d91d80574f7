"""Show that the checker sees each planted bug: `python -m tests.simulation.planted`."""

import argparse
import json
import time
from pathlib import Path

from app.cli.postgres import why_missing
from tests.simulation import history, record
from tests.simulation.__main__ import _say
from tests.simulation.many import program, quiet
from tests.simulation.planted.bugs import BUGS
from tests.simulation.planted.on_postgres import ON_POSTGRES
from tests.simulation.postgres_store import PostgresStore
from tests.simulation.sqlite_store import SqliteStore

SEEDS = Path(__file__).with_name("seeds.json")
PLANTS = BUGS | ON_POSTGRES
# What must see each bug. That a history breaks in some other way is no proof of it.
RULES = {
    "acknowledged_before_commit": {"I7", "I10"},
    "cancel_while_unknown": {"I3", "I6", "I8"},
    "cancelled_is_failed": {"I3", "I4", "I6", "I8"},
    "error_500_is_failed": {"I3", "I4", "I6", "I8"},
    "event_is_believed": {"I3", "I6", "I8"},
    "events_not_deduplicated": {"I12"},
    "fee_in_euros": {"I3"},
    "fee_loses_a_cent": {"I1", "I2", "I4"},
    "gone_for_good": {"I3"},
    "held_is_taken": {"I10"},
    "janitor_off": {"I16", "I21"},
    "key_not_scoped": {"I7", "I8", "I13"},
    "new_key_each_time": {"I4", "I9"},
    "no_fence": {"F08"},
    "no_jitter": {"F19"},
    "one_miss_is_proof": {"I3", "I4", "I6", "I9"},
    "outbox_outside": {"I10", "I21"},
    "payment_not_locked": {"I2", "I3", "I4", "I6", "I10"},
    "people_are_believed": {"I3"},
    "plain_begin": {"I19"},
    "poison_for_ever": {"I10", "I21"},
    "refunds_not_locked": {"I5"},
    "replay_not_idempotent": {"I3", "I4", "I5", "I9", "I10"},
    "reserve_not_released": {"I4"},
    "sent_before_reserved": {"I14"},
    "stale_balance": {"I1", "I2"},
    "sweeper_off": {"I21"},
    "tenant_missing": {"I13"},
    "timeout_is_failed": {"I3", "I4", "I6", "I8"},
}
WITHIN = 200
PAYMENTS = 10


def caught(name: str, first: int | None, within: int) -> tuple[int, str] | None:
    """Return the first seed that catches a bug and what it says; the known seed goes first.

    Without the bug the same seed must hold, or it would have caught nothing.
    """
    store = PostgresStore if name in ON_POSTGRES else SqliteStore
    plant = PLANTS[name]
    seeds = ([] if first is None else [first]) + [s for s in range(within) if s != first]
    for seed in seeds:
        with plant():
            ended = history.play(seed, payments=PAYMENTS, make_store=store)
        seen = [line for line in ended.violations if line.partition(":")[0] in RULES[name]]
        if seen and not history.play(seed, payments=PAYMENTS, make_store=store).violations:
            return seed, seen[0]
    return None


def main(arguments: list[str]) -> int:
    """Try every bug; 1 when one stays unseen."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("--only", help="names, with commas between")
    parser.add_argument("--within", type=int, default=WITHIN, help="how many seeds to try")
    parser.add_argument(
        "--record", action="store_true", help="keep the seeds that caught, and add a row"
    )
    wanted = parser.parse_args(arguments)
    quiet()
    known: dict[str, int] = json.loads(SEEDS.read_text()) if SEEDS.exists() else {}
    names = wanted.only.split(",") if wanted.only else list(PLANTS)
    began, missed, left_out = time.monotonic(), 0, 0
    for name in names:
        if name in ON_POSTGRES and (missing := why_missing()) is not None:
            left_out += 1
            _say(f"NOT RUN  {name}: {missing}")
            continue
        found = caught(name, known.get(name), wanted.within)
        if found is None:
            missed += 1
            _say(f"NOT CAUGHT  {name}: {PLANTS[name].__doc__}")
            continue
        _say(f"caught  {name:<26} seed {found[0]:<4} {found[1][:120]}")
        known[name] = found[0]
        if wanted.record:
            SEEDS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    seen = len(names) - missed - left_out
    if wanted.record:
        command = f"`python -m tests.simulation.planted {' '.join(arguments)}`"
        seconds = f"{time.monotonic() - began:.0f} s"
        record.add("## Planted bugs", command, seen, len(names), seconds)
    _say(f"{seen} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(program("tests.simulation.planted", main))
