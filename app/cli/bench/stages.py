"""What the database tells about a run: how far each payment is, and when it got there."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import msgspec
from sqlalchemy import text

from app.cli.bench.house import BenchError
from app.cli.bench.load import Spread, spread
from app.runtime import Runtime

# What one payment still has to go through; all are zero when everything has arrived.
_OPEN = {
    "payments not succeeded": "SELECT count(*) FROM payments WHERE status <> 'succeeded'",
    "jobs due or running": "SELECT count(*) FROM jobs WHERE state = 'due' "
    "AND (owner IS NOT NULL OR run_at < statement_timestamp() + interval '30 seconds')",
    "jobs in the dead letters": "SELECT count(*) FROM jobs WHERE state = 'dead'",
    "postings without an answer": "SELECT count(*) FROM postings WHERE status = 'waiting'",
    "events not handed out": "SELECT count(*) FROM events WHERE NOT fanned_out",
    "deliveries not taken": "SELECT count(*) FROM deliveries WHERE state <> 'delivered'",
    "PSP events not applied": "SELECT count(*) FROM payments p WHERE NOT EXISTS ("
    "SELECT FROM psp_events e WHERE e.payment_id = p.id AND e.state = 'applied')",
}

# Seconds from the acceptance of each payment to a stage of its way.
_STAGES = {
    "PSP charged": "SELECT min(c.finished_at) FROM psp_calls c "
    "WHERE c.payment_id = p.id AND c.step = 'confirm' AND c.outcome = 'succeeded'",
    "succeeded": "SELECT p.captured_at",
    "PSP's event applied": "SELECT min(e.applied_at) FROM psp_events e "
    "WHERE e.payment_id = p.id AND e.state = 'applied'",
    "in the ledger": "SELECT min(o.answered_at) FROM postings o "
    "WHERE o.payment_id = p.id AND o.kind = 'capture' AND o.status = 'accepted'",
    "webhook delivered": "SELECT min(d.delivered_at) FROM deliveries d JOIN events e "
    "ON e.id = d.event_id WHERE d.payment_id = p.id AND e.type = 'payment.succeeded'",
}


class Statement(msgspec.Struct, frozen=True):
    """A statement of the database, with how often a payment needs it and what it costs there."""

    text: str
    calls_each: float
    ms_each: float


async def settled(rt: Runtime, seconds: float) -> float:
    """Wait until everything has arrived and return how long the last look took to begin.

    Raises BenchError with what is still open after `seconds`.
    """
    end = perf_counter() + seconds
    while True:
        moment = perf_counter()
        left = await _open(rt)
        if not left:
            return moment
        if perf_counter() > end or "jobs in the dead letters" in left:
            told = ", ".join(f"{count} {what}" for what, count in left.items())
            raise BenchError(f"not everything has arrived: {told}.")
        await asyncio.sleep(0.05)


async def _open(rt: Runtime) -> dict[str, int]:
    left = {}
    async with rt.sessions.read() as session:
        for what, statement in _OPEN.items():
            count = int(await session.scalar(text(statement)) or 0)
            if count:
                left[what] = count
    return left


async def latencies(rt: Runtime, payment_ids: Sequence[str]) -> dict[str, Spread]:
    """Return how long after its acceptance each stage was reached. Raises BenchError."""
    found = {}
    async with rt.sessions.read() as session:
        for stage, moment in _STAGES.items():
            statement = text(
                f"SELECT EXTRACT(EPOCH FROM ({moment}) - p.created_at) "  # noqa: S608 - our own
                "FROM payments p WHERE p.id = ANY(:ids)"
            )
            rows = (await session.execute(statement, {"ids": list(payment_ids)})).scalars().all()
            if len(rows) != len(payment_ids) or any(row is None for row in rows):
                raise BenchError(f"not every payment has reached the stage: {stage}.")
            found[stage] = spread([float(row) for row in rows])
    return found


async def count_statements(rt: Runtime) -> bool:
    """Begin to count statements; False when this server cannot."""
    async with rt.sessions.begin() as session:
        loaded = str(await session.scalar(text("SHOW shared_preload_libraries")))
        if "pg_stat_statements" not in loaded:
            return False
        await session.execute(text("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))
        await session.execute(text("SELECT pg_stat_statements_reset()"))
    return True


async def statements(rt: Runtime, payments: int) -> list[Statement]:
    """Return what was counted, the most expensive first."""
    query = text(
        "SELECT query, calls, total_exec_time + total_plan_time FROM pg_stat_statements s "
        "JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database() "
        "ORDER BY 3 DESC, 2 DESC"
    )
    async with rt.sessions.read() as session:
        rows = await session.execute(query)
        return [
            Statement(" ".join(sql.split()), round(calls / payments, 2), round(ms / payments, 4))
            for sql, calls, ms in rows
        ]
