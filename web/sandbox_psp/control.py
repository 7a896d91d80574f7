"""The sandbox's own controls: its book, its log, its settings and its faults."""

import time
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from web.sandbox_psp import credentials, delivery, events, reading, refunds
from web.sandbox_psp.config import Settings
from web.sandbox_psp.delivery import Courier
from web.sandbox_psp.door import Door
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.faults import Script
from web.sandbox_psp.policy import Policy, Running
from web.sandbox_psp.work import Sandbox

T = TypeVar("T")
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]


class Outage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How the API fails: 503, the connection cut, no answer ever, or the connection refused.

    `refuse` shuts the whole port, this control API too, so it needs `seconds` and ends itself.
    """

    mode: Literal["503", "drop", "hang", "refuse", "none"]
    seconds: Seconds = 0.0

    def __post_init__(self) -> None:
        if self.mode == "refuse" and not 0 < self.seconds <= 600:
            raise ValueError("refuse needs seconds from 1 to 600")


class Keys(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What becomes of a secret; a new one is made unless it is given."""

    action: Literal["rotate", "revoke", "restore"] = "rotate"
    secret: str | None = None
    overlap: Seconds = 0.0


class Refund(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A refund made by hand; the amount is in minor units, all that is left when absent."""

    payment_intent: str | None = None
    charge: str | None = None
    amount: int | None = None
    reason: str | None = None
    metadata: dict[str, str] = {}


def same_site_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse a change that another site's page asks for."""
    if connection.headers.get("sec-fetch-site", "none") in {"cross-site", "same-site"}:
        raise PermissionDeniedException("This page cannot be used from another site.")


def read_json(body: bytes, shape: type[T]) -> T:
    """Read a JSON body; raises a 400."""
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.DecodeError, ValueError) as error:
        raise HTTPException(status_code=400, detail=str(error)) from error


