"""Stripe as a port: which request each step is, and what its answer means."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from app.psp.port import (
    AttemptKind,
    Limits,
    PspEvent,
    RefundSeen,
    Request,
    Result,
)
from app.psp.stripe import amounts, events, finding, parameters, results
from app.psp.stripe.client import Client, Send
from app.psp.stripe.exchange import Exchange, classify, garbled
from app.psp.stripe.finding import LookUpFailedError
from app.psp.stripe.objects import GarbledError, Intent, Refund, Session, convert, read, read_any
from app.settings import Deadlines

_STEPS: dict[AttemptKind, tuple[str, ...]] = {
    "checkout": ("create",),
    "charge": ("create", "confirm"),
    "capture": ("capture",),
    "void": ("cancel",),
    "refund": ("create",),
}
# Refusals by the object's state: an earlier send, or somebody else, may have brought it there.
_STATE_CODES = {
    "payment_intent_unexpected_state",
    "intent_invalid_state",
    "charge_already_captured",
    "charge_already_refunded",
    "charge_expired_for_capture",
    "checkout_session_not_open",
}
_TELLING = {"succeeded", "authorized", "pending", "closed", "declined", "mismatch", "unknown"}


class StripeAdapter:
    """One Stripe account, or a sandbox that speaks its wire format at another address."""

    key_window = timedelta(hours=23)  # Stripe keeps keys for at least 24 hours.

    def __init__(
        self,
        *,
        name: str,
        livemode: bool,
        secret_key: str,
        webhook_secret: str,
        base_url: str | None,
        deadlines: Deadlines,
        clock: Callable[[], datetime],
    ) -> None:
        self.name = name
        self.livemode = livemode
        self._secrets = tuple(part.strip() for part in webhook_secret.split(",") if part.strip())
        self._deadlines = deadlines
        self._clock = clock
        self._client = Client(
            secret_key=secret_key, base_url=base_url, deadlines=deadlines, clock=clock
        )

    def limits(self, currency: str) -> Limits | None:
        """Return what Stripe accepts in a currency; None when it does not take it."""
        return amounts.limits(currency)

    def steps(self, kind: AttemptKind) -> tuple[str, ...]:
        """Return the mutating steps of an attempt, in order."""
        return _STEPS[kind]

    async def send(self, step: str, request: Request, *, key: str, reference: str | None) -> Result:
        """Do one step under an idempotency key. Raises ValueError for a step of another kind."""
        if step not in _STEPS[request.kind]:
            raise ValueError(f"{request.kind} has no step {step!r}")
        # What an attempt acts on is frozen with it: a replay must not wander to another object.
        target = (reference if step == "confirm" else request.psp_reference) or ""
        if refused := _unusable(step, request, target):
            return refused
        try:
            call = _call(step, request, target)
        except amounts.NotRepresentableError as error:
            return Result(cls="rejected", code="amount_not_representable", message=str(error))
        deadline = self._deadline(step, request.kind)
        result = self._judge(await self._client.post(call, key=key, deadline=deadline), request)
        if result.cls == "rejected" and (result.code in _STATE_CODES or step == "cancel"):
            return await self._after_refusal(result, request, target)
        return result

    async def look_up(self, request: Request, *, reference: str | None) -> Result:
        """Find out what became of an attempt; see the port for what `next` and `unknown` say."""
        try:
            return await self._look_up(request, reference)
        except LookUpFailedError as failed:
            return _failed_look_up(failed.result)

    async def look_up_refunds(self, reference: str) -> list[RefundSeen] | Result:
        """List the refunds of a charge by its intent."""
        try:
            return await self._refunds(reference)
        except LookUpFailedError as failed:
            return _failed_look_up(failed.result)

    async def close_out(self, request: Request, *, key: str, reference: str) -> Result:
        """Cancel the intent or expire the session, unless it was paid already."""
        before = await self.look_up(request, reference=reference)
        if before.cls in {"succeeded", "authorized", "closed", "mismatch"}:
            return before
        call = _close(reference)
        deadline = self._deadlines.void
        result = self._judge(await self._client.post(call, key=key, deadline=deadline), request)
        if result.cls == "rejected":
            return await self._after_refusal(result, request, reference)
        return result

    async def fee(self, reference: str) -> Result:
        """Look up Stripe's own fee of an intent's charge."""
        exchange = await self._client.get(_retrieve_intent(reference))
        if not exchange.answered or exchange.body is None:
            return _failed_look_up(classify(exchange))
        try:
            intent = read(exchange.body, Intent)
        except GarbledError as error:
            return _failed_look_up(garbled(exchange, str(error)))
        return results.of_fee(intent)

    def verify_event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> PspEvent:
        """Verify and read a received event. Raises EventRefused for anything but a true one."""
        return events.verify_event(body, headers, now, self._secrets)

    async def healthy(self) -> bool:
        """Tell whether Stripe answers at all."""

        async def send(services: Any, options: dict[str, Any]) -> Any:
            return await services.accounts.retrieve_current_async(options=options)

        exchange = await self._client.get(send)
        return exchange.body is not None and (exchange.status or 500) < 500

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    def _deadline(self, step: str, kind: AttemptKind) -> float:
        names = {"cancel": "void", "create": "refund" if kind == "refund" else "create"}
        return float(getattr(self._deadlines, names.get(step, step)))

    def _judge(self, exchange: Exchange, request: Request) -> Result:
        """Classify the answer to a request that changes something or retrieves one object."""
        if not exchange.answered or exchange.body is None:
            return classify(exchange)
        try:
            result = self._meaning(read_any(exchange.body), request)
        except GarbledError as error:
            return garbled(exchange, str(error))
        result.http_status = exchange.status
        result.request_id = exchange.headers.get("request-id")
        return result

    def _meaning(self, found: Intent | Session | Refund, request: Request) -> Result:
        if isinstance(found, Refund) != (request.kind == "refund"):
            raise GarbledError("the answer is another object than was asked for")
        if isinstance(found, Refund):
            return results.of_refund(found, request)
        if isinstance(found, Session):
            return results.of_session(found, request, livemode=self.livemode)
        return results.of_intent(found, request, livemode=self.livemode)

    async def _after_refusal(self, refused: Result, request: Request, reference: str) -> Result:
        """Let the object's state decide what a refusal by its state means."""
        known = None if request.kind == "refund" else reference
        found = await self.look_up(request, reference=known)
        return found if found.cls in _TELLING else refused

    async def _look_up(self, request: Request, reference: str | None) -> Result:
        known = reference
        if request.kind in {"capture", "void"}:
            known = request.psp_reference
        if known is None:
            known = await self._find(request)
        if known is None:
            return Result(cls="not_found")
        result = await self._retrieve(request, known)
        if request.kind == "checkout" and result.cls == "open" and known.startswith("pi_"):
            # Whether the page can still be paid is not the intent's to tell.
            known = await self._find(request)
            return await self._retrieve(request, known) if known else Result(cls="not_found")
        return result

    async def _retrieve(self, request: Request, known: str) -> Result:
        exchange = await self._client.get(_retrieve(known))
        if exchange.status == 404 and classify(exchange).cls == "rejected":
            return Result(cls="not_found", http_status=404)
        result = self._judge(exchange, request)
        if not exchange.answered or result.cls == "unknown":
            raise LookUpFailedError(result)
        # Whatever was asked about the charge: this may be the first that is heard of its money.
        paid = request.kind != "refund" and result.cls == "succeeded"
        if paid and result.raw.get("amount_refunded") != 0:
            result.refunds = await self._refunds(result.psp_reference or "")
        return result

    async def _find(self, request: Request) -> str | None:
        if request.kind != "refund":
            service = "checkout.sessions" if request.kind == "checkout" else "payment_intents"
            return await finding.find(self._client, service, request, self._clock())
        listed = finding.pages(self._client, "refunds", payment_intent=request.psp_reference)
        async for entry in listed:
            if finding.is_ours(entry, request):
                return str(entry["id"])
        return None

    async def _refunds(self, reference: str) -> list[RefundSeen]:
        expand = parameters.EXPAND_REFUNDS
        listed = finding.pages(self._client, "refunds", payment_intent=reference, expand=expand)
        try:
            return [results.seen(convert(entry, Refund)) async for entry in listed]
        except (GarbledError, amounts.NotRepresentableError) as error:
            raise LookUpFailedError(Result(cls="unknown", message=str(error))) from error


