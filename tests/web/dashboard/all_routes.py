"""Every route of the application, asked with secrets in its fields; and how all of them fail."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.identity import FULL, PASSWORD
from app.accounts.sessions import operations as sessions
from app.db import Sessions
from app.runtime import Runtime
from tests.support.browser import Browser
from tests.support.cast import PASSWORD as CAST_PASSWORD
from tests.support.cast import Cast, Person
from tests.web import canaries as planted
from tests.web.api.shop import Api
from tests.web.canaries import Canaries
from tests.web.dashboard.belongings import SHOP, Belongings, fields

HOW = ("nothing", "a defect", "no write", "no statement")
_LAST = ("/remove", "/revoke", "/delete", "/sign-out", "/end-others", "/account/authenticator")
_PUBLIC = ("/sign-in", "/forgotten", "/link/{purpose}/{token}")
_WHY = "The shop asked us to stop."
# What forms of no shop send, next to their token; an empty one for all that are not here.
_SENT: dict[str, dict[str, str]] = {
    "/forgotten": {"email": "alice@example.com"},
    "/sign-in": {"email": "alice@example.com", "password": CAST_PASSWORD},
    "/link/{purpose}/{token}": {"password": planted.PASSWORD},
    "/account/password": {"password": planted.PASSWORD},
    "/account/theme": {"theme": "dark"},
    "/account/authenticator": {"code": "123456"},
    "/sign-in/set-up": {"code": "123456"},
    "/admin/merchants": {"name": "A third shop", "percent": "1", "fixed": "0.10", "days": "2"},
    "/admin/merchants/{shop_id}/members": {"email": "one@shop.example", "role": "owner"},
    "/admin/dead-letters/{job_id}/discard": {"reason": _WHY},
}


class _Breaking(Sessions):
    """Raises after the work of a transaction is done, as a defect of ours would."""

    broken = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        async with super().begin() as session:
            yield session
            if self.broken:
                raise RuntimeError("a defect of ours")


class Faults:
    """How a request fails while it is set."""

    def __init__(self, rt: Runtime) -> None:
        self.verbs: tuple[str, ...] = ()
        rt.sessions = self.sessions = _Breaking(rt.sessions.engine, rt.queue.ring)
        event.listen(
            rt.sessions.engine.sync_engine, "before_cursor_execute", self._spoil, retval=True
        )

    def _spoil(self, _conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> Any:
        if self.verbs and statement.lstrip().startswith(self.verbs):
            # Wrong only after its last place for a value, so that the driver takes them all.
            statement += " SPOILT BY NOTHING"
        return statement, parameters

    def set(self, name: str) -> None:
        """Begin to fail as one of HOW."""
        self.sessions.broken = name == "a defect"
        self.verbs = {
            "no write": ("INSERT", "UPDATE", "DELETE"),
            "no statement": ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"),
        }.get(name, ())


def all_of(app: Litestar) -> list[tuple[str, str]]:
    """Return method and path of every route; links first, and last what ends what others need."""
    found = [
        (str(method), route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    ]
    assert len(found) > 100
    return sorted(found, key=lambda one: (not one[1].startswith("/link"), _ends(one), one))


def _ends(route: tuple[str, str]) -> bool:
    return route[0] != "GET" and (route[0] == "DELETE" or route[1].endswith(_LAST))


class Asker:
    """Asks one route after the other, as whoever may; a fault strikes in the request alone."""

    def __init__(self, app: Litestar, things: Belongings, api: Api, known: Canaries) -> None:
        self.app, self.things, self.api, self.known = app, things, api, known
        self.rt: Runtime = known.rt
        self.cast: Cast = things.shop.cast
        self.faults = Faults(self.rt)
        self.how = "nothing"
        self.ids: dict[str, str] = {}  # What only a test knows: `link`, `checkout`, `job_id`.
        self.statuses: dict[str, list[int]] = {}
        self._number = 0

    def _at(self, path: str) -> str:
        known = self.things.ids | self.ids
        known |= {"merchant_id": self.cast.shop.id, "shop_id": self.cast.shop.id}
        known |= {"mode": "test", "purpose": "reset", "connection_id": "conn_sandbox"}
        known["token"] = self.ids["checkout" if "/checkout/" in path else "link"]
        known["payment_id"] = self.things.payment_for(path)
        parts = [
            known.get(part[1:-1].partition(":")[0], "nothing") if part.startswith("{") else part
            for part in path.split("/")
        ]
        return "/".join(parts)

    async def _fresh(self, path: str) -> Person:
        """Return who may, with a session of their own: some routes end the one that asked."""
        person = self.cast.ada if path.startswith("/admin") else self.cast.alice
        async with self.rt.sessions.begin() as session:
            opened = await sessions.open_session(
                session,
                ids=self.rt.ids,
                now=self.rt.clock(),
                user_id=person.id,
                stage=PASSWORD if path == "/sign-in/code" else FULL,
                address="192.0.2.10",
                agent="Tests",
                confirmed_at=self.rt.clock(),
            )
        self.known.add("session cookie", opened.token)
        self.known.add("form token", opened.csrf_token)
        return msgspec.structs.replace(person, opened=opened)

    async def _form(self, path: str, person: Person) -> dict[str, Any]:
        if path.startswith(SHOP):
            return await fields(self.rt, path, self.things)
        sent: dict[str, Any] = dict(_SENT.get(path, {}))
        self._number += 1
        code = person.recovery_codes[self._number % 10]
        if path == "/sign-in/code":
            return {"code": code}
        if path == "/account/confirm":
            return {"confirm_password": CAST_PASSWORD, "confirm_code": code}
        if path == "/account/sessions/end":
            return {"session": person.opened.session_id}
        if path.startswith("/admin/dead-letters/") and "{" not in path:
            return {"letter": self.ids["job_id"], "why": _WHY}
        return sent

    async def ask(self, method: str, path: str) -> None:
        """Ask one route: with what it takes, and with secrets in fields that it does not know."""
        if path.startswith(("/v1", "/psp", "/policy")):
            await self._machine(method, path)
            return
        public = path in _PUBLIC
        person = await self._fresh(path)
        at = self._at(path)
        async with Browser(self.app, None if public else person) as browser:
            if method != "POST":
                await self._send(path, browser.client.request(method, f"{at}?q={planted.NAME}"))
                return
            if public:
                token = (await browser.get(at)).form(method="post").value("csrf_token")
                browser.csrf = token or ""
            form = await self._form(path, person)
            await self._send(path, browser.post(at, form))
            hostile = form | {
                "password": planted.PASSWORD,
                "confirm_password": CAST_PASSWORD,
                "confirm_code": person.recovery_codes[0],
                "form_key": f"form-key-of-a-canary-{self._number}",
                "reason": planted.CARD,
                "note": planted.NAME,
            }
            await self._send(path, browser.post(at, hostile))

    async def _machine(self, method: str, path: str) -> None:
        at, person = self._at(path), self.cast.alice
        headers = {
            "Content-Type": "application/csp-report" if "/policy" in path else "application/json",
            "Cookie": f"x={person.token}",
            "Stripe-Signature": f"t=1,v1={'ab' * 32}",
        }
        for body in (
            {},
            {"amount": 700, "currency": "eur", "customer": planted.PERSONAL},
            {"url": "https://third.example/hook"},
            {"payment": self.things.ids["payment_id"], "amount": 100},
            {"amount": planted.EMAIL, "surplus": [self.api.secret], "customer": planted.NAME},
            {"url": "https://shop.example/x", "description": planted.CARD},
        ):
            self._number += 1
            headers["Idempotency-Key"] = f"key-{self._number}"
            content = b"" if method in {"GET", "HEAD", "DELETE"} else json.dumps(body).encode()
            asked = self.api.send(method, at, content=content, headers=headers)
            await self._send(path, asked)
            if not content:
                break

    async def _send(self, path: str, request: Any) -> None:
        self.faults.set(self.how)
        try:
            answer = await request
        finally:
            self.faults.set("nothing")
        answer = getattr(answer, "response", answer)
        name = f"{answer.request.method} {path}"
        self.statuses.setdefault(name, []).append(answer.status_code)
