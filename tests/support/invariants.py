"""Every test that moves money ends with `await check_invariants(rt)`."""

from app.runtime import Runtime
from app.verification.queries import Report, verify


async def check_invariants(rt: Runtime, *, failed_postings: int = 0) -> Report:
    """Check what the database alone can tell, and fail with every row that breaks a rule.

    A posting in the dead letters breaks no rule, but a test that did not mean it to be there has
    found a mistake: `failed_postings` says how many are meant.
    """
    async with rt.sessions.snapshot() as session:
        report = await verify(session)
    assert report.holds, "\n".join(violation.sentence() for violation in report.violations)
    assert report.failed == failed_postings, "postings that could not be recorded"
    return report
