"""The pages of API keys: list, make, replace with an overlap, revoke; a secret is shown once."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Problem
from app.merchants import operations, queries
from app.merchants.keys import SCOPES
from app.merchants.models import ApiKey
from web.dashboard import access, forms
from web.dashboard.access import Looking, Req, Viewer
from web.dashboard.forms import FINE, Faults
from web.deps import path_id, runtime
from web.render import render, with_toast

LASTING = {"": "Never", "30": "In 30 days", "90": "In 90 days", "365": "In a year"}
OVERLAPS = {
    "0": "At once",
    "3600": "In an hour",
    "86400": "In 24 hours",
    "604800": "In 7 days",
}
SCOPE_WORDS = {
    "payments:read": "See payments, refunds and their timelines",
    "payments:write": "Make, capture and cancel payments",
    "refunds:write": "Send money back to customers",
    "ledger:read": "See the wallet and the ledger",
    "events:read": "See events",
    "webhooks:write": "Manage webhook endpoints and deliveries",
}
_SOON = timedelta(days=7)


class MakeKey(forms.StepUp):
    """A new key: its name, what it may do, and when it ends."""

    name: str = ""
    scopes: list[str] = msgspec.field(default_factory=list)
    lasting: str = ""


class RotateKey(forms.StepUp):
    """How many seconds the old key works on."""

    overlap: str = "86400"


class KeyLine(msgspec.Struct, frozen=True):
    """A key with the state it is in now."""

    row: ApiKey
    state: str
    word: str | None

    @property
    def open(self) -> bool:
        """Whether the key still works."""
        return self.state != "revoked"


def _line(row: ApiKey, now: datetime) -> KeyLine:
    if row.revoked_at is not None:
        return KeyLine(row, "revoked", None)
    if row.expires_at is not None and row.expires_at <= now:
        return KeyLine(row, "revoked", "Ended")
    soon = row.expires_at is not None and row.expires_at <= now + _SOON
    return KeyLine(row, "expiring" if soon else "active", None)


@get("/keys", opt={"permission": "keys:read"})
async def index(request: Req, viewer: Looking) -> Response[Any]:
    """List the keys of this shop and mode."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        rows = await queries.api_keys(session, **viewer.tenant)
    lines = [_line(row, rt.clock()) for row in rows]
    return render(
        request,
        "keys/index.html",
        shell=viewer.shell("keys"),
        base=viewer.base,
        working=[line for line in lines if line.open],
        ended=[line for line in lines if not line.open],
        may_write=viewer.can("keys:write"),
    )


@get("/keys/new", opt={"permission": "keys:write"})
async def show_new(request: Req, viewer: Looking) -> Response[Any]:
    """Ask what the new key is for."""
    blank = MakeKey(form_key=runtime(request).ids.token(16), scopes=list(SCOPES))
    return _new_page(request, viewer, blank, FINE)


def _new_page(request: Req, viewer: Viewer, form: MakeKey, wrong: Faults) -> Response[Any]:
    return render(
        request,
        "keys/new.html",
        status_code=wrong.status,
        shell=viewer.shell("keys"),
        base=viewer.base,
        form=form,
        wrong=wrong,
        scopes=[(scope, SCOPE_WORDS[scope], scope in form.scopes) for scope in SCOPES],
        lasting=list(LASTING.items()),
        fresh=viewer.is_confirmed(),
    )


@post("/keys", opt={"permission": "keys:write"})
async def make(request: Req, viewer: Looking) -> Response[Any]:
    """Make a key and show its secret, once."""
    form = await forms.read(request, MakeKey)
    rt = runtime(request)
    secrets: list[str] = []

    async def work(session: AsyncSession) -> str:
        now = rt.clock()
        # A lasting that the page does not offer ends now, which the operation refuses.
        days = int(form.lasting) if form.lasting and form.lasting in LASTING else 0
        row, secret = await operations.create_key(
            session,
            ids=rt.ids,
            now=now,
            actor=viewer.actor(request),
            **viewer.tenant,
            name=form.name,
            scopes=form.scopes,
            expires_at=now + timedelta(days=days) if form.lasting else None,
        )
        secrets[:] = [secret]
        return row.id

    try:
        await access.step_up(request, viewer, form)
        done = await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except Problem as problem:
        return _new_page(request, viewer, form, forms.faults(problem))
    return await _made_page(request, viewer, done, secrets)


