"""Is it alive, is it ready, and how much does it do: for probes and for Prometheus."""

import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.jobs import Job
from app.ledger import queries as ledger
from app.payments import queries as payments
from app.payments.states import ALARM_AFTER, REVIEW_AFTER
from app.risk import queries as risk
from app.runtime import Runtime
from app.secrets import same
from app.verification import health
from web.api.operation import PUBLIC
from web.deps import runtime
from web.errors import is_outage

_AGES = {"0s": timedelta(), "1h": ALARM_AFTER, "24h": REVIEW_AFTER}
_VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"
_REVISION = re.compile(r"^(revision|down_revision)\b[^=]*= *\"([^\"]+)\"", re.MULTILINE)

Asked = Request[Any, Any, Any]


@cache
def newest_migration() -> str:
    """Return the revision that no other one follows; read from the files, without Alembic."""
    ids: set[str] = set()
    followed: set[str] = set()
    for path in _VERSIONS.glob("*.py"):
        for name, value in _REVISION.findall(path.read_text(encoding="utf-8")):
            (ids if name == "revision" else followed).add(value)
    return next(iter(ids - followed))


@get("/healthz", opt=PUBLIC)
async def healthz() -> dict[str, str]:
    """Say that the process answers; nothing else is looked at."""
    return {"status": "ok"}


@get("/readyz", opt=PUBLIC)
async def readyz(request: Asked) -> Response[dict[str, str]]:
    """Say whether requests can be served: 200 when the database answers and is migrated.

    Redis is told, but not needed: without it wake-ups are late and nothing is lost.
    """
    database = await _database(runtime(request))
    redis = "ok" if await request.app.state.limiter.alive() else "down"
    ready = database == "ok"
    return Response(
        {"status": "ok" if ready else "not ready", "database": database, "redis": redis},
        status_code=200 if ready else 503,
        headers={} if ready else {"Retry-After": "2"},
    )


async def _database(rt: Runtime) -> str:
    try:
        async with rt.sessions.read() as session:
            found = await session.scalar(text("SELECT version_num FROM alembic_version"))
    except Exception as error:
        if is_outage(error):
            return "down"
        if "alembic_version" in str(error):
            return "not migrated"
        raise
    return "ok" if found == newest_migration() else "not migrated"


@get("/metrics", opt=PUBLIC)
async def metrics(request: Asked) -> Response[bytes]:
    """Return counts and times; only where the settings make them public, or with their token."""
    rt = runtime(request)
    if not _may_see_metrics(request, rt):
        raise NotFound("There is nothing at this address.")
    content = generate_latest(request.app.state.metrics.registry) + await _queues(rt)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


def _may_see_metrics(request: Asked, rt: Runtime) -> bool:
    if rt.settings.metrics_public:
        return True
    token = rt.settings.metrics_token
    return bool(token) and same(request.headers.get("authorization", ""), f"Bearer {token}")


async def _queues(rt: Runtime) -> bytes:
    registry = CollectorRegistry()
    jobs = Gauge(
        "counterfoil_jobs", "Jobs by queue and state.", ["queue", "state"], registry=registry
    )
    unknown = Gauge(
        "counterfoil_unknown_outcomes",
        "Outcomes at PSPs that nobody knows, by how long; an hour is an alarm.",
        ["longer_than"],
        registry=registry,
    )
    async with rt.sessions.read() as session:
        for name, age in _AGES.items():
            unknown.labels(name).set(
                await health.unknown_for(session, now=rt.clock(), longer_than=age)
            )
        query = select(Job.queue, Job.state, func.count()).where(Job.state.in_(("due", "dead")))
        for queue, state, count in await session.execute(query.group_by(Job.queue, Job.state)):
            jobs.labels(queue, state).set(count)
        checks = await risk.provider_state(session, now=rt.clock())
        await _flow(session, rt, registry)
    Gauge(
        "counterfoil_risk_fallbacks",
        "Payments that the fallback rule decided because the risk provider was down.",
        registry=registry,
    ).set(checks.fallbacks)
    Gauge(
        "counterfoil_risk_reviews_waiting",
        "Payments that wait for a person to approve or refuse them.",
        registry=registry,
    ).set(checks.waiting)
    return generate_latest(registry)


async def _flow(session: AsyncSession, rt: Runtime, registry: CollectorRegistry) -> None:
    """Tell whether money moves: calls to PSPs, due work that waits, postings not yet written."""
    now = rt.clock()
    since = now - health.WINDOW
    calls = Gauge(
        "counterfoil_psp_calls_5m",
        "Calls to PSPs that began within five minutes, by class of outcome.",
        ["connection", "class"],
        registry=registry,
    )
    for labels, count in (await payments.calls_since(session, since=since)).items():
        calls.labels(*labels).set(count)
    oldest = Gauge(
        "counterfoil_oldest_due_job_seconds",
        "How long the oldest due job of a queue has waited; what waits for a PSP is left out.",
        ["queue"],
        registry=registry,
    )
    gates, _ = await health.read_gates(session, now)
    for queue in await health.read_queues(session, now, gates):
        oldest.labels(queue.name).set(queue.oldest.total_seconds() if queue.oldest else 0)
    waiting = Gauge(
        "counterfoil_ledger_postings_waiting",
        "Postings that their ledger has yet to record.",
        ["ledger"],
        registry=registry,
    )
    for one in await ledger.health(session):
        waiting.labels(one.ledger_id).set(one.waiting)


router = Router("/", route_handlers=[healthz, readyz, metrics])
