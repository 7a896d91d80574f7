"""What is said while Valkey and the PSP are down is judged: nobody can have been charged (F36)."""

from typing import Any

import pytest

from app.cli.drill import page, report
from app.cli.drill.client import Answer
from app.cli.drill.outage import ended, untrue
from app.cli.drill.report import Outage
from tests.app.cli.drill.test_report import report as whole


def row(status: str = "processing", *, name: str = "pay_1", captured: int = 0) -> dict[str, Any]:
    return {"id": name, "status": status, "amount_captured": captured}


def said(body: Any, status: int = 201) -> list[Answer]:
    return [Answer(status, body)]


def test_accepted_and_waiting_is_true_and_so_is_a_refusal_for_now() -> None:
    answers = [*said(row()), Answer(503, {"code": "overloaded"}), Answer(429), Answer(0)]
    assert untrue(answers, [row(), row("succeeded", name="pay_before", captured=5)]) == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled", "requires_action"])
def test_what_the_psp_alone_can_know_is_untrue(status: str) -> None:
    [answered] = untrue(said(row(status)), [row()])
    assert answered == f"pay_1 was answered as {status}, of which the PSP could not know."
    [listed] = untrue(said(row()), [row(status)])
    assert listed == f"pay_1 was listed as {status}, of which the PSP could not know."


def test_money_that_nobody_took_is_untrue() -> None:
    assert untrue(said(row()), [row(captured=100)]) == [
        "pay_1 was listed as processing with 100 taken."
    ]


def test_an_accepted_one_that_is_not_listed_is_untrue() -> None:
    assert untrue(said(row()), []) == ["pay_1 was accepted and is not in the list of payments."]
    assert untrue(said(row()), None) == ["The list of payments was not answered."]


def test_a_good_order_is_not_refused_for_good() -> None:
    found = untrue(said({"code": "card_declined"}, 402), [])
    assert found == ["A good order was refused for good, with HTTP 402."]


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([row("succeeded")], []),
        ([], ["not there"]),
        ([row()], ["processing"]),
        ([row("failed")], ["failed"]),
    ],
)
def test_each_accepted_one_is_there_and_paid_at_the_end(
    rows: list[dict[str, Any]], wrong: list[str]
) -> None:
    out = Outage(seconds=8.0, rate=1.0, asked=1, accepted=1, told={"processing": 1})
    found = ended(out, ["pay_1"], rows)
    assert found.untrue == [
        f"pay_1 was accepted during the outage and is {what} at the end." for what in wrong
    ]
    assert found.ended == {wrong[0] if wrong else "succeeded": 1}
    assert found.holds == (not wrong)


def test_an_untrue_word_spoils_the_drill_and_is_shown() -> None:
    word = "pay_1 was answered as <b>, of which the PSP could not know."
    out = Outage(seconds=8.0, rate=1.0, asked=500, accepted=500, told={}, untrue=[word])
    broken = whole(outage=out)
    assert not broken.holds
    assert f"  UNTRUE {word}" in report.lines(broken)
    assert "pay_1 was answered as &lt;b&gt;," in page.html(broken)