def _unusable(step: str, request: Request, target: str) -> Result | None:
    """Refuse a reference that the step cannot act on, before anything is sent."""
    if request.kind == "void":
        wanted: tuple[str, ...] = ("pi_", "cs_")
    elif request.kind in {"capture", "refund"} or step == "confirm":
        wanted = ("pi_",)
    else:
        return None
    if target.startswith(wanted):
        return None
    return Result(cls="rejected", code="reference_unusable", message=f"{step} of {target!r}")


def _call(step: str, request: Request, target: str) -> Send:
    """Return the library call of a step. Raises NotRepresentableError."""
    if step == "cancel":
        return _close(target)
    if step == "confirm":
        confirm = parameters.confirm()
        return lambda v1, o: v1.payment_intents.confirm_async(target, params=confirm, options=o)
    if step == "capture":
        capture = parameters.capture(request)
        return lambda v1, o: v1.payment_intents.capture_async(target, params=capture, options=o)
    if request.kind == "refund":
        refund = parameters.refund(request)
        return lambda v1, o: v1.refunds.create_async(params=refund, options=o)
    if request.kind == "checkout":
        session = parameters.session(request)
        return lambda v1, o: v1.checkout.sessions.create_async(params=session, options=o)
    intent = parameters.intent(request)
    return lambda v1, o: v1.payment_intents.create_async(params=intent, options=o)


def _close(target: str) -> Send:
    if target.startswith("cs_"):
        return lambda v1, o: v1.checkout.sessions.expire_async(target, options=o)
    return lambda v1, o: v1.payment_intents.cancel_async(target, options=o)


def _retrieve(target: str) -> Send:
    if target.startswith("cs_"):
        session = {"expand": parameters.EXPAND_SESSION}
        return lambda v1, o: v1.checkout.sessions.retrieve_async(target, params=session, options=o)
    if target.startswith("pi_"):
        return _retrieve_intent(target)
    refund = {"expand": parameters.EXPAND_REFUND}
    return lambda v1, o: v1.refunds.retrieve_async(target, params=refund, options=o)


def _retrieve_intent(target: str) -> Send:
    params = {"expand": parameters.EXPAND_INTENT}
    return lambda v1, o: v1.payment_intents.retrieve_async(target, params=params, options=o)


def _failed_look_up(result: Result) -> Result:
    """Return a look-up's own failure so that nobody takes it for the attempt's outcome."""
    result.raw = {**result.raw, "look_up": result.cls}
    result.cls = "unknown"
    result.resend = False
    return result
