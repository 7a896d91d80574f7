"""What each field of the API means, where its type does not say it already."""

from collections.abc import Mapping

_EMPTY: Mapping[str, str] = {}

# By name, for every shape that has no words of its own for it.
COMMON: Mapping[str, str] = {
    "id": "The object's id.",
    "object": "What kind of object this is.",
    "livemode": "Whether real money moves; `false` with a test key.",
    "currency": "A lower-case ISO 4217 code.",
    "created_at": "When it was made, in UTC.",
    "updated_at": "When it last changed, in UTC.",
    "psp": "The PSP's short name.",
    "psp_reference": "The PSP's own id of it.",
    "failure": "Why it did not succeed; kept from the last try.",
    "status_reason": "More about the status, where there is more to say.",
    "metadata": "Texts of your own, as you sent them.",
    "ledger_position": "Position of its last line in the ledger; `null` before the first.",
    "payment": "The payment's id.",
    "refund": "The refund's id.",
    "api_version": "The version of the API that shaped it.",
    "email": "The customer's e-mail address.",
    "name": "The customer's name.",
    "country": "Where the customer is, if you know; the risk check compares it.",
    "card_country": "Where the customer's card is from, if you know.",
    "limit": "How many at most on one page.",
    "starting_after": "An id: go on with what is older.",
    "ending_before": "An id: go back to what is newer.",
    "created_gte": "Made at this moment or later.",
    "created_lt": "Made before this moment.",
    "amount_gte": "Of this amount or more.",
    "amount_lte": "Of this amount or less.",
    "expand[]": "Show these in full instead of their ids.",
    "customer_email": "Of this customer.",
    "event": "The event's id.",
}

_PAYMENT: Mapping[str, str] = {
    "amount": "What the customer is asked for, in minor units.",
    "amount_captured": "What was charged, in minor units.",
    "amount_refunded": "What went back or is on its way back, in minor units.",
    "amount_refundable": "What is left to refund, in minor units.",
    "status": "`requires_action`, `processing`, `requires_capture`, `succeeded`, `failed`, "
    "`canceled` or `expired`.",
    "finished": "Whether the status is final.",
    "status_reason": "More about the status. `outcome_unknown`: the PSP did not answer; it is "
    "asked until it tells, and nothing is charged twice.",
    "checkout_url": "Where the customer pays; `null` when you sent a `payment_method`.",
    "capture_method": "`automatic`, or `manual`: held first, taken by a capture.",
    "payment_method": "The token that you sent.",
    "reference": "Your order's id.",
    "description": "Your text.",
    "customer": "Who pays; `null` when you did not tell, or once it was erased.",
    "return_url": "Where the customer goes after paying.",
    "cancel_url": "Where the customer goes after giving up.",
    "fee": "Our fee, in minor units.",
    "net": "What you have of it: captured, less refunds, less the fee.",
    "attempts": "What was tried at the PSP: ids, or objects with `expand[]=attempts`.",
    "expires_at": "When the customer can no longer pay; `null` without a page to pay at.",
}

