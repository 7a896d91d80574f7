"""The PSP's own book: what it did, whom it told, and every request as it arrived.

Its rules are written from the contract (docs of the PSP), not from our adapter: else one misreading
would hide in both.
"""

import hashlib
import hmac
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from app.psp.port import RefundSeen, Request

KEYS_KEPT = timedelta(hours=24)
WEBHOOK_SECRET = "whsec_simulation"
_HELD_FOR = timedelta(days=7)
_CARD_SAYS_NO = "pm_card_chargeDeclined"

Status = Literal["open", "requires_confirmation", "processing", "requires_capture", "succeeded"]


class Logged(msgspec.Struct, kw_only=True):
    """A request as it arrived, and what it led to."""

    at: datetime
    step: str
    attempt_id: str
    payment_id: str
    kind: str
    key: str | None
    parameters: str
    effect: str = "none"  # none, done, replayed, refused
    answered: str | None = None  # The class that our side was given; None: it heard nothing.


class Refund(msgspec.Struct, kw_only=True):
    """Money that went back."""

    id: str
    amount: int
    currency: str
    status: str
    attempt_id: str | None
    installation: str | None
    made_at: datetime
    listed_at: datetime
    by_hand: bool = False  # Nobody would ask about it: its event is all there is.

    def seen(self) -> RefundSeen:
        return RefundSeen(
            psp_reference=self.id,
            amount=self.amount,
            currency=self.currency,
            status=self.status,  # type: ignore[arg-type] # One of its words.
            attempt_id=self.attempt_id,
            installation=self.installation,
            created_at=self.made_at,
        )


class Intent(msgspec.Struct, kw_only=True):
    """A charge, or what may become one; with a page when the customer pays there."""

    id: str
    attempt_id: str
    payment_id: str
    installation: str
    amount: int
    currency: str
    manual: bool
    method: str | None
    status: str
    listed_at: datetime
    session: str | None = None
    session_status: str | None = None
    page_ends: datetime | None = None
    captured: int = 0
    code: str | None = None
    refunds: list[Refund] = []
    by_hand: bool = False  # Taken, or let go of, by somebody at the PSP itself.
    fee_at: datetime | None = None
    history: list[str] = []


class Refusal(Exception):
    """400, 402 or 404: a conclusive no, with its code."""


