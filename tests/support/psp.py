"""A PSP in memory with its own book; a test scripts how its next calls go wrong."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from app.psp.port import (
    Adapter,
    AttemptKind,
    EventRefused,
    Limits,
    PspEvent,
    RefundSeen,
    Request,
    Result,
)
from app.psp.registry import Connections
from app.settings import Settings

_CANCELABLE = {"requires_capture", "requires_confirmation"}


class BookConnections(Connections):
    """The sandbox connection, answered by a book in memory."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        super().__init__(settings, clock)
        self.book = BookPsp()

    def _make(self, connection_id: str) -> Adapter:
        return self.book


class Charge(msgspec.Struct, kw_only=True):
    """An intent of the book."""

    id: str
    attempt_id: str
    installation: str
    amount: int
    currency: str
    capture_method: str
    session: str | None = None
    status: str = "requires_confirmation"
    captured: int = 0
    refunds: dict[str, RefundSeen] = {}
    page_ends: datetime | None = None
    declined: str | None = None  # The last decline on the page.


class BookPsp:
    """Behaves as Stripe does where it matters: keys replay, refunds cannot exceed the charge.

    `script` holds what happens to the next calls: `lost` (done, reply lost), `never` (not done,
    no reply), `not_sent`, `busy`, `unauthorized`, `declined`, `rejected`, `pending` (the PSP
    decides later), or `ok`. Empty: everything works. `looks` does the same for
    look-ups: `lost`, `unauthorized` or `ok`.
    `amounts` holds what is done in place of the amount that is asked for, by kind of attempt.
    `meanwhile` is awaited in the middle of the next mutating call: what else happens just then;
    `while_looking` the same of the next look-up.
    """

    name = "sandbox"
    livemode = False
    key_window = timedelta(hours=23)

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}
        self.answers: dict[str, Result] = {}
        self.script: deque[str] = deque()
        self.looks: deque[str] = deque()
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.while_looking: Callable[[], Awaitable[object]] | None = None
        self.amounts: dict[AttemptKind, int] = {}
        self.retry_after: float | None = None  # What a busy PSP asks for, in seconds.
        self.step = 1  # Amounts are multiples of it.
        self.least, self.most = 1, 10**12 - 1
        self.pages_end = False  # Whether pages tell when they end.
        self.requests: list[tuple[str, str | None, Request]] = []

    def limits(self, currency: str) -> Limits | None:
        return None if currency == "kpw" else Limits(self.least, self.most, self.step)

    def steps(self, kind: AttemptKind) -> tuple[str, ...]:
        return {
            "checkout": ("create",),
            "charge": ("create", "confirm"),
            "capture": ("capture",),
            "void": ("cancel",),
            "refund": ("create",),
        }[kind]

    async def send(self, step: str, request: Request, *, key: str, reference: str | None) -> Result:
        assert key, "every mutating call has a key"
        self.requests.append((step, key, request))
        fault = self.script.popleft() if self.script else "ok"
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(0)  # Bytes on their way: a cut here is before the effect.
        answer = self._answer(step, request, key, reference, fault)
        await asyncio.sleep(0)  # And here it is after it.
        return answer

    def _answer(
        self, step: str, request: Request, key: str, reference: str | None, fault: str
    ) -> Result:
        if fault == "unauthorized":
            return Result(cls="not_sent", unauthorized=True, message="Invalid key.")
        if fault in {"never", "not_sent", "busy"}:
            later = self.retry_after if fault == "busy" else None
            word = {"never": "unknown"}.get(fault, fault)
            return Result(cls=word, message=fault, retry_after=later)  # type: ignore[arg-type] # A word of the port.
        if key not in self.answers:
            if fault == "declined":
                self._decline(reference)
                result = Result(cls="declined", code="card_declined", psp_reference=reference)
            elif fault == "rejected":
                return Result(cls="rejected", code="invalid_request_error", message="No.")
            elif fault == "pending":
                result = self._later(request, reference)
            else:
                result = self._do(step, request, reference)
            self.answers[key] = result
        if fault == "lost":
            return Result(cls="unknown", message="The reply was lost.")
        return msgspec.convert(msgspec.to_builtins(self.answers[key]), Result)

    def _later(self, request: Request, reference: str | None) -> Result:
        if request.kind == "refund":
            made = self._refund(request, status="pending")
            made.cls = "pending" if made.cls == "succeeded" else made.cls
            return made
        charge = self._charge(reference)
        charge.status = "processing"
        return self._seen(charge)

    def _decline(self, reference: str | None) -> None:
        if reference in self.charges:
            self.charges[reference].status = "declined"

    def _do(self, step: str, request: Request, reference: str | None) -> Result:
        if request.kind == "refund":
            return self._refund(request)
        if request.kind in {"charge", "checkout"} and step == "create":
            charge = Charge(
                id=f"pi_{len(self.charges) + 1}_{request.attempt_id[-8:]}",
                attempt_id=request.attempt_id,
                installation=request.installation,
                amount=self._amount(request),
                currency=request.currency,
                capture_method=request.capture_method,
            )
            self.charges[charge.id] = charge
            if request.kind == "charge":
                return Result(cls="next", psp_reference=charge.id)
            charge.session, charge.status = f"cs_{charge.id}", "open"
            charge.page_ends = request.expires_at if self.pages_end else None
            return self._seen(charge)
        charge = self._charge(reference)
        if step == "confirm":
            self._take(charge)
        elif step == "capture":
            if charge.status != "requires_capture":
                return Result(cls="rejected", code="wrong_state", message="Not held.")
            charge.status, charge.captured = "succeeded", self._amount(request)
        elif step == "cancel":
            ended = {"open"} if reference == charge.session else {"open", *_CANCELABLE}
            if charge.status not in ended:
                return Result(cls="rejected", code="wrong_state", message="Too late.")
            charge.status = "canceled"
        return self._seen(charge)

    def _amount(self, request: Request) -> int:
        return self.amounts.get(request.kind, request.amount)

    def _refund(
        self, request: Request, status: Literal["pending", "succeeded"] = "succeeded"
    ) -> Result:
        charge = self._charge(request.psp_reference)
        back = sum(one.amount for one in charge.refunds.values() if one.status != "failed")
        if back + request.amount > charge.captured:
            return Result(cls="rejected", code="too_much", message="More than the charge.")
        seen = RefundSeen(
            psp_reference=f"re_{charge.id}_{len(charge.refunds) + 1}",
            amount=self._amount(request),
            currency=request.currency,
            status=status,
            attempt_id=request.attempt_id,
            installation=request.installation,
        )
        charge.refunds = charge.refunds | {seen.psp_reference: seen}
        return Result(
            cls="succeeded",
            psp_reference=seen.psp_reference,
            amount=seen.amount,
            currency=seen.currency,
            attempt_id=seen.attempt_id,
        )

    def _charge(self, reference: str | None) -> Charge:
        for charge in self.charges.values():
            if reference in {charge.id, charge.session}:
                return charge
        raise AssertionError(f"the book has no {reference}")

    def _take(self, charge: Charge) -> None:
        if charge.status in {"succeeded", "requires_capture"}:
            return
        if charge.capture_method == "manual":
            charge.status = "requires_capture"
        else:
            charge.status, charge.captured = "succeeded", charge.amount

    def pay(self, payment_attempt_id: str) -> Charge:
        """Play the customer: pay on the page."""
        charge = next(c for c in self.charges.values() if c.attempt_id == payment_attempt_id)
        assert charge.status == "open"
        self._take(charge)
        return charge

    def change_refund(self, status: Literal["pending", "succeeded", "failed"]) -> RefundSeen:
        """Play the bank: decide on the only refund of the only charge."""
        (charge,) = self.charges.values()
        (seen,) = charge.refunds.values()
        changed = msgspec.structs.replace(seen, status=status)
        charge.refunds = {changed.psp_reference: changed}
        return changed

    def _seen(self, charge: Charge) -> Result:
        common: dict[str, Any] = {
            "attempt_id": charge.attempt_id,
            "installation": charge.installation,
            "session_reference": charge.session,
            "currency": charge.currency,
            "amount": charge.amount,
            "livemode": False,
        }
        if charge.status == "open":
            url = f"https://psp.example/pay/{charge.session}"
            ends, code = charge.page_ends, charge.declined
            return Result(cls="open", page_url=url, page_expires_at=ends, code=code, **common)
        if charge.status == "processing":
            return Result(cls="pending", psp_reference=charge.id, **common)
        if charge.status == "requires_confirmation":
            return Result(cls="next", psp_reference=charge.id, **common)
        if charge.status == "canceled":
            code = charge.declined
            return Result(cls="closed", psp_reference=charge.id, code=code, **common)
        if charge.status == "declined":
            return Result(cls="declined", code="card_declined", psp_reference=charge.id, **common)
        return Result(
            cls="succeeded" if charge.status == "succeeded" else "authorized",
            psp_reference=charge.id,
            amount_captured=charge.captured or None,
            method="Visa •••• 4242",
            fee=29 if charge.status == "succeeded" else None,
            fee_currency=charge.currency,
            balance_transaction=f"txn_{charge.id}" if charge.status == "succeeded" else None,
            **common,
        )

    async def look_up(self, request: Request, *, reference: str | None) -> Result:
        self.requests.append(("lookup", None, request))
        meanwhile, self.while_looking = self.while_looking, None
        if meanwhile is not None:
            await meanwhile()
        fault = self.looks.popleft() if self.looks else "ok"
        if fault != "ok":
            known = fault == "unauthorized"
            why = "Invalid key." if known else "The look-up failed."
            return Result(cls="unknown", resend=False, unauthorized=known, message=why)
        if request.kind == "refund":
            found = [
                one
                for charge in self.charges.values()
                for one in charge.refunds.values()
                if one.attempt_id == request.attempt_id
            ]
            if not found:
                return Result(cls="not_found")
            cls = {"failed": "declined"}.get(found[0].status, found[0].status)
            return Result(
                cls=cls,  # type: ignore[arg-type] # A word of the port.
                psp_reference=found[0].psp_reference,
                amount=found[0].amount,
                currency=found[0].currency,
                attempt_id=found[0].attempt_id,
                installation=found[0].installation,
            )
        for charge in self.charges.values():
            mine = charge.attempt_id == request.attempt_id
            if mine or (reference is not None and reference in {charge.id, charge.session}):
                seen = self._seen(charge)
                unchanged = {"capture": {"authorized"}, "void": {"authorized", "open", "next"}}
                by_page = request.psp_reference == charge.session and seen.cls == "authorized"
                if seen.cls in unchanged.get(request.kind, set()) and not by_page:
                    seen.cls = "next"  # It has had no effect so far.
                if seen.cls == "succeeded":
                    seen.refunds = list(charge.refunds.values())
                return seen
        return Result(cls="not_found")

    async def look_up_refunds(self, reference: str) -> list[RefundSeen] | Result:
        return list(self._charge(reference).refunds.values())

    async def close_out(self, request: Request, *, key: str, reference: str) -> Result:
        before = await self.look_up(request, reference=reference)
        if before.cls in {"succeeded", "authorized", "closed", "mismatch"}:
            return before
        return await self.send("cancel", request, key=key, reference=reference)

    async def fee(self, reference: str) -> Result:
        return self._seen(self._charge(reference))

    def verify_event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> PspEvent:
        raise EventRefused("this PSP sends no events")

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        return None

    def total(self) -> int:
        """Return what the customers have paid, less what went back."""
        return sum(
            charge.captured
            - sum(one.amount for one in charge.refunds.values() if one.status == "succeeded")
            for charge in self.charges.values()
        )
