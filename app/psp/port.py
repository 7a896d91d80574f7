"""What every payment service provider's adapter offers, and the words its answers are put in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec

# How the row of a call ends, beside the classes: kept by ourselves; 401 or 403.
KEPT, UNAUTHORIZED = "kept", "unauthorized"
# Classes, and ends, of a look-up that has told nothing.
FAILED_LOOKS = frozenset({"unknown", "not_sent", "busy", KEPT, UNAUTHORIZED})
# Classes of an answer to a request that tell nothing of an earlier one with the same key.
NOT_TAKEN = frozenset({"not_sent", "busy", "rejected"})
AttemptKind = Literal["checkout", "charge", "capture", "void", "refund"]

Class = Literal[
    "succeeded",  # Done, with evidence; amount and currency are in the result.
    "authorized",  # The money is held, a capture is needed (manual capture).
    "open",  # The PSP's page exists and the customer may pay.
    "next",  # This step is done, the attempt's next step follows (intent created).
    "pending",  # The PSP decides later; its event or a look-up will tell.
    "closed",  # The PSP confirms that it can no longer be paid.
    "declined",  # The bank or PSP said no; final for the attempt.
    "rejected",  # 400, 404, 422: conclusive, nothing happened; a person must look.
    "not_sent",  # No byte of the request can have left us.
    "busy",  # 408, 409 in progress, 425, 429: the same request with the same key later.
    "unknown",  # It may or may not have happened.
    "mismatch",  # Happened, but with another amount, currency or owner; or the key was reused.
    "not_found",  # A look-up found nothing; no proof that nothing happened.
]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The frozen, canonical parameters of an attempt; the same bytes for each replay."""

    kind: AttemptKind
    attempt_id: str
    payment_id: str
    installation: str
    amount: int  # Minor units: to charge, to capture or to refund.
    currency: str
    created_at: datetime
    capture_method: Literal["automatic", "manual"] = "automatic"
    payment_method: str | None = None
    description: str | None = None
    customer_email: str | None = None
    success_url: str | None = None
    cancel_url: str | None = None
    expires_at: datetime | None = None  # Of the PSP's page, frozen with the attempt.
    psp_reference: str | None = None  # What capture, void and refund act on (intent or session).
    refund_id: str | None = None
    reason: str | None = None


class Result(msgspec.Struct, kw_only=True):
    """One answer of a PSP, already classified (semantics: "Classifying a PSP outcome")."""

    cls: Class
    psp_reference: str | None = None  # Intent, or session until the customer confirmed; refund id.
    session_reference: str | None = None
    page_url: str | None = None  # Where the customer pays.
    page_expires_at: datetime | None = None
    amount: int | None = None  # Minor units in our exponent; of a capture, what was captured.
    amount_captured: int | None = None
    currency: str | None = None
    attempt_id: str | None = None  # From the object's metadata.
    installation: str | None = None
    livemode: bool | None = None
    fee: int | None = None  # The PSP's own fee; null when it is not known yet.
    fee_currency: str | None = None
    balance_transaction: str | None = None
    method: str | None = None  # "Visa •••• 4242": what the customer paid with.
    code: str | None = None  # Of a decline or rejection.
    decline_code: str | None = None
    message: str | None = None
    retry_after: float | None = None  # Seconds.
    resend: bool = True  # False: the PSP says not to send this again (look up instead).
    turned_away: bool = False  # We kept it (the gate, or it came too late): nobody was asked.
    unauthorized: bool = False  # 401 or 403: nothing was done, our credential is wrong.
    http_status: int | None = None
    request_id: str | None = None
    psp_created_at: datetime | None = None
    refunds: list["RefundSeen"] = []  # Look-ups and events about a charge: its refunds.
    raw: dict[str, Any] = {}  # What we keep of the answer, sealed, for the timeline.

    @property
    def outcome(self) -> str:
        """Return how the call's row ends, which tells apart who turned a request away."""
        if self.turned_away:
            return KEPT
        return UNAUTHORIZED if self.unauthorized else self.cls


class RefundSeen(msgspec.Struct, kw_only=True):
    """A refund as the PSP's object shows it; ours when `attempt_id` names one of ours."""

    psp_reference: str
    amount: int
    currency: str
    # Released: what was held and never taken; no money has moved.
    status: Literal["pending", "succeeded", "failed", "released"]
    attempt_id: str | None = None
    installation: str | None = None
    created_at: datetime | None = None


class PspEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A verified event: which object it speaks of and whose it is. Its details are looked up."""

    id: str
    type: str
    created_at: datetime
    livemode: bool
    about: Literal["checkout", "intent", "refund", "other"]
    psp_reference: str | None = None
    installation: str | None = None
    attempt_id: str | None = None
    charge_reference: str | None = None  # Of a refund: the intent that it gives back.


class EventRefused(Exception):
    """A received event does not verify; it has no effect and is answered 400."""


class Limits(msgspec.Struct, frozen=True):
    """What the PSP accepts in one currency, in our minor units; amounts are multiples of `step`."""

    minimum: int
    maximum: int
    step: int = 1


class Adapter(Protocol):
    """One PSP connection. Every method is one request or a bounded few; none retries by itself.

    No method raises for what a PSP or the network may do: outcomes are a Result. Only
    CancelledError passes through (its outcome is unknown to the caller).
    """

    name: str
    livemode: bool
    key_window: timedelta  # How long a key surely replays, a margin already taken off.

    def limits(self, currency: str) -> Limits | None:
        """Return what is accepted in a currency; None when the PSP does not take it."""

    def steps(self, kind: AttemptKind) -> tuple[str, ...]:
        """Return the mutating steps of an attempt, in order, such as ("create", "confirm")."""

    async def send(self, step: str, request: Request, *, key: str, reference: str | None) -> Result:
        """Do one step under an idempotency key; `reference` is what an earlier step made.

        A refusal that speaks of the object's state (already captured, canceled, paid) is looked
        up before it is classified. For `capture`, amount is what was captured.
        """

    async def look_up(self, request: Request, *, reference: str | None) -> Result:
        """Find out what became of an attempt, by object id, else by attempt id in metadata.

        Never changes anything at the PSP. `not_found` is no proof. `next` says that the attempt's
        mutating step (confirm, capture, cancel, expire) has had no effect so far: the same key
        may be replayed. A look-up that fails itself is `unknown` with resend False, whatever the
        reason, so that its own failure is never taken for the attempt's; `raw["look_up"]` holds
        the class of that failure.
        """

    async def look_up_refunds(self, reference: str) -> list[RefundSeen] | Result:
        """List the refunds of a charge (a Result only when the look-up failed)."""

    async def close_out(self, request: Request, *, key: str, reference: str) -> Result:
        """Close an object for good (cancel the intent, expire the session).

        `closed` proves that it was not and will not be paid; `succeeded` or `authorized` that
        it was faster (it is looked up first, so that money that is held is not released). Any
        other class: not closed yet, ask again.
        """

    async def fee(self, reference: str) -> Result:
        """Look up the PSP's fee of a charge: `succeeded` with fee, `pending`, or `unknown`."""

    def verify_event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> PspEvent:
        """Verify and read a received event. Raises EventRefused for anything but a true one."""

    async def healthy(self) -> bool:
        """Tell whether the PSP answers at all (for the health page)."""

    async def close(self) -> None:
        """Close connections."""