class Book:
    """The PSP's state; survives whatever happens to us."""

    def __init__(self, seed: object, now: Callable[[], datetime]) -> None:
        self.random = random.Random(f"{seed}:psp")
        self.now = now
        self.intents: dict[str, Intent] = {}
        self.log: list[Logged] = []
        self.keys: dict[str, tuple[str, datetime, Any]] = {}
        self.in_flight: set[str] = set()
        self.away: str | None = None
        self.emit: Callable[[str, dict[str, Any], bool], None]
        self.later: Callable[[float, Callable[[], None]], None]
        self.hit: Callable[[str], bool]
        self._number = 0

    def name(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}_{self._number:04d}{self.random.randrange(36**6):06d}"

    def find(self, reference: str | None) -> Intent | None:
        """Return an intent by its id or its session's."""
        if reference is None:
            return None
        found = self.intents.get(reference)
        if found is not None:
            return found
        return next((one for one in self.intents.values() if one.session == reference), None)

    def listed(self, attempt_id: str) -> Intent | None:
        """Find by metadata, as lists do: what is new is not there yet."""
        now = self.now()
        return next(
            (i for i in self.intents.values() if i.attempt_id == attempt_id and i.listed_at <= now),
            None,
        )

    def expire_pages(self) -> None:
        """End pages whose time is over and holds that nobody captured."""
        now = self.now()
        for intent in self.intents.values():
            if intent.session_status == "open" and intent.page_ends and intent.page_ends <= now:
                intent.session_status = "expired"
                self._move(intent, "canceled")
                self.tell(intent, "checkout.session.expired")
            if intent.status == "requires_capture" and intent.listed_at + _HELD_FOR <= now:
                self._move(intent, "canceled")
                self.tell(intent, "payment_intent.canceled")

    # What a request does. Each returns the intent or refund that it made or changed.

    def do(self, step: str, request: Request, reference: str | None) -> Intent | Refund:
        """Carry out one request. Raises Refusal."""
        self.expire_pages()
        if request.kind == "refund":
            return self._refund(request)
        if step == "create":
            return self._create(request)
        target = reference if step == "confirm" else request.psp_reference
        intent = self.find(target)
        if intent is None:
            raise Refusal("resource_missing")
        if step == "confirm":
            return self._confirm(intent)
        if step == "capture":
            return self._capture(intent, request.amount)
        return self.cancel(intent, by_page=target == intent.session)

    def _create(self, request: Request) -> Intent:
        hidden = self.random.uniform(1, 20) if self.hit("psp.hidden") else 0.0
        intent = Intent(
            id=self.name("pi"),
            attempt_id=request.attempt_id,
            payment_id=request.payment_id,
            installation=request.installation,
            amount=request.amount,
            currency=request.currency,
            manual=request.capture_method == "manual",
            method=request.payment_method,
            status="requires_confirmation",
            listed_at=self.now() + timedelta(seconds=hidden),
            history=[],
            refunds=[],
        )
        if request.kind == "checkout":
            ends = request.expires_at
            if ends is None or ends - self.now() < timedelta(minutes=30):
                raise Refusal("expires_at_too_soon")
            intent.session, intent.session_status = self.name("cs"), "open"
            intent.status, intent.page_ends = "open", ends
            self.later((ends - self.now()).total_seconds() + 0.5, self.expire_pages)
        self.intents[intent.id] = intent
        return intent

    def _confirm(self, intent: Intent) -> Intent:
        if intent.status != "requires_confirmation":
            raise Refusal("payment_intent_unexpected_state")
        self.take(intent, intent.method != _CARD_SAYS_NO)
        return intent

    def take(self, intent: Intent, accepted: bool) -> None:
        """Charge the customer, or have the bank say no."""
        if intent.session is not None and accepted:
            intent.session_status = "complete"
        if not accepted:
            intent.code = "card_declined"
            if intent.session is None:
                self._move(intent, "declined")
            self.tell(intent, "payment_intent.payment_failed")
        elif self.hit("psp.later"):
            self._move(intent, "processing")
            good = self.random.random() < 0.7
            self.later(self.random.uniform(5, 4000), lambda: self._decided(intent, good))
        else:
            self._succeed(intent)

    def _decided(self, intent: Intent, good: bool) -> None:
        if intent.status != "processing":
            return
        if good:
            self._succeed(intent)
            return
        intent.code = "card_declined"
        self._move(intent, "declined" if intent.session is None else "canceled")
        self.tell(intent, "payment_intent.payment_failed")

    def _succeed(self, intent: Intent) -> None:
        intent.code = None
        if self.hit("psp.wrong_amount"):
            intent.amount += 7
        if intent.manual:
            self._move(intent, "requires_capture")
            self.tell(intent, "payment_intent.amount_capturable_updated")
        else:
            self._captured(intent, intent.amount)
        if intent.session is not None:
            self.tell(intent, "checkout.session.completed")

    def _captured(self, intent: Intent, amount: int) -> None:
        self._move(intent, "succeeded")
        intent.captured = amount
        late = self.random.uniform(3, 600) if self.hit("psp.fee_later") else 0.0
        intent.fee_at = self.now() + timedelta(seconds=late)
        self.tell(intent, "payment_intent.succeeded")

    def _capture(self, intent: Intent, amount: int) -> Intent:
        if intent.status != "requires_capture":
            raise Refusal("payment_intent_unexpected_state")
        if amount > intent.amount:
            raise Refusal("amount_too_large")
        if self.hit("psp.other_capture"):
            amount = self.random.randint(1, intent.amount)
        self._captured(intent, amount)
        return intent

    def cancel(self, intent: Intent, *, by_page: bool = False) -> Intent:
        """End what can still be paid, or let go of what is held. Raises Refusal."""
        allowed = {"open"} if by_page else {"open", "requires_confirmation", "requires_capture"}
        if intent.status not in allowed:
            raise Refusal("payment_intent_unexpected_state")
        if intent.session_status == "open":
            intent.session_status = "expired"
        self._move(intent, "canceled")
        self.tell(intent, "payment_intent.canceled")
        return intent

    def take_by_hand(self, intent: Intent) -> None:
        """Have somebody capture a hold, or a part of it, at the PSP itself."""
        intent.by_hand = True
        part = self.random.random() < 0.3
        self._captured(intent, self.random.randint(1, intent.amount) if part else intent.amount)

    def let_go_by_hand(self, intent: Intent) -> None:
        """Have somebody cancel a hold at the PSP itself."""
        intent.by_hand = True
        self.cancel(intent)

    def _refund(self, request: Request) -> Refund:
        intent = self.find(request.psp_reference)
        if intent is None:
            raise Refusal("resource_missing")
        amount = request.amount
        if self.hit("psp.other_refund"):
            back = sum(one.amount for one in intent.refunds if one.status != "failed")
            amount = self.random.randint(1, max(1, intent.captured - back))
        return self.give_back(intent, amount, request.attempt_id, request.installation)

    def give_back(
        self, intent: Intent, amount: int, attempt_id: str | None, installation: str | None
    ) -> Refund:
        """Refund a part of a charge, for us or by hand. Raises Refusal."""
        back = sum(one.amount for one in intent.refunds if one.status != "failed")
        if intent.status != "succeeded" or back + amount > intent.captured:
            raise Refusal("charge_already_refunded")
        hidden = self.random.uniform(1, 20) if self.hit("psp.hidden") else 0.0
        refund = Refund(
            id=self.name("re"),
            amount=amount,
            currency=intent.currency,
            status="succeeded",
            attempt_id=attempt_id,
            installation=installation,
            made_at=self.now(),
            listed_at=self.now() + timedelta(seconds=hidden),
            by_hand=attempt_id is None,
        )
        if self.hit("psp.later"):
            refund.status = "pending"
            good = self.random.random() < 0.7
            self.later(
                self.random.uniform(5, 4000),
                lambda: self.change_refund(intent, refund, "succeeded" if good else "failed"),
            )
        intent.refunds.append(refund)
        self.tell_refund(intent, refund, "refund.created")
        return refund

    def change_refund(self, intent: Intent, refund: Refund, status: str) -> None:
        """Have the bank decide about a refund, or take it back."""
        if refund.status != "failed":
            refund.by_hand |= refund.status == "succeeded"
            refund.status = status
            self.tell_refund(
                intent, refund, f"refund.{'failed' if status == 'failed' else 'updated'}"
            )

    def _move(self, intent: Intent, status: str) -> None:
        intent.status = status
        intent.history.append(status)

    # Events.

    def tell(self, intent: Intent, kind: str) -> None:
        """Send an event about an intent or its page."""
        page = kind.startswith("checkout.")
        self.emit(
            kind,
            {
                "object": "checkout.session" if page else "payment_intent",
                "id": intent.session if page else intent.id,
                "metadata": {
                    "installation": intent.installation,
                    "attempt_id": intent.attempt_id,
                },
            },
            intent.by_hand,
        )

    def tell_refund(self, intent: Intent, refund: Refund, kind: str) -> None:
        """Send an event about a refund."""
        metadata = {}
        if refund.attempt_id and refund.installation:
            metadata = {"installation": refund.installation, "attempt_id": refund.attempt_id}
        body = {"object": "refund", "id": refund.id, "payment_intent": intent.id}
        self.emit(kind, {**body, "metadata": metadata}, refund.by_hand)

    def signed(
        self, event_id: str, kind: str, body: dict[str, Any], *, secret: str = WEBHOOK_SECRET
    ) -> tuple[bytes, dict[str, str]]:
        """Return an event as it goes over the wire: body and headers."""
        stamp = int(self.now().timestamp())
        event = {
            "id": event_id,
            "object": "event",
            "type": kind,
            "created": stamp,
            "livemode": False,
            "data": {"object": body},
        }
        raw = json.dumps(event).encode()
        digest = hmac.new(secret.encode(), f"{stamp}.".encode() + raw, hashlib.sha256).hexdigest()
        return raw, {"stripe-signature": f"t={stamp},v1={digest}"}
