"""Who asks: the API key in the Authorization header, its scope, and its rate."""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any, cast

import structlog
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.audit.operations import Actor
from app.errors import TooMany, Unauthenticated
from app.merchants import operations, queries
from app.merchants.keys import KeyIdentity, looks_like_secret
from app.runtime import Runtime
from app.secrets import sha256
from web.deps import client_address, request_id, runtime
from web.errors import is_outage

log = structlog.get_logger(__name__)

_FRESH = timedelta(seconds=1)  # A revoked key works for at most so long (S23).
_KEPT = 10_000

Connection = ASGIConnection[Any, Any, Any, Any]


class KeyRing:
    """Identities that were proven less than a second ago, by the hash of their secret."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[KeyIdentity, datetime]] = OrderedDict()

    async def identify(self, rt: Runtime, secret: str) -> KeyIdentity:
        """Return who a secret proves to be. Raises Unauthenticated, MerchantDisabled."""
        now = rt.clock()
        if not looks_like_secret(secret):
            raise Unauthenticated("This is no API key.")
        hashed = sha256(secret)
        found = self._kept.get(hashed)
        if found is not None and timedelta() <= now - found[1] < _FRESH:
            identity = found[0]
            if identity.expires_at is None or now < identity.expires_at:
                return identity
        self._kept.pop(hashed, None)
        async with rt.sessions.read() as session:
            identity = await queries.authenticate(session, secret=secret, now=now)
        self._kept[hashed] = (identity, now)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        await _note_use(rt, identity, now)
        return identity


async def _note_use(rt: Runtime, identity: KeyIdentity, now: datetime) -> None:
    last = identity.last_used_at
    if last is not None and now - last < operations.NOTE_USE_EVERY:
        return
    try:
        async with rt.sessions.begin() as session:
            await operations.note_use(session, key_id=identity.key_id, now=now)
    except Exception as error:
        # A note for people is not worth a refused payment.
        if not is_outage(error):
            raise
        log.warning("could not note the use of a key", key_id=identity.key_id)


async def authorize(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let a request pass that has a key with the route's scope and a token left in its bucket.

    Raises Unauthenticated, ScopeMissing, TooMany.
    """
    identity = await connection.app.state.keyring.identify(runtime(connection), _secret(connection))
    connection.scope["user"] = identity
    verdict = await connection.app.state.limiter.check(identity.key_id)
    connection.scope["state"]["headers"].update(verdict.headers())
    if not verdict.allowed:
        raise TooMany(f"More than {verdict.limit} requests in a burst.", retry_after=verdict.reset)
    identity.require(handler.opt["permission"])


def _secret(connection: Connection) -> str:
    values = connection.headers.getall("authorization", [])
    if not values:
        raise Unauthenticated("Send an API key: Authorization: Bearer cf_test_…")
    scheme, _, secret = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer":
        raise Unauthenticated("Send one Authorization header with a Bearer key.")
    return secret.strip()


def identity_of(connection: Connection) -> KeyIdentity:
    """Return who asks, on a route that `authorize` guards."""
    return cast("KeyIdentity", connection.scope["user"])


def actor_of(connection: Connection) -> Actor:
    """Return who acts, for the audit log."""
    return identity_of(connection).actor(
        address=client_address(connection.scope), request_id=request_id(connection.scope)
    )
