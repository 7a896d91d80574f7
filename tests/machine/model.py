"""What must come of a request, told from what was seen before it; pure."""

from typing import Any

import msgspec

from app.payments.states import FINAL, PAYMENT_MOVES, REFUND_MOVES

Shape = dict[str, Any]
Expected = tuple[int, str | None]  # HTTP status, and the problem's code for a refusal.


class Used(msgspec.Struct, kw_only=True):
    """A POST that took its key: what was sent and what was answered."""

    shop: str
    path: str
    body: Any
    key: str
    status: int
    resource: str | None = None  # Where the thing made or changed is read.
    refusal: bytes = b""
    at: float = 0.0
    expired: bool = False


class Endpoint(msgspec.Struct, kw_only=True):
    """An address of the shop: its secrets (the newest last) and whether it is on."""

    id: str
    secrets: list[str]
    on: bool = True
    gone: bool = False


def reachable(moves: dict[str, frozenset[str]], old: str) -> set[str]:
    """Return every state that may follow, in any number of moves."""
    seen, todo = {old}, [old]
    while todo:
        for following in moves[todo.pop()] - seen:
            seen.add(following)
            todo.append(following)
    return seen


_AFTER = {status: reachable(PAYMENT_MOVES, status) for status in PAYMENT_MOVES}


def check_payment(before: Shape | None, now: Shape) -> None:
    """Check one sight of a payment, and that it may follow the one before."""
    captured, refunded = now["amount_captured"], now["amount_refunded"]
    assert 0 <= refunded <= captured <= now["amount"], now
    assert now["amount_refundable"] == (
        captured - refunded if now["status"] == "succeeded" else now["amount_refundable"]
    )
    assert now["finished"] == (now["status"] in FINAL)
    assert (captured > 0) == (now["status"] == "succeeded"), now
    assert now["net"] == captured - refunded - now["fee"], now
    if before is None:
        return
    assert now["status"] in _AFTER[before["status"]], (before["status"], now["status"])
    for name in ("amount", "currency", "reference", "capture_method", "created_at", "livemode"):
        assert now[name] == before[name], name
    if before["status"] in FINAL:
        assert (now["status"], captured) == (before["status"], before["amount_captured"])


def check_refund(before: Shape | None, now: Shape) -> None:
    """Check one sight of a refund."""
    if before is not None:
        assert now["status"] in reachable(REFUND_MOVES, before["status"])
        assert (now["amount"], now["payment"]) == (before["amount"], before["payment"])


def capture(payment: Shape, amount: int | None) -> Expected:
    """Predict the answer to a capture."""
    if payment["status"] == "processing":
        return 409, "payment_busy"
    if payment["status"] != "requires_capture":
        return 409, "payment_wrong_state"
    if amount is not None and amount > payment["amount"]:
        return 422, "amount_too_large"
    return 200, None


def cancel(payment: Shape, *, asked: bool) -> Expected:
    """Predict the answer to a cancel; `asked`: whether one was accepted before."""
    if payment["status"] == "succeeded":
        return 409, "payment_already_paid"
    if payment["status"] in FINAL:
        return 409, "payment_wrong_state"
    reviewed = any(one["state"] == "needs_review" for one in payment["attempts"])
    if reviewed and not asked:
        return 409, "payment_wrong_state"
    return 200, None


def refund(payment: Shape, amount: int | None, believed: int | None) -> Expected:
    """Predict the answer to a refund; `believed`: what the shop thinks is left."""
    left = payment["amount_captured"] - payment["amount_refunded"]
    if payment["status"] != "succeeded":
        return 409, "payment_wrong_state"
    if believed is not None and believed != left:
        return 412, "refund_amount_available_stale"
    if left == 0 or (amount is not None and amount > left):
        return 422, "amount_exceeds_refundable"
    return 201, None
