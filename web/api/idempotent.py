"""The Idempotency-Key of a POST: the first request acts, every other one hears its answer."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from litestar import Response
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, idempotency
from app.errors import REFUSALS_WITH_KEY, Problem
from app.idempotency import KeyExpired, KeyMissing, KeyReused, KeyRow
from app.runtime import Runtime
from web import errors
from web.api.answers import shaped
from web.api.auth import identity_of
from web.deps import ApiRequest, check_text, runtime

T = TypeVar("T")

_TRIES = 5
REPLAYED = {"Idempotent-Replayed": "true"}


class Claim(msgspec.Struct, kw_only=True):
    """The key of this request. An operation that inserts several rows at once takes its row."""

    scope: str
    hashed: str
    fingerprint: str
    status: int
    now: datetime
    taken: bool = False
    at_once: bool = False  # The work is one statement, which takes the key's lock by itself.

    def rows(self, resource_id: str) -> list[tuple[Any, dict[str, Any]]]:
        """Return the key's row, for the statement that inserts the resource."""
        self.taken = True
        row = self.row(self.status, resource_id)
        if self.at_once:
            lock = idempotency.lock_number(self.scope, self.hashed)
            row["fingerprint"] = db.OnlyIfLocked(lock, self.fingerprint)
        return [(KeyRow, row)]

    def row(self, status: int, resource_id: str | None, refusal: str | None = None) -> Any:
        """Return the values of the key's row."""
        return idempotency.row(
            scope=self.scope,
            hashed=self.hashed,
            fingerprint=self.fingerprint,
            status=status,
            resource_id=resource_id,
            refusal=refusal,
            now=self.now,
        )


class Outcome(msgspec.Struct, kw_only=True):
    """What a request led to: a resource as it is now, or a refusal to send as it was stored."""

    status: int
    shape: Any = None
    refusal: str | None = None
    replayed: bool = False

    def answer(self, headers: dict[str, str] | None = None) -> Response[bytes]:
        """Return the answer; a replay says so."""
        made = {**(headers or {}), **(REPLAYED if self.replayed else {})}
        if self.refusal is None:
            return shaped(self.shape, status=self.status, headers=made)
        return Response(
            self.refusal.encode(),
            status_code=self.status,
            media_type=errors.MEDIA_TYPE,
            headers=made,
        )


# Does the work in the open transaction; returns the resource's id and its public shape.
Work = Callable[[AsyncSession, Claim | None], Awaitable[tuple[str, Any]]]
# The same as one statement on a connection of its own.
WorkAtOnce = Callable[[db.Lone, Claim | None], Awaitable[tuple[str, Any]]]
# Shows the resource as it is now.
Show = Callable[[AsyncSession, str], Awaitable[Any]]


async def run(
    request: ApiRequest,
    *,
    work: Work,
    show: Show,
    status: int,
    required: bool = True,
    at_once: WorkAtOnce | None = None,
    prepare: Callable[[], Awaitable[None]] | None = None,
) -> Outcome:
    """Do `work` once for the request's key (semantics: "Idempotency").

    `at_once` does the same work in a single statement, where the database can. `prepare` is
    what `work` needs from outside of the database; a replay does without it, and its refusals
    are not stored.
    Raises KeyMissing, KeyMalformed, KeyReused, KeyExpired, InProgress, and without a key
    whatever `work` raises; with one, a refusal of `work` is stored and becomes the outcome.
    """
    rt = runtime(request)
    key = idempotency.read_key(request.headers.getall("idempotency-key", []))
    if key is None:
        if required:
            raise KeyMissing("Send an Idempotency-Key header.", param="Idempotency-Key")
        if prepare is not None:
            await prepare()
        _, shape = await _again(lambda: _without_key(rt, work))
        return Outcome(status=status, shape=shape)
    check_text(key, "Idempotency-Key")
    claim = _claim(request, rt, key, status)
    async with rt.keys_in_progress.hold(rt.sessions.sqlite, claim.scope, claim.hashed):
        if at_once is not None and not rt.sessions.sqlite:
            outcome = await _at_once(request, claim, at_once, show)
            if outcome is not None:
                return outcome
        if prepare is not None:
            async with rt.sessions.begin() as session:
                outcome = await _stored(session, claim, show)
            if outcome is not None:
                return outcome
            await prepare()
        return await _again(lambda: _with_key(request, claim, work, show))