async def _made_page(
    request: Req, viewer: Viewer, done: forms.Done, secrets: list[str]
) -> Response[Any]:
    rt = runtime(request)
    async with rt.sessions.read() as session:
        row = await queries.key(session, **viewer.tenant, key_id=done.resource_id or "")
        old = None
        if row.replaces_id is not None:
            old = await queries.key(session, **viewer.tenant, key_id=row.replaces_id)
    return render(
        request,
        "keys/made.html",
        shell=viewer.shell("keys"),
        base=viewer.base,
        row=row,
        old=old,
        secret="" if done.replayed else secrets[0],
    )


@get("/keys/{key_id:str}", opt={"permission": "keys:read"})
async def show(request: Req, viewer: Looking, key_id: FromPath[str]) -> Response[Any]:
    """Show one key, with the ways to replace and revoke it. Raises NotFound."""
    form = RotateKey(form_key=runtime(request).ids.token(16))
    return await _key_page(request, viewer, key_id, form, FINE)


async def _key_page(
    request: Req, viewer: Viewer, key_id: str, form: RotateKey, wrong: Faults
) -> Response[Any]:
    rt = runtime(request)
    async with rt.sessions.read() as session:
        row = await queries.key(session, **viewer.tenant, key_id=path_id(key_id, "key"))
    return render(
        request,
        "keys/key.html",
        status_code=wrong.status,
        shell=viewer.shell("keys"),
        base=viewer.base,
        line=_line(row, rt.clock()),
        scopes=[SCOPE_WORDS[scope] for scope in row.scopes],
        form=form,
        wrong=wrong,
        overlaps=list(OVERLAPS.items()),
        may_write=viewer.can("keys:write"),
        fresh=viewer.is_confirmed(),
    )


@post("/keys/{key_id:str}/rotate", opt={"permission": "keys:write"})
async def rotate(request: Req, viewer: Looking, key_id: FromPath[str]) -> Response[Any]:
    """Make the key's successor and show its secret, once. Raises NotFound."""
    form = await forms.read(request, RotateKey)
    checked = path_id(key_id, "key")
    rt = runtime(request)
    secrets: list[str] = []

    async def work(session: AsyncSession) -> str:
        seconds = int(form.overlap) if form.overlap in OVERLAPS else -1
        row, secret = await operations.rotate_key(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=viewer.actor(request),
            **viewer.tenant,
            key_id=checked,
            overlap=timedelta(seconds=seconds),
        )
        secrets[:] = [secret]
        return row.id

    try:
        await access.step_up(request, viewer, form)
        done = await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except Problem as problem:
        return await _key_page(request, viewer, checked, form, forms.faults(problem))
    return await _made_page(request, viewer, done, secrets)


@post("/keys/{key_id:str}/revoke", opt={"permission": "keys:write"})
async def revoke(request: Req, viewer: Looking, key_id: FromPath[str]) -> Response[Any]:
    """End a key at once; that must never wait for a second factor. Raises NotFound."""
    await forms.read(request, forms.Sent)
    rt = runtime(request)
    try:
        async with rt.sessions.begin() as session:
            row = await operations.revoke_key(
                session,
                ids=rt.ids,
                now=rt.clock(),
                actor=viewer.actor(request),
                **viewer.tenant,
                key_id=path_id(key_id, "key"),
            )
    except operations.KeyEnded:
        return Redirect(f"{viewer.base}/keys/{key_id}", status_code=303)
    response = Redirect(f"{viewer.base}/keys", status_code=303)
    with_toast(response, f"The key {row.name} is revoked.")
    return response


router = access.shop_pages(index, show_new, make, show, rotate, revoke)
