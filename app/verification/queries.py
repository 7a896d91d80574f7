"""The invariant checker: what the database alone can tell, in one snapshot of it."""

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import db
from app.ledger.models import Account, Entry, Ledger, PostingRow
from app.payments.models import Payment, Refund
from app.verification import books, money, promises, tenants

RULES = (*books.RULES, *money.RULES, *promises.RULES, *tenants.RULES)
ROWS_A_RULE = 5


class Violation(msgspec.Struct, frozen=True):
    """A row that breaks a rule, by name."""

    invariant: str
    rule: str
    row: str
    why: str

    def sentence(self) -> str:
        """Say it in one line."""
        return f"{self.invariant} does not hold ({self.rule}): {self.row}: {self.why}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and what was found; at most five rows a rule."""

    holds: bool
    rules: int
    invariants: tuple[str, ...]
    positions: dict[str, int]
    counts: dict[str, int]
    waiting: int
    failed: int
    violations: tuple[Violation, ...]

    def sentence(self) -> str:
        """Say in one line what holds, or which row does not."""
        if self.violations:
            more = len(self.violations) - 1
            return self.violations[0].sentence() + (f" (and {more} more)" if more else "")
        counts = ", ".join(f"{number:,} {name}" for name, number in self.counts.items())
        where = ", ".join(f"{name} at {at:,}" for name, at in self.positions.items())
        return (
            f"{', '.join(self.invariants)} hold: {self.rules} rules over {counts}; {where}; "
            f"{self.waiting:,} postings wait, {self.failed:,} lie in the dead letters."
        )


async def verify(session: AsyncSession) -> Report:
    """Check every rule in one snapshot. `session` is fresh: nothing was read with it yet."""
    sqlite = db.is_sqlite(session)
    if not sqlite:
        # Each statement would see a newer state, and a batch written between two of them would
        # look like a broken rule. SQLite reads one snapshot in any case.
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        # Whole tables are compared here. Right after many rows came, before PostgreSQL has counted
        # them, it would pick a loop in a loop, which ends never.
        await session.execute(text("SET LOCAL enable_nestloop = off"))
    violations: list[Violation] = []
    for rule in RULES:
        found = await session.execute(rule.statement(sqlite=sqlite, limit=ROWS_A_RULE))
        violations += [
            Violation(rule.invariant, rule.says, str(what), str(why)) for what, why in found
        ]
    positions = await session.execute(select(Ledger.id, Ledger.last_seq).order_by(Ledger.id))
    return Report(
        holds=not violations,
        rules=len(RULES),
        invariants=tuple(sorted({rule.invariant for rule in RULES}, key=lambda i: int(i[1:]))),
        positions={ledger: seq for ledger, seq in positions},  # noqa: C416 # Rows, not tuples.
        counts=await _counts(session),
        waiting=await _postings(session, "waiting"),
        failed=await _postings(session, "failed"),
        violations=tuple(violations),
    )


async def _postings(session: AsyncSession, status: str) -> int:
    found = await session.execute(select(func.count()).where(PostingRow.status == status))
    return int(found.scalar_one())


async def _counts(session: AsyncSession) -> dict[str, int]:
    tables = {
        "payments": Payment,
        "refunds": Refund,
        "postings": PostingRow,
        "entries": Entry,
        "accounts": Account,
    }
    counts = {}
    for name, model in tables.items():
        found = await session.execute(select(func.count()).select_from(model))
        counts[name] = int(found.scalar_one())
    return counts
