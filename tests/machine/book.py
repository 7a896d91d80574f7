"""The PSP in memory as a whole outside world: it signs events, it has bad hours, its pages end."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from app.psp.port import Adapter, PspEvent, RefundSeen, Request, Result
from app.psp.registry import SANDBOX, STRIPE_TEST, Connections
from app.psp.stripe import events
from app.settings import Settings
from tests.support.psp import BookPsp, Charge

SECRETS = {SANDBOX: "whsec_new,whsec_old", STRIPE_TEST: "whsec_of_the_other_connection"}
WEATHER = ("ok", "ok", "not_sent", "busy", "lost", "never")
_DOWN = {"not_sent", "never"}


class LivingBook(BookPsp):
    """A book with a calendar. `weather` is what happens to calls that no script speaks of.

    `plan` gives the fault of a call by its request instead, so that it does not depend on which
    call comes first.
    """

    def __init__(self, secrets: str, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.secrets = tuple(secrets.split(","))
        self.clock = clock
        self.weather = "ok"
        self.plan: Callable[[str, Request], str] | None = None
        self.pages_end = True
        self.sent_keys: dict[str, bytes] = {}
        self.payment_of: dict[str, str] = {}  # Attempts with the payment that they belong to.

    async def send(self, step: str, request: Request, *, key: str, reference: str | None) -> Result:
        self._end_pages()
        self.payment_of[request.attempt_id] = request.payment_id
        self._same_under_same_key(key, step, request, reference)
        fault = self.plan(step, request) if self.plan is not None else self.weather
        if not self.script and fault != "ok":
            self.script.append(fault)
        if self.script and not _possible(self.script[0], step, request):
            self.script[0] = "ok"
        return await super().send(step, request, key=key, reference=reference)

    async def look_up(self, request: Request, *, reference: str | None) -> Result:
        self._end_pages()
        if self.weather in _DOWN:
            self.looks.append("lost")
        return await super().look_up(request, reference=reference)

    async def look_up_refunds(self, reference: str) -> list[RefundSeen] | Result:
        if self.weather in _DOWN:
            return Result(cls="unknown", message="The look-up failed.")
        return await super().look_up_refunds(reference)

    def verify_event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> PspEvent:
        return events.verify_event(body, headers, now, self.secrets)

    def _end_pages(self) -> None:
        for charge in self.charges.values():
            if charge.status == "open" and charge.page_ends and charge.page_ends <= self.clock():
                charge.status = "canceled"

    def _same_under_same_key(
        self, key: str, step: str, request: Request, reference: str | None
    ) -> None:
        """Hold I9: what is sent again is sent with the same parameters."""
        said = repr((step, request, reference)).encode()
        assert self.sent_keys.setdefault(key, said) == said, f"{key} was sent with other parameters"

    def in_order(self) -> list[Charge]:
        """Return the charges by the age of their payments; workers made them in any order."""
        return sorted(self.charges.values(), key=lambda one: self.payment_of[one.attempt_id])

    def open_pages(self) -> list[Charge]:
        """Return what a customer can still pay."""
        self._end_pages()
        return [charge for charge in self.in_order() if charge.status == "open"]

    def decide(self) -> None:
        """Let the bank decide on everything that it had put off: yes."""
        for charge in self.charges.values():
            if charge.status == "processing":
                self._take(charge)
            for name, seen in charge.refunds.items():
                if seen.status == "pending":
                    changed = {name: RefundSeen(**_fields(seen) | {"status": "succeeded"})}
                    charge.refunds = charge.refunds | changed

    def sign(self, body: bytes, *, secret: str = "", ago: int = 0) -> dict[str, str]:
        """Return the header of an event, signed `ago` seconds ago."""
        stamp = int(self.clock().timestamp()) - ago
        key = (secret or self.secrets[0]).encode()
        digest = hmac.new(key, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={stamp},v1={digest}"}


def _possible(fault: str, step: str, request: Request) -> bool:
    """Tell whether a PSP can answer so: only what moves money is declined or decided later."""
    if fault == "declined":
        return step == "confirm"
    return fault != "pending" or step == "confirm" or request.kind == "refund"


def _fields(seen: RefundSeen) -> dict[str, Any]:
    return {name: getattr(seen, name) for name in RefundSeen.__struct_fields__}


def event_body(event_id: str, charge: Charge, kind: str, created: datetime) -> bytes:
    """Write an event about a charge: `checkout`, `intent`, `declined`, `refunded`."""
    known = {"installation": charge.installation, "attempt_id": charge.attempt_id}
    subject: dict[str, Any] = {"metadata": known, "object": "payment_intent", "id": charge.id}
    if kind == "checkout" and charge.session:
        subject |= {"object": "checkout.session", "id": charge.session}
    if kind == "refunded":
        subject = {"object": "charge", "id": f"ch_{charge.id}", "payment_intent": charge.id}
        subject["metadata"] = known
    types = {
        "checkout": "checkout.session.completed",
        "intent": "payment_intent.succeeded",
        "declined": "payment_intent.payment_failed",
        "refunded": "charge.refunded",
    }
    event = {
        "id": event_id,
        "object": "event",
        "type": types[kind],
        "created": int(created.timestamp()),
        "livemode": False,
        "data": {"object": subject},
    }
    return json.dumps(event).encode()


class Books(Connections):
    """Two connections in test mode, each with a book of its own."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        super().__init__(settings, clock)
        self.books = {name: LivingBook(secret, clock) for name, secret in SECRETS.items()}

    @property
    def main(self) -> LivingBook:
        """The book that new payments go to."""
        return self.books[SANDBOX]

    def _make(self, connection_id: str) -> Adapter:
        return self.books[connection_id]