class Control(Controller):
    """Everything below /_sandbox."""

    path = "/_sandbox"
    guards = (same_site_only,)

    @get("/health", sync_to_thread=False)
    def health(self, sandbox: Sandbox) -> dict[str, Any]:
        """Say that the process serves and whether its API is switched off."""
        return {"status": "ok", "down": sandbox.down}

    @get("/requests", sync_to_thread=False)
    def requests(
        self,
        sandbox: Sandbox,
        key: str | None = None,
        path: str | None = None,
        since: int | None = None,
        limit: int = 1000,
    ) -> list[dict[str, Any]]:
        """Return the log of API requests; see `reading.read_log`."""
        return reading.read_log(sandbox.book, key=key, path=path, since=since, limit=limit)

    @get("/book", sync_to_thread=False)
    def book(
        self,
        sandbox: Sandbox,
        metadata_key: str = "attempt_id",
        since: int | None = None,
        limit: int = 1000,
    ) -> dict[str, Any]:
        """Return the book, or with `since` what changed; see `reading`."""
        if since is not None:
            return reading.read_changes(sandbox, since=since, limit=limit)
        return reading.read_book(sandbox, metadata_key)

    @get("/deliveries", sync_to_thread=False)
    def deliveries(self, sandbox: Sandbox) -> list[dict[str, object]]:
        """Return the newest deliveries of events."""
        return delivery.listing(sandbox)

    @get("/settings", sync_to_thread=False)
    def get_settings(self, sandbox: Sandbox) -> dict[str, Any]:
        """Return the settings."""
        return dict(msgspec.to_builtins(sandbox.settings))

    @post("/settings", status_code=200)
    async def set_settings(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier
    ) -> dict[str, Any]:
        """Change some settings."""
        return await change(sandbox, courier, read_json(await request.body(), dict[str, Any]))

    @post("/poison", status_code=200)
    async def poison(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier
    ) -> dict[str, Any]:
        """Say whether the cause of `pm_fault_poison` is cured; by JSON or by the page's form."""
        if "json" in request.headers.get("content-type", "json"):
            wish = read_json(await request.body(), dict[str, bool])
            return await change(sandbox, courier, {"poison_cured": wish.get("cured", False)})
        raise HTTPException(status_code=415, detail="Send JSON.")

    @get("/faults", sync_to_thread=False)
    def get_faults(self, sandbox: Sandbox) -> list[Script]:
        """Return the faults that are still to strike."""
        return sandbox.scripts.waiting

    @post("/faults", status_code=200)
    async def add_fault(self, request: Request[Any, Any, Any], sandbox: Sandbox) -> list[Script]:
        """Add a fault for the next requests; an empty list takes all back."""
        body = await request.body()
        if body.strip() == b"[]":
            sandbox.scripts.waiting.clear()
        else:
            sandbox.scripts.waiting.append(read_json(body, Script))
        return sandbox.scripts.waiting

    @get("/policy", sync_to_thread=False)
    def get_policy(self, sandbox: Sandbox) -> dict[str, Any]:
        """Return the policy at work and how often each of its faults struck; null when off."""
        return _policy(sandbox)

    @post("/policy", status_code=200)
    async def set_policy(self, request: Request[Any, Any, Any], sandbox: Sandbox) -> dict[str, Any]:
        """Begin a policy from its seed; `null` ends the one at work."""
        wish = read_json(await request.body(), Policy | None)  # type: ignore[arg-type]  # A union is no type.
        sandbox.policy = None if wish is None else Running(wish)
        return _policy(sandbox)

    @post("/outage", status_code=200)
    async def outage(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier, door: Door
    ) -> dict[str, Any]:
        """Take the API down, for `seconds` or (0) until it is brought up; `none` brings it up."""
        wish = read_json(await request.body(), Outage)
        await take_down(sandbox, courier, door, wish)
        return {"down": sandbox.down, "mode": wish.mode, "seconds": wish.seconds}

    @post("/keys", status_code=200)
    async def keys(self, request: Request[Any, Any, Any], sandbox: Sandbox) -> dict[str, Any]:
        """Revoke every API key, rotate to another one, or restore the first.

        `rotate` answers the new `secret_key`; the old one lasts `overlap` seconds.
        """
        wish = read_json(await request.body(), Keys)
        work = sandbox.work()
        made: dict[str, Any] = {}
        if wish.action == "revoke":
            credentials.revoke(work)
        elif wish.action == "restore":
            credentials.restore(work)
        else:
            key = credentials.rotate(work, key=wish.secret, overlap=wish.overlap)
            made = {"secret_key": key}
        await sandbox.book.durable()
        return {**credentials.describe(sandbox, work.now), **made}

    @post("/webhook_secret", status_code=200)
    async def webhook_secret(
        self, request: Request[Any, Any, Any], sandbox: Sandbox
    ) -> dict[str, Any]:
        """Rotate the secret of the endpoints given at start; both sign for `overlap` seconds."""
        wish = read_json(await request.body(), Keys)
        secret = credentials.rotate_webhook_secret(
            sandbox.work(), secret=wish.secret, overlap=wish.overlap
        )
        await sandbox.book.durable()
        return {"webhook_secret": secret, "overlap": wish.overlap}

    @post("/reset", status_code=200)
    async def reset(self, sandbox: Sandbox, courier: Courier) -> dict[str, Any]:
        """End every fault and take all settings back; the book stays."""
        await reset(sandbox, courier)
        return dict(msgspec.to_builtins(sandbox.settings))

    @post("/endpoints", status_code=200)
    async def add_endpoint(
        self, request: Request[Any, Any, Any], sandbox: Sandbox
    ) -> dict[str, Any]:
        """Register an address for events, with the process's secret unless another is given."""
        wish = read_json(await request.body(), dict[str, str])
        secret = wish.get("secret") or sandbox.config.webhook_secret
        endpoint = events.add_endpoint(sandbox.work(), wish.get("url", ""), secret)
        await sandbox.book.durable()
        return endpoint.body

    @post("/refund", status_code=200)
    async def refund(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier
    ) -> dict[str, Any]:
        """Refund a charge as if somebody did it by hand at the provider."""
        wish = read_json(await request.body(), Refund)
        work = sandbox.work()
        charge_id = wish.charge
        if wish.payment_intent is not None:
            intent = work.need("payment_intent", wish.payment_intent)
            charge_id = intent.body["latest_charge"]
        with work.book.whole():
            made = refunds.make(
                work,
                work.need("charge", charge_id or ""),
                wish.amount,
                reason=wish.reason,
                metadata=wish.metadata,
            )
        await sandbox.book.durable()
        courier.wake()
        return made.body

    @post("/refund_fail", status_code=200)
    async def refund_fail(
        self, request: Request[Any, Any, Any], sandbox: Sandbox, courier: Courier
    ) -> dict[str, Any]:
        """Take a refund back, as a bank may do days later."""
        wish = read_json(await request.body(), dict[str, str])
        work = sandbox.work()
        with work.book.whole():
            refund = work.need("refund", wish.get("refund", ""))
            refunds.fail(work, refund, wish.get("reason", "lost_or_stolen_card"))
        await sandbox.book.durable()
        courier.wake()
        return refund.body


async def change(sandbox: Sandbox, courier: Courier, wish: dict[str, Any]) -> dict[str, Any]:
    """Change settings for good; raises a 400 that names what is wrong."""
    try:
        sandbox.change_settings(wish)
    except msgspec.ValidationError as error:
        raise HTTPException(status_code=400, detail=str(error)) from error
    await sandbox.book.durable()
    courier.wake()
    return dict(msgspec.to_builtins(sandbox.settings))


def _policy(sandbox: Sandbox) -> dict[str, Any]:
    running = sandbox.policy
    if running is None:
        return {"policy": None, "struck": {}}
    return {"policy": msgspec.to_builtins(running.policy), "struck": dict(running.struck)}


async def take_down(sandbox: Sandbox, courier: Courier, door: Door, wish: Outage) -> None:
    """Begin or end an outage."""
    if wish.mode == "refuse":
        door.shut_for(wish.seconds)
        return
    if wish.mode == "none":
        await change(sandbox, courier, {"down": False, "down_until": 0.0})
        return
    until = time.time() + wish.seconds if wish.seconds else 0.0
    await change(sandbox, courier, {"down": True, "down_mode": wish.mode, "down_until": until})


async def reset(sandbox: Sandbox, courier: Courier) -> None:
    """End every fault and take all settings back; the book stays."""
    sandbox.policy = None
    sandbox.scripts.waiting.clear()
    credentials.restore(sandbox.work())
    await change(sandbox, courier, msgspec.to_builtins(Settings()))


def api_refused(_: Request[Any, Any, Any], error: ApiError) -> Response[dict[str, Any]]:
    """Answer a refusal of an operation in the control API."""
    return Response({"error": error.error}, status_code=error.status)
