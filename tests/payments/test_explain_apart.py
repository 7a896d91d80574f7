"""Money that does not fit: the merchant is told of it, whatever the payment's end says."""

from typing import Any

import pytest

from app.payments.explain import Facts, explain
from app.payments.models import Attempt, Payment
from app.runtime import Runtime
from tests.payments.story import Story, receive
from tests.support.psp import BookPsp
from tests.timeline.test_explain import NOW, payment

GOES_BACK = "None of it came to your wallet; it goes back to the customer."


def attempt(state: str = "succeeded", **more: Any) -> Attempt:
    return Attempt(id="att_1", kind="charge", state=state, **more)


def text(row: Payment, *attempts: Attempt) -> str:
    return explain(Facts(payment=row, now=NOW, attempts=attempts)).text


ENDS = [
    payment("failed"),
    payment("failed", failure_code="card_declined"),
    payment("failed", failure_code="not_charged"),
    payment("failed", failure_code="discarded"),
    payment("failed", failure_code="risk_refused"),
    payment("failed", failure_code="authentication_required"),
    payment("canceled"),
    payment("canceled", status_reason="authorization_expired"),
    payment("expired"),
]


@pytest.mark.parametrize("row", ENDS, ids=lambda row: f"{row.status}-{row.failure_code}")
@pytest.mark.parametrize(
    "odd",
    [
        attempt(code="unexpected"),
        attempt("closed", code="refunded_at_psp"),
        attempt("needs_review", code="mismatch"),
    ],
    ids=lambda odd: odd.code,
)
def test_no_end_says_that_nothing_was_charged_where_money_came(row: Payment, odd: Attempt) -> None:
    said = text(row, attempt("not_sent"), odd)
    assert GOES_BACK in said
    for word in ("othing was", "before anything", "nobody was charged"):
        assert word not in said
    assert ("all the same" in said) == (odd.code == "unexpected")


@pytest.mark.parametrize("status", ["succeeded", "requires_capture"])
def test_a_payment_with_money_of_its_own_tells_of_the_further_one(status: str) -> None:
    said = text(payment(status), attempt(), attempt(code="unexpected"))
    assert f"A further payment came that did not fit. {GOES_BACK}" in said
    assert "once." not in said.split(GOES_BACK)[0]
    assert "nothing has been taken" not in said
    assert "A further payment" not in text(payment(status), attempt())


async def test_a_second_charge_is_told_beside_the_first(rt: Runtime, psp: BookPsp) -> None:
    """F23: the first request had lain somewhere, and a person had it made anew."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    made = await story.charge()
    await story.retry_letters()
    assert (await story.get(made.id)).status == "succeeded"
    first = next(iter(psp.charges.values()))
    first.status, first.captured = "succeeded", first.amount
    (tried, _), _ = await story.attempts(made.id)
    await receive(rt, "evt_late", psp_reference=first.id, attempt_id=tried.id)
    await story.hurry()
    rows, calls = await story.attempts(made.id)
    assert "unexpected" in {row.code for row in rows}
    async with rt.sessions.read() as session:
        row = await session.get_one(Payment, made.id)
        facts = Facts(payment=row, attempts=rows, calls=calls, now=rt.clock())
    assert explain(facts).why == (
        f"The customer paid 100.00 EUR. A further payment came that did not fit. {GOES_BACK}"
    )
    await story.end()
