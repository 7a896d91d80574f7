"""How a fault strikes: before the effect, in the answer that is kept, and on its way."""

import asyncio

from web.sandbox_psp import kept, transport
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.faults import MANGLED, WEBHOOK_KINDS, Fault
from web.sandbox_psp.routes import Answer, refusal
from web.sandbox_psp.work import Work

_HTML = b"<html><head><title>Welcome</title></head><body>It works!</body></html>"
_GARBAGE = bytes(range(128, 256)) + b'{"id": \x00'
_STEPS = 20


class Cut(Exception):
    """The connection ends here without an answer, after some seconds of silence."""

    def __init__(self, seconds: float) -> None:
        super().__init__("cut")
        self.seconds = seconds


async def before(fault: Fault, work: Work) -> Answer | None:
    """Strike before the effect: return the answer that takes its place, or None to go on.

    Raises Cut. What waits has the log on the disk first: the request did arrive.
    """
    await work.book.durable()
    key = work.key or ""
    if fault.kind == "drop_request":
        raise Cut(fault.seconds)
    if fault.kind == "delay":
        await asyncio.sleep(fault.seconds)
        return None
    if fault.kind == "wrong_amount":
        work.moves_another_amount = True
        return None
    if fault.kind == "key_in_use":
        return refusal(kept.in_use(key), work.request_id)
    if fault.kind == "key_mismatch":
        return refusal(kept.used_otherwise(key), work.request_id)
    status = 503 if fault.kind in MANGLED else fault.status
    return refusal(broken(status, fault), work.request_id)


def answer(work: Work, answer: Answer) -> Answer:
    """Let faults change the answer that is kept and sent; the book keeps the truth."""
    for fault in work.faults:
        if fault.when != "after":
            continue
        if fault.kind == "status":
            refused = refusal(broken(fault.status, fault), work.request_id)
            answer = Answer(status=refused.status, body=refused.body, headers=refused.headers)
        elif fault.kind == "wrong_amount" and isinstance(answer.body.get("amount"), int):
            answer.body = {**answer.body, "amount": answer.body["amount"] + 1}
    return answer


def hold_webhooks(work: Work) -> None:
    """Let a fault of the request decide how its events travel."""
    for fault in work.faults:
        policy = WEBHOOK_KINDS.get(fault.kind)
        if policy is not None:
            work.webhook_policy = policy
            work.waits_for_webhooks = policy == "first"


async def transmit(
    work: Work,
    status: int,
    headers: dict[str, str],
    body: bytes,
    *,
    scope: transport.Scope,
    receive: transport.Receive,
    send: transport.Send,
) -> None:
    """Send an answer with what its faults do to it; raises Cut when nothing is to come."""
    for fault in work.faults:
        if fault.when == "after" and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault.kind == "drop_response":
            raise Cut(fault.seconds)
        elif fault.kind == "reset":
            response = transport.raw_response(status, headers, body)
            await transport.cut_at(scope, receive, response, fault.bytes)
            return
        elif fault.kind == "slow_body":
            await transport.drip(send, status, headers, body, seconds=fault.seconds, steps=_STEPS)
            return
        elif fault.kind == "truncate":
            body = body[: fault.bytes or len(body) // 2]
        elif fault.kind == "garbage":
            body = _GARBAGE
        elif fault.kind == "html":
            status, body = 200, _HTML
            headers = {**headers, "Content-Type": "text/html"}
    await transport.respond(send, status, headers, body)


def broken(status: int, fault: Fault | None = None) -> ApiError:
    """Return the error of a fault; it is not the caller's."""
    headers: dict[str, str] = {}
    if fault is not None and fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    if fault is not None and fault.should_retry is not None:
        headers["Stripe-Should-Retry"] = "true" if fault.should_retry else "false"
    if status == 429:
        return ApiError(429, "Too many requests.", code="rate_limit", headers=headers)
    kind = "api_error" if status >= 500 else "invalid_request_error"
    return ApiError(status, "Something went wrong on our side.", kind=kind, headers=headers)
