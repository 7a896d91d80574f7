"""The PSP at the adapter's port: how requests travel, get lost, come late, and what is answered."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from app.psp.port import Adapter, AttemptKind, Class, Limits, PspEvent, RefundSeen, Request, Result
from app.psp.registry import Connections
from app.psp.stripe import events
from tests.simulation.book import KEYS_KEPT, WEBHOOK_SECRET, Intent, Logged, Refund, Refusal

if TYPE_CHECKING:
    from tests.simulation.process import Process

_STEPS: dict[AttemptKind, tuple[str, ...]] = {
    "checkout": ("create",),
    "charge": ("create", "confirm"),
    "capture": ("capture",),
    "void": ("cancel",),
    "refund": ("create",),
}
_UNCHANGED: dict[str, set[str]] = {
    "capture": {"authorized"},
    "void": {"authorized", "open", "next"},
}
_HELD = timedelta(hours=1)
_ENDS = {"succeeded", "authorized", "closed", "mismatch"}


class OurBug(Exception):
    """Something in our own code broke around the call."""


class SimConnections(Connections):
    """The sandbox connection of one process, answered by the world's book."""

    def __init__(self, process: "Process", settings: Any, clock: Any) -> None:
        super().__init__(settings, clock)
        self._adapter = SimAdapter(process, settings.deadlines)

    def _make(self, connection_id: str) -> Adapter:
        return self._adapter


