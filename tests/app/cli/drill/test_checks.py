"""Each kind of harm that a drill looks for is found when it is there, and named by its rule."""

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from app.cli.drill.checks import check
from app.cli.drill.client import Answer, Ask
from app.cli.drill.receiver import Taken
from app.cli.drill.records import Records
from app.cli.drill.shop import Order


def payment(**values: Any) -> dict[str, Any]:
    return {
        "id": "pay_1",
        "reference": "drill-1",
        "amount": 1000,
        "amount_captured": 1000,
        "net": 470,
        "currency": "eur",
        "status": "succeeded",
        "status_reason": None,
        "attempts": ["att_1", "att_2"],
        **values,
    }


def taken(sequence: int) -> Taken:
    return Taken({"data": {"object": {"id": "pay_1"}, "sequence": sequence}})


def request(key: str, body: str = "a=1", path: str = "/v1/payment_intents") -> dict[str, Any]:
    return {"method": "POST", "path": path, "key": key, "body": body}


def sound() -> Records:
    """Return the records of one paid order of which half was given back."""
    yes = Answer(201, {"id": "pay_1", "status": "processing"})
    back = Answer(201, {"id": "re_1", "status": "pending"})
    return Records(
        orders=[
            Order(
                number=1,
                reference="drill-1",
                amount=1000,
                currency="eur",
                kind="sale",
                manual=False,
                token="pm_card_visa",
                payment="pay_1",
                told=["processing", "succeeded"],
                done=True,
            )
        ],
        asks=[
            Ask(path="/v1/payments", key="k1", body={}, answers=[Answer(0), yes]),
            Ask(path="/v1/refunds", key="k2", body={}, answers=[back]),
        ],
        payments=[payment()],
        refunds=[{"id": "re_1", "payment": "pay_1", "amount": 500, "status": "succeeded"}],
        events=[{"id": "evt_1"}, {"id": "evt_2"}],
        balance={"available": [], "pending": [{"currency": "eur", "amount": 470}]},
        book={
            "charges": [
                {
                    "id": "ch_1",
                    "captured": True,
                    "status": "succeeded",
                    "amount_captured": 1000,
                    "metadata": {"attempt_id": "att_1"},
                }
            ],
            "refunds": [
                {
                    "id": "re_p",
                    "status": "succeeded",
                    "amount": 500,
                    "metadata": {"attempt_id": "att_2"},
                }
            ],
        },
        requests=[request("i:att_1:create"), request("i:att_1:create")],
        taken={"evt_1": taken(1), "evt_2": taken(2)},
        forged=0,
        dead=0,
        ledger="all holds",
        ledger_holds=True,
    )


def harms(records: Records) -> set[tuple[str, str]]:
    return {(one.rule, one.harm) for one in check(records)}


def test_sound_records_break_nothing() -> None:
    assert check(sound()) == []


def test_an_order_that_its_shop_abandoned_may_or_may_not_be_there() -> None:
    records = sound()
    records.asks[0].answers = [Answer(0)]
    records.orders[0].payment = None
    assert check(records) == []


Break = Callable[[Records], None]


def lose(records: Records) -> None:
    records.payments = []
    records.balance["pending"] = []


def accept_twice(records: Records) -> None:
    records.asks[0].answers.append(Answer(201, {"id": "pay_9"}))


def two_payments(records: Records) -> None:
    records.payments.append(payment(id="pay_2", attempts=[], amount_captured=0, net=0))


def charge_twice(records: Records) -> None:
    charges = records.book["charges"]
    charges.append(copy.deepcopy(charges[0]) | {"id": "ch_2"})


def charge_unknown(records: Records) -> None:
    records.book["charges"][0]["metadata"] = {"attempt_id": "att_of_nobody"}


def charge_without_us(records: Records) -> None:
    records.payments[0] |= {"status": "failed", "amount_captured": 0, "net": 0}
    records.orders[0].told = ["processing"]
    records.balance["pending"] = []
    records.refunds, records.book["refunds"] = [], []
    records.asks = records.asks[:1]


def say_paid_without_charge(records: Records) -> None:
    records.book["charges"] = []


def refund_twice(records: Records) -> None:
    refunds = records.book["refunds"]
    refunds += [copy.deepcopy(refunds[0]), copy.deepcopy(refunds[0])]


def tell_failed_first(records: Records) -> None:
    records.orders[0].told = ["failed", "succeeded"]


def leave_unknown(records: Records) -> None:
    records.payments[0] |= {"status": "processing", "status_reason": "outcome_unknown"}


def leave_a_refund(records: Records) -> None:
    records.refunds[0]["status"] = "pending"


def resend_with_other_words(records: Records) -> None:
    records.requests[1]["body"] = "a=2"


def resend_with_another_key(records: Records) -> None:
    records.requests[1]["key"] = "other:att_1:create"


def send_without_a_key(records: Records) -> None:
    records.requests[1]["key"] = None


def lose_a_webhook(records: Records) -> None:
    del records.taken["evt_1"]


def invent_a_webhook(records: Records) -> None:
    records.taken["evt_3"] = taken(3)


def change_a_webhook(records: Records) -> None:
    records.taken["evt_1"].changed = True


def skip_a_number(records: Records) -> None:
    records.taken["evt_2"] = taken(3)


def forge(records: Records) -> None:
    records.forged = 1


def empty_the_wallet(records: Records) -> None:
    records.balance["pending"] = []


def break_the_ledger(records: Records) -> None:
    records.ledger_holds = False


def bury(records: Records) -> None:
    records.dead = 1


def answer_500(records: Records) -> None:
    records.asks[0].answers.insert(0, Answer(500))


def leave_a_story(records: Records) -> None:
    records.orders[0].done = False


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lose, ("I7", "lost")),
        (accept_twice, ("I8", "twice")),
        (two_payments, ("I7", "twice")),
        (charge_twice, ("I4", "twice")),
        (charge_unknown, ("I3", "invented")),
        (charge_without_us, ("I3", "lost")),
        (say_paid_without_charge, ("I3", "invented")),
        (refund_twice, ("I5", "twice")),
        (tell_failed_first, ("I8", "contradicted")),
        (leave_unknown, ("I6", "unresolved")),
        (leave_a_refund, ("I6", "unresolved")),
        (resend_with_other_words, ("I9", "blind")),
        (resend_with_another_key, ("I9", "blind")),
        (send_without_a_key, ("I9", "blind")),
        (lose_a_webhook, ("I11", "lost")),
        (invent_a_webhook, ("I11", "invented")),
        (change_a_webhook, ("I11", "contradicted")),
        (skip_a_number, ("I11", "lost")),
        (forge, ("I11", "fault")),
        (empty_the_wallet, ("I2", "ledger")),
        (break_the_ledger, ("I1", "ledger")),
        (bury, ("I10", "unresolved")),
        (answer_500, ("I7", "fault")),
        (leave_a_story, ("I21", "unresolved")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_harm_is_found(harm: Break, found: tuple[str, str]) -> None:
    records = sound()
    harm(records)
    assert found in harms(records)


def test_a_violation_says_what_was_found() -> None:
    records = sound()
    charge_twice(records)
    [first, *_] = check(records)
    assert first.sentence() == "I4 (twice): pay_1 was charged 2 times"
    assert msgspec.json.encode(first)
