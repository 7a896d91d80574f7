"""Why a payment is in its state, what happens next and what can be done, in plain words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.payments.explain import Facts, decline_words, explain
from app.payments.models import Attempt, Payment, PspCall, Refund
from app.payments.states import STATUSES

NOW = datetime(2026, 11, 22, 14, 40, 7, tzinfo=UTC)


def payment(status: str = "succeeded", **more: Any) -> Payment:
    values: dict[str, Any] = {
        "id": "pay_1",
        "amount": 12_840,
        "currency": "eur",
        "status": status,
        "hosted": False,
        "capture_method": "automatic",
        "amount_captured": 12_840 if status == "succeeded" else 0,
        "amount_refunded": 0,
        "amount_pending": 12_571 if status == "succeeded" else 0,
        "fee": 269,
        "fee_returned": 0,
        "available_on": NOW + timedelta(days=2),
    }
    return Payment(**values | more)


def attempt(kind: str, state: str, **more: Any) -> Attempt:
    return Attempt(id=f"att_{kind}", kind=kind, state=state, **more)


def text(row: Payment, **more: Any) -> str:
    return explain(Facts(payment=row, now=NOW, **more)).text


def test_a_charge_says_when_it_is_available_and_what_can_be_refunded() -> None:
    assert text(payment()) == (
        "The customer was charged once. 125.71 EUR becomes available on 24 November at 14:40. "
        "You can refund up to 128.40 EUR."
    )
    assert "is in your available balance" in text(payment(settled_at=NOW))
    assert "is just becoming available" in text(payment(available_on=NOW))


def test_a_lost_answer_is_told_only_when_we_asked() -> None:
    tried = [attempt("charge", "succeeded")]
    lost = PspCall(attempt_id="att_charge", kind="request", outcome="unknown")
    asked = PspCall(attempt_id="att_charge", kind="lookup", outcome="succeeded")
    assert "instead of charging again" in text(payment(), attempts=tried, calls=[lost, asked])
    assert "instead of charging again" not in text(payment(), attempts=tried, calls=[asked])
    assert "instead of charging again" not in text(payment(), attempts=tried, calls=[lost])


def test_an_unknown_outcome_says_what_is_not_known_and_when_we_ask() -> None:
    unknown = payment("processing", status_reason="outcome_unknown")
    due = NOW + timedelta(seconds=55)
    said = text(unknown, attempts=[attempt("charge", "unknown", next_check_at=due)])
    assert "do not know yet whether the customer was charged" in said
    assert "We ask the PSP again at 14:41:02" in said
    assert "cannot be charged twice" in said
    assert "do not ask the customer to pay again" in said
    late = text(unknown, attempts=[attempt("capture", "unknown", next_check_at=NOW)])
    assert "whether the money that is held was taken" in late
    assert "We are asking the PSP again now" in late


@pytest.mark.parametrize(
    ("row", "attempts", "says"),
    [
        (payment("requires_action", hosted=True), [], "making the PSP's page"),
        (
            payment("requires_action", hosted=True, expires_at=NOW + timedelta(days=1)),
            [attempt("checkout", "open")],
            "The page stays open until 23 November at 14:40.",
        ),
        (
            payment("requires_action", status_reason="psp_unavailable"),
            [],
            "its page is not there yet",
        ),
        (
            payment(
                "requires_action",
                failure_code="card_declined",
                failure_decline_code="insufficient_funds",
            ),
            [],
            "declined: not enough money. Nothing was charged.",
        ),
        (payment("processing"), [], "We are charging 128.40 EUR."),
        (payment("processing", hosted=True), [], "the PSP has not decided yet"),
        (payment("processing", status_reason="psp_unavailable"), [], "with the same key"),
        (
            payment("processing", status_reason="canceling", cancel_requested_at=NOW),
            [],
            "You asked for a cancel",
        ),
        (payment("processing", status_reason="canceling"), [], "The time to pay is over"),
        (payment("processing"), [attempt("capture", "sent")], "we are taking it now"),
        (
            payment("processing", status_reason="held_for_operator"),
            [attempt("charge", "rejected", message="No such payment_method")],
            "It said: “No such payment_method”.",
        ),
        (payment("processing", status_reason="held_for_review"), [], "does not fit"),
        (payment("requires_capture"), [], "You can capture up to 128.40 EUR once"),
        (payment("failed", failure_code="card_declined"), [], "declined: the bank gave no reason"),
        (payment("failed", failure_code="authentication_required"), [], "hosted payment"),
        (payment("failed"), [], "could not be carried out"),
        (payment("failed", failure_code="not_charged"), [], "confirms that nobody was charged"),
        (payment("failed", failure_code="discarded"), [], "We gave this payment up"),
        (payment("failed", failure_code="refunded_at_psp"), [], "None of it came to your wallet"),
        (
            payment("canceled"),
            [attempt("charge", "not_sent", code="refunded_at_psp")],
            "took something else",
        ),
        (payment("canceled"), [], "cancelled before anything was charged"),
        (payment("canceled", status_reason="authorization_expired"), [], "let the held money go"),
        (payment("expired"), [], "did not pay in time"),
        (payment(amount_captured=6_000), [], "the other 68.40 EUR was let go"),
        (payment(amount_refunded=12_840), [], "got everything back, 128.40 EUR"),
        (payment(amount_refunded=4_000), [], "and got 40.00 EUR back"),
    ],
)
def test_each_state_has_its_own_words(row: Payment, attempts: list[Attempt], says: str) -> None:
    assert says in text(row, attempts=attempts)


@pytest.mark.parametrize(
    ("attempts", "reason", "says"),
    [
        ([], None, "The money is set aside"),
        ([attempt("refund", "unknown", next_check_at=NOW)], None, "it cannot happen twice"),
        ([], "held_for_review", "a person looks at it"),
    ],
)
def test_a_refund_on_its_way_says_what_is_left(
    attempts: list[Attempt], reason: str | None, says: str
) -> None:
    refund = Refund(amount=4_000, status="pending", status_reason=reason)
    said = text(payment(amount_refunded=4_000), refunds=[refund], attempts=attempts)
    assert "You are giving 40.00 EUR back." in said
    assert says in said
    assert "You can refund up to 88.40 EUR more." in said


def test_every_status_is_explained() -> None:
    for status in STATUSES:
        assert explain(Facts(payment=payment(status), now=NOW)).why


def test_unknown_codes_of_a_psp_are_not_shown_as_words() -> None:
    assert decline_words("card_declined", "insufficient_funds") == "not enough money"
    assert decline_words("some_new_code") == ""
    assert "(declined)" in text(payment("failed", failure_code="some_new_code"))