class SimAdapter:
    """Behaves as the port demands, over a network that the seed spoils."""

    name = "sandbox"
    livemode = False
    key_window = timedelta(hours=23)

    def __init__(self, process: "Process", deadlines: Any) -> None:
        self._process = process
        self._world = process.world
        self._book = process.world.book
        self._deadlines = deadlines

    def limits(self, currency: str) -> Limits | None:
        return Limits(1, 10**12 - 1)

    def steps(self, kind: AttemptKind) -> tuple[str, ...]:
        return _STEPS[kind]

    async def send(self, step: str, request: Request, *, key: str, reference: str | None) -> Result:
        if not key:
            raise ValueError("every request that changes something has a key")
        line = self._log(step, request, key, reference)
        self._world.meanwhile(self._process)
        result = await self._sent(line, step, request, key, reference)
        line.answered = result.cls
        return result

    async def _sent(
        self, line: Logged, step: str, request: Request, key: str, reference: str | None
    ) -> Result:
        hit, book, random = self._world.faults.hit, self._book, self._world.random
        await asyncio.sleep(self._world.travel())
        if book.away == "refuses" or hit("psp.refused_connection", step):
            return Result(cls="not_sent", message="Connection refused.")
        if hit("psp.unauthorized", step):
            return Result(cls="not_sent", unauthorized=True, http_status=401)
        if hit("psp.busy", step):
            later = random.choice((None, 1.0, 30.0))
            return Result(cls="busy", http_status=429, retry_after=later)
        if hit("psp.rejected", step) and key not in book.keys:
            return Result(cls="rejected", code="invalid_request_error", message="No.")
        if hit("psp.our_bug", step):
            raise OurBug("before the request")
        deadline = float(getattr(self._deadlines, _deadline_of(step, request.kind)))
        if book.away == "hangs" or hit("psp.lost_before", step):
            await asyncio.sleep(deadline)
            return Result(cls="unknown", message="No answer in time.")
        if book.away == "errors" or hit("psp.error_before", step):
            return Result(cls="unknown", http_status=503)
        reply: asyncio.Future[Result] = self._world.loop.create_future()
        self._world.outside(self._served(reply, line, step, request, key, reference))
        try:
            async with asyncio.timeout(deadline):
                result = await reply
        except TimeoutError:
            return Result(cls="unknown", message="No answer in time.")
        if hit("psp.our_bug", step):
            raise OurBug("after the answer")
        return result

    async def _served(
        self,
        reply: "asyncio.Future[Result]",
        line: Logged,
        step: str,
        request: Request,
        key: str,
        reference: str | None,
    ) -> None:
        """Play the PSP's side: it goes on whatever becomes of who asked."""
        hit, random = self._world.faults.hit, self._world.random
        arrived, lost = self._book.now(), hit("psp.lost_after", step)
        broken = hit("psp.error_after", step)
        if hit("psp.late_effect", step):
            # The connection broke, yet the request lies in a queue at the PSP.
            _answer(reply, Result(cls="unknown", message="Connection reset."))
            self._book.in_flight.add(key)
            await asyncio.sleep(random.uniform(20, 90))
            self._book.in_flight.discard(key)
        if hit("psp.slow", step):
            await asyncio.sleep(random.uniform(2, 40))
        if self._book.now() - arrived > _HELD:
            return  # Hours passed at once: a PSP would have given it up long ago.
        result = self._carried_out(line, step, request, key, reference)
        first = hit("event.first")
        await asyncio.sleep(random.uniform(1, 6) if first else self._world.travel())
        if lost:
            result = Result(cls="unknown", message="Connection reset.")
        elif broken:
            result = Result(cls="unknown", http_status=502)
        _answer(reply, result)

    def _carried_out(
        self, line: Logged, step: str, request: Request, key: str, reference: str | None
    ) -> Result:
        book, now = self._book, self._book.now()
        if key in book.in_flight:
            line.effect = "refused"
            return Result(cls="busy", http_status=409)
        known = book.keys.get(key)
        if known is not None and now - known[1] < KEYS_KEPT:
            if known[0] != line.parameters:
                line.effect = "refused"
                return Result(cls="mismatch", http_status=400, code="idempotency_error")
            line.effect = "replayed"
            return self._word(known[2], request)
        kept = self._world.faults.hit("psp.error_kept", step)
        try:
            answer: Any = book.do(step, request, reference)
            line.effect = "done"
        except Refusal as refusal:
            answer, line.effect = str(refusal), "refused"
        if kept:
            answer = Result(cls="unknown", http_status=500, resend=False)
        book.keys[key] = (line.parameters, now, answer)
        return self._word(answer, request)

    def _word(self, answer: Any, request: Request) -> Result:
        """Put an answer in the port's words; a refusal by the object's state is looked up."""
        if isinstance(answer, Result):
            return msgspec.structs.replace(answer)
        if isinstance(answer, Refund):
            return _of_refund(answer)
        if isinstance(answer, Intent):
            return self._seen(answer)
        found = self._found(request, None if request.kind == "refund" else request.psp_reference)
        telling = {"succeeded", "authorized", "pending", "closed", "declined", "mismatch"}
        if found.cls in telling and answer != "resource_missing":
            return found
        return Result(cls="rejected", code=answer, message="No.", http_status=400)

    def _seen(self, intent: Intent) -> Result:
        common: dict[str, Any] = {
            "attempt_id": intent.attempt_id,
            "installation": intent.installation,
            "session_reference": intent.session,
            "currency": intent.currency,
            "amount": intent.amount,
            "livemode": False,
            "code": intent.code,
        }
        words: dict[str, Class] = {
            "open": "open",
            "requires_confirmation": "next",
            "processing": "pending",
            "canceled": "closed",
            "declined": "declined",
            "requires_capture": "authorized",
            "succeeded": "succeeded",
        }
        cls = words[intent.status]
        if cls == "open":
            url = f"https://psp.example/pay/{intent.session}"
            return Result(cls=cls, page_url=url, page_expires_at=intent.page_ends, **common)
        if cls != "succeeded":
            return Result(cls=cls, psp_reference=intent.id, **common)
        known = intent.fee_at is not None and intent.fee_at <= self._book.now()
        return Result(
            cls=cls,
            psp_reference=intent.id,
            amount_captured=intent.captured,
            fee=29 if known else None,
            fee_currency=intent.currency if known else None,
            balance_transaction=f"txn_{intent.id}" if known else None,
            **common,
        )

    async def look_up(self, request: Request, *, reference: str | None) -> Result:
        line = self._log("lookup", request, None, reference)
        result: Result = await self._asked(lambda: self._found(request, reference))
        line.answered = result.cls
        return result

    async def _asked(self, look: Any) -> Any:
        hit, book = self._world.faults.hit, self._book
        await asyncio.sleep(self._world.travel())
        if book.away == "hangs":
            await asyncio.sleep(self._deadlines.lookup)
        if book.away == "refuses":
            raw = {"look_up": "not_sent"}
            return Result(cls="unknown", resend=False, message="Connection refused.", raw=raw)
        failed = book.away or hit("psp.refused_connection", "look-up")
        if failed or hit("psp.busy", "look-up") or hit("psp.error_before", "look-up"):
            return Result(cls="unknown", resend=False, message="The look-up failed.")
        if hit("psp.slow", "look-up"):
            await asyncio.sleep(self._deadlines.lookup)
            return Result(cls="unknown", resend=False, message="No answer in time.")
        book.expire_pages()
        seen = look()
        await asyncio.sleep(self._world.travel())
        return seen

    def _found(self, request: Request, reference: str | None) -> Result:
        book = self._book
        if request.kind == "refund":
            return self._found_refund(request, reference)
        known = request.psp_reference if request.kind in {"capture", "void"} else reference
        intent = book.find(known) if known is not None else book.listed(request.attempt_id)
        if intent is None:
            return Result(cls="not_found")
        seen = self._seen(intent)
        if seen.cls in _UNCHANGED.get(request.kind, set()):
            by_page = request.psp_reference == intent.session and seen.cls == "authorized"
            seen.cls = seen.cls if by_page else "next"
        if seen.cls == "succeeded":
            seen.refunds = [one.seen() for one in intent.refunds]
        return seen

    def _found_refund(self, request: Request, reference: str | None) -> Result:
        intent = self._book.find(request.psp_reference)
        now = self._book.now()
        for one in intent.refunds if intent is not None else ():
            by_id = reference is not None and one.id == reference
            if by_id or (one.attempt_id == request.attempt_id and one.listed_at <= now):
                return _of_refund(one)
        return Result(cls="not_found")

    async def look_up_refunds(self, reference: str) -> list[RefundSeen] | Result:
        def look() -> list[RefundSeen]:
            intent, now = self._book.find(reference), self._book.now()
            made = intent.refunds if intent is not None else []
            return [one.seen() for one in made if one.listed_at <= now]

        seen: list[RefundSeen] | Result = await self._asked(look)
        return seen

    async def close_out(self, request: Request, *, key: str, reference: str) -> Result:
        before = await self.look_up(request, reference=reference)
        if before.cls in _ENDS:
            return before
        line = self._log("close", request, key, reference)

        def close() -> Result:
            intent = self._book.find(reference)
            if intent is None:
                return Result(cls="rejected", code="resource_missing")
            try:
                self._book.cancel(intent)
                line.effect = "done"
            except Refusal:
                line.effect = "refused"
            return self._seen(intent)

        result: Result = await self._asked(close)
        line.answered = result.cls
        return result

    async def fee(self, reference: str) -> Result:
        def look() -> Result:
            intent = self._book.find(reference)
            return self._seen(intent) if intent is not None else Result(cls="unknown")

        result: Result = await self._asked(look)
        return result

    def verify_event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> PspEvent:
        return events.verify_event(body, headers, now, (WEBHOOK_SECRET,))

    async def healthy(self) -> bool:
        return self._book.away is None

    async def close(self) -> None:
        return None

    def _log(self, step: str, request: Request, key: str | None, reference: str | None) -> Logged:
        raw = msgspec.json.encode([step, reference if step == "confirm" else None, request])
        line = Logged(
            at=self._book.now(),
            step=step,
            attempt_id=request.attempt_id,
            payment_id=request.payment_id,
            kind=request.kind,
            key=key,
            parameters=hashlib.sha256(raw).hexdigest(),
        )
        self._book.log.append(line)
        self._world.note("psp", f"is asked: {request.kind} {step} {request.attempt_id[-6:]}")
        return line


def _answer(reply: "asyncio.Future[Result]", result: Result) -> None:
    if not reply.done():
        reply.set_result(result)


def _deadline_of(step: str, kind: str) -> str:
    names = {"cancel": "void", "create": "refund" if kind == "refund" else "create"}
    return names.get(step, step)


def _of_refund(refund: Refund) -> Result:
    words: dict[str, Class] = {"failed": "declined", "pending": "pending", "succeeded": "succeeded"}
    return Result(
        cls=words[refund.status],
        psp_reference=refund.id,
        amount=refund.amount,
        currency=refund.currency,
        attempt_id=refund.attempt_id,
        code="refund_failed" if refund.status == "failed" else None,
    )
