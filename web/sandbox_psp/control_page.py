"""The control page: the sandbox's faults for a person with a browser, without a script."""

from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from litestar import Controller, Request, get, post
from litestar.exceptions import HTTPException
from litestar.response import Redirect, Template

from web.sandbox_psp import control, credentials, money
from web.sandbox_psp.control import Outage, same_site_only
from web.sandbox_psp.delivery import Courier
from web.sandbox_psp.door import Door
from web.sandbox_psp.faults import ALL_FAULTS, Script, from_text
from web.sandbox_psp.policy import WEBHOOK_WORDS, Policy, Running
from web.sandbox_psp.triggers import MAGIC_AMOUNTS
from web.sandbox_psp.work import Sandbox

T = TypeVar("T")
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# Which requests a scripted fault waits for: a name, the method and a part of the path.
TARGETS = {
    "any change": ("POST", ""),
    "confirm": ("POST", "/confirm"),
    "capture": ("POST", "/capture"),
    "cancel": ("POST", "/cancel"),
    "refund": ("POST", "/v1/refunds"),
    "checkout page": ("POST", "/v1/checkout/sessions"),
    "look-up": ("GET", ""),
}
_WEBHOOK_FIELDS = ("loss", "duplicate", "delay", "reorder")
_DELAYS = ("list_delay", "search_delay", "key_window")
_SHARES = {"loss", "duplicate"}


class ControlPage(Controller):
    """The page and its forms; each form comes back to the page."""

    path = "/_sandbox"
    guards = (same_site_only,)

    @get("/", sync_to_thread=False)
    def page(self, sandbox: Sandbox) -> Template:
        """Show the switches, the latest requests and charges."""
        work = sandbox.work()
        rows = work.book.execute("SELECT * FROM requests ORDER BY id DESC LIMIT 25")
        charges = work.book.select("kind = 'charge'", (), limit=25)
        context = {
            "settings": sandbox.settings,
            "down": sandbox.down,
            "waiting": sandbox.scripts.waiting,
            "running": sandbox.policy,
            "keys_valid": credentials.valid(sandbox, work.now),
            "faults": ALL_FAULTS,
            "webhook_words": list(WEBHOOK_WORDS),
            "targets": list(TARGETS),
            "magic": MAGIC_AMOUNTS,
            "requests": [dict(row) for row in rows],
            "charges": [row.body for row in charges],
            "show": money.show,
        }
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"}
        return Template("control.html", context=context, headers=headers)

    @post("/switch")
    async def switch(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier
    ) -> Redirect:
        """Turn one switch of the page."""
        form = await _form(request)
        name, value = form.get("name", ""), form.get("value") == "true"
        if name == "paused":
            await control.change(sandbox, courier, {"webhooks": {"paused": value}})
        elif name in {"poison_cured", "down"}:
            await control.change(sandbox, courier, {name: value, "down_until": 0.0})
        else:
            raise HTTPException(status_code=400, detail="No such switch.")
        return _back({"paused": "travel", "poison_cured": "poison"}.get(name, name))

    @post("/page/outage")
    async def outage(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier, door: Door
    ) -> Redirect:
        """Take the API down."""
        form = await _form(request)
        wish = _read({"mode": form.get("mode"), "seconds": form.get("seconds") or 0}, Outage)
        await control.take_down(sandbox, courier, door, wish)
        return _back("down")

    @post("/page/fault")
    async def fault(self, request: Request[Any, Any, Any], sandbox: Sandbox) -> Redirect:
        """Script the next fault, or take all scripts back."""
        form = await _form(request)
        if form.get("clear"):
            sandbox.scripts.waiting.clear()
            return _back("next")
        if form.get("target") not in TARGETS:
            raise HTTPException(status_code=400, detail="target: no such requests")
        method, path = TARGETS[form["target"]]
        number = form.get("number", "").strip()
        try:
            fault = from_text(form.get("fault", "") + (f"={number}" if number else ""))
            count = min(1000, max(1, int(form.get("count") or 1)))
        except ValueError as error:
            raise HTTPException(status_code=400, detail=f"fault: {error}") from error
        sandbox.scripts.waiting.append(Script(fault=fault, method=method, path=path, count=count))
        return _back("next")

    @post("/page/policy")
    async def policy(self, request: Request[Any, Any, Any], sandbox: Sandbox) -> Redirect:
        """Begin the policy of the form, whose rates are in per cent, or end the one at work."""
        form = await _form(request)
        if form.get("off"):
            sandbox.policy = None
            return _back("policy")
        wish = {
            "seed": form.get("seed") or 0,
            "seconds": form.get("longest") or 1,
            "rates": {name: _share(form[name]) for name in ALL_FAULTS if form.get(name)},
            "webhooks": {
                name: _share(form[f"webhook {name}"])
                for name in WEBHOOK_WORDS
                if form.get(f"webhook {name}")
            },
        }
        sandbox.policy = Running(_read(wish, Policy))
        return _back("policy")

    @post("/page/settings")
    async def settings(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier
    ) -> Redirect:
        """Change how events travel and when things become visible."""
        form = await _form(request)
        wish: dict[str, Any] = {name: _number(form[name]) for name in _DELAYS if form.get(name)}
        webhooks = {
            name: _share(form[name]) if name in _SHARES else _number(form[name])
            for name in _WEBHOOK_FIELDS
            if form.get(name)
        }
        await control.change(sandbox, courier, {**wish, "webhooks": webhooks})
        return _back("travel" if webhooks else "visible")

    @post("/page/keys")
    async def keys(self, request: Request[Any, Any, Any], sandbox: Sandbox) -> Redirect:
        """Revoke or restore the API key."""
        form = await _form(request)
        work = sandbox.work()
        if form.get("action") == "revoke":
            credentials.revoke(work)
        else:
            credentials.restore(work)
        await sandbox.book.durable()
        return _back("keys")

    @post("/page/reset")
    async def reset(self, sandbox: Sandbox, courier: Courier) -> Redirect:
        """End every fault."""
        await control.reset(sandbox, courier)
        return Redirect("/_sandbox", status_code=303)


async def _form(request: Request[Any, Any, Any]) -> dict[str, str]:
    try:
        fields = parse_qs((await request.body()).decode(), max_num_fields=100)
    except ValueError as error:
        raise HTTPException(status_code=400, detail="The form cannot be read.") from error
    return {name: values[-1] for name, values in fields.items()}


def _read(wish: Any, shape: type[T]) -> T:
    try:
        return msgspec.convert(wish, shape, strict=False)
    except ValueError as error:
        raise HTTPException(status_code=400, detail=str(error)) from error


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 10**9:
        raise HTTPException(status_code=400, detail=f"{text[:40]!r} is no number from 0")
    return number


def _share(text: str) -> float:
    return _number(text) / 100


def _back(part: str) -> Redirect:
    return Redirect(f"/_sandbox#{part}", status_code=303)