async def _again(once: Callable[[], Awaitable[T]]) -> T:
    """Run a whole transaction again when somebody was faster: now their rows are seen."""
    for attempt in range(1, _TRIES + 1):
        try:
            return await once()
        except Exception as error:
            passing = isinstance(error, IntegrityError) or db.is_transient(error)
            if attempt == _TRIES or not passing:
                raise
    raise RuntimeError("unreachable")


def _claim(request: ApiRequest, rt: Runtime, key: str, status: int) -> Claim:
    identity = identity_of(request)
    mode = "live" if identity.livemode else "test"
    return Claim(
        scope=f"m:{identity.merchant_id}:{mode}",
        hashed=idempotency.key_hash(key),
        fingerprint=idempotency.fingerprint(request.method, request.scope["path"], request.sent),
        status=status,
        now=rt.clock(),
    )


async def _without_key(rt: Runtime, work: Work) -> tuple[str, Any]:
    async with rt.sessions.begin() as session:
        return await work(session, None)


async def _at_once(
    request: ApiRequest, claim: Claim, work: WorkAtOnce, show: Show
) -> Outcome | None:
    """Try the usual case, a new key and nothing in the way, in one round trip.

    The statement holds the key's lock, its row and the work; it fails as a whole when the key is
    locked or known, or when another constraint refuses. Null: the long way tells which.
    """
    claim.at_once = True
    try:
        # The statement commits by itself, so "before the commit" is before it.
        runtime(request).failpoints.hit("api.before_commit")
        async with runtime(request).sessions.at_once() as lone:
            _, shape = await work(lone, claim)
        runtime(request).failpoints.hit("api.after_commit")
        return Outcome(status=claim.status, shape=shape)
    except IntegrityError:
        return None
    except Problem as refusal:
        if refusal.status not in REFUSALS_WITH_KEY:
            raise
        return await _refuse(request, claim, refusal, show)
    finally:
        claim.at_once = False


async def _with_key(request: ApiRequest, claim: Claim, work: Work, show: Show) -> Outcome:
    claim.taken = False
    try:
        async with runtime(request).sessions.begin() as session:
            stored = await _stored(session, claim, show)
            if stored is not None:
                return stored
            resource_id, shape = await work(session, claim)
            if not claim.taken:
                await db.insert_all(session, claim.rows(resource_id))
            runtime(request).failpoints.hit("api.before_commit")
        runtime(request).failpoints.hit("api.after_commit")
        return Outcome(status=claim.status, shape=shape)
    except Problem as refusal:
        if refusal.status not in REFUSALS_WITH_KEY or isinstance(refusal, KeyReused | KeyExpired):
            raise
        return await _refuse(request, claim, refusal, show)


async def _stored(session: AsyncSession, claim: Claim, show: Show) -> Outcome | None:
    stored = await idempotency.look(
        session, scope=claim.scope, hashed=claim.hashed, fingerprint=claim.fingerprint
    )
    if stored is None:
        return None
    if stored.refusal is not None:
        return Outcome(status=stored.status, refusal=stored.refusal, replayed=True)
    shape = await show(session, stored.resource_id or "")
    return Outcome(status=stored.status, shape=shape, replayed=True)


async def _refuse(request: ApiRequest, claim: Claim, refusal: Problem, show: Show) -> Outcome:
    """Store a refusal, after the work that led to it has been rolled back as a whole.

    Between the two transactions the same request may have come again and have been accepted:
    its answer then is this one's.
    """
    content = errors.body(request.scope, refusal).decode()
    async with runtime(request).sessions.begin() as session:
        stored = await _stored(session, claim, show)
        if stored is not None:
            return stored
        row = claim.row(refusal.status, None, content)
        await db.insert_all(session, [(KeyRow, row)])
    return Outcome(status=refusal.status, refusal=content)