SHAPES: Mapping[str, Mapping[str, str]] = {
    "ProblemShape": {
        "type": "Address of the code's explanation.",
        "title": "The kind of refusal, the same for every request.",
        "status": "The HTTP status.",
        "detail": "What is wrong with this request, for people.",
        "instance": "The path that was asked.",
        "code": "What to switch on; never changes its meaning.",
        "param": "The field or header that is wrong.",
        "decline_code": "The bank's reason.",
        "request_id": "Name it when you ask for help.",
        "errors": "Every bad field: `param`, `code`, `detail`.",
    },
    "PaymentShape": _PAYMENT,
    "Failure": {
        "code": "What failed.",
        "decline_code": "The bank's reason.",
        "message": "The same for people.",
    },
    "AttemptShape": {
        "kind": "`charge`, `capture`, `void` or `refund`.",
        "state": "`unknown`: sent, and no answer came; it is looked up at the PSP.",
        "amount": "In minor units.",
    },
    "CreatePayment": {
        "amount": "What to charge.",
        "description": "Your text; the customer may see it.",
        "customer": "Who pays, as far as you want to tell.",
        "return_url": "Where the customer goes after paying.",
        "cancel_url": "Where the customer goes after giving up.",
        "capture_method": "`manual` holds the money first; capture or cancel it later.",
        "payment_method": "Charge this now, without the customer.",
        "psp": "Which PSP, when your shop has several.",
        "expires_in": "How long the customer can pay.",
    },
    "CapturePayment": {"amount": "What to take; all that is held when left out."},
    "Timeline": {"data": "The moments, oldest first."},
    "Moment": {
        "at": "When, in UTC.",
        "kind": "What kind of moment; `next` has not happened yet.",
        "title": "What happened, in a few words.",
        "who": "From whom to whom.",
        "text": "More of it, in sentences.",
        "tone": "How the dashboard colours it.",
        "icon": "How the dashboard marks it.",
        "about": "Id of the row that tells it.",
        "details": "What lies behind it: a request and its answer, for example.",
    },
    "Detail": {"summary": "What it is.", "text": "The text itself."},
    "RefundShape": {
        "amount": "What goes back to the customer, in minor units.",
        "status": "`pending`, `succeeded` or `failed`.",
        "reason": "Your reason.",
        "source": "Who asked: `api`, `dashboard` or `psp`.",
    },
    "CreateRefund": {
        "payment": "What to refund.",
        "amount": "What to give back; all that is left when left out.",
        "reason": "Why, for your books.",
        "refund_amount_available": "What you believe is left to refund, in minor units; the "
        "answer is 412 when it is not.",
    },
    "BalanceAnswer": {
        "available": "Yours to use.",
        "pending": "Paid, not yet available.",
        "reserved": "Set aside for refunds under way.",
        "ledger_position": "The ledger's position that this includes.",
    },
    "Sum": {"amount": "In minor units."},
    "EntryAnswer": {
        "position": "Its place in the ledger.",
        "kind": "Why money moved: `capture`, `settle`, `refund_reserve` …",
        "part": "Which part of the wallet it changed.",
        "amount": "The change in minor units; negative when money left.",
        "balance_before": "The part's sum before, in minor units.",
        "balance_after": "The part's sum after, in minor units.",
        "created_at": "When it was recorded, in UTC.",
    },
    "EventObject": {
        "type": "What happened.",
        "sequence": "Counts the events of one payment, without gaps.",
        "timestamp": "When it happened, in UTC.",
        "data": "The same as the webhook's `data`; `null` once the customer was erased.",
    },
    "EndpointObject": {
        "url": "Where events are sent.",
        "description": "Your text.",
        "event_types": "The types that are sent; empty: all.",
        "status": "`failing` since deliveries fail; `disabled` gets nothing.",
        "failing_since": "When deliveries began to fail.",
        "old_secret_until": "Until when the secret before this one signs, too.",
        "secret": "Verify signatures with it. Shown when made or rotated, never again.",
    },
    "CreateEndpoint": {"url": "Where to send events.", "description": "Your text."},
    "ChangeEndpoint": {
        "url": "Where to send events.",
        "description": "Your text.",
        "disabled": "`true` stops sending, `false` starts again.",
    },
    "Deleted": {"deleted": "Always `true`."},
    "DeliveryObject": {
        "endpoint": "The endpoint's id.",
        "event": "The event's id, sent as `webhook-id`.",
        "event_type": "What happened.",
        "state": "`retrying` will be tried again, `exhausted` will not.",
        "tries": "How often it was sent.",
        "log": "Each try, oldest first.",
        "last_status": "Your last HTTP status.",
        "last_error": "Why no answer came, the last time.",
        "next_try_at": "When it is sent again.",
        "delivered_at": "When you answered 2xx.",
    },
    "DeliveryTry": {
        "at": "When, in UTC.",
        "status": "Your HTTP status; `null` when no answer came.",
        "ms": "How long it took, in milliseconds.",
        "error": "Why no answer came.",
        "manual": "Whether somebody asked for it.",
    },
    "ListPayments": {"status": "In this status.", "reference": "With this reference of yours."},
    "ListRefunds": {"payment": "Of this payment.", "status": "In this status."},
    "ListEntries": {"part": "In this part of the wallet.", "payment": "Of this payment."},
    "ListEvents": {"type": "Of this type.", "payment": "Of this payment."},
    "ListDeliveries": {
        "event": "Of this event.",
        "payment": "Of this payment.",
        "state": "In this state.",
    },
}


def about(shape: str, field: str, *, described: bool) -> str:
    """Return what a field of a shape means; empty when its type says it all.

    `described` says that its type has words already: then the common ones say nothing new.
    """
    own = SHAPES.get(shape, _EMPTY)
    return own.get(field, "" if described else COMMON.get(field, ""))
