"""Amounts that the PSP cannot take, and payments that are busy, are refused when asked for."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from app.janitor import processing as janitor
from app.payments.models import Payment, PspCall, Refund
from app.runtime import Runtime
from tests.support.invariants import check_invariants
from tests.support.psp import BookPsp
from tests.web.api.shop import Api, problem

PATH = "/v1/payments"


async def count(rt: Runtime, table: Any) -> int:
    async with rt.sessions.read() as session:
        return int(await session.scalar(select(func.count()).select_from(table)) or 0)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"amount": 49, "currency": "eur"}, "amount_below_minimum", "amount"),
        ({"amount": 100_001, "currency": "eur"}, "amount_above_maximum", "amount"),
        ({"amount": 1_005, "currency": "eur"}, "amount_not_representable", "amount"),
        ({"amount": 1_000, "currency": "kpw"}, "currency_not_supported", "currency"),
    ],
)
async def test_what_the_psp_never_takes_is_refused_at_acceptance(
    api: Api, psp: BookPsp, rt: Runtime, body: dict[str, Any], code: str, param: str
) -> None:
    psp.least, psp.most, psp.step = 50, 100_000, 10
    first = await api.post(PATH, body, key="k")
    told = problem(first, 422, code)
    assert told["param"] == param
    again = await api.post(PATH, body, key="k")
    assert (again.status_code, again.content) == (422, first.content)
    assert await count(rt, Payment) == 0
    for amount in (50, 100_000):
        assert (await api.post(PATH, {"amount": amount, "currency": "eur"})).status_code == 201


async def test_a_part_that_the_psp_cannot_write_is_refused(
    api: Api, psp: BookPsp, rt: Runtime
) -> None:
    psp.step = 10
    held = await api.create(5_000, capture_method="manual", payment_method="pm_card_visa")
    paid = await api.paid(5_000)
    path = f"{PATH}/{held['id']}/capture"
    problem(await api.post(path, {"amount": 1_005}), 422, "amount_not_representable")
    refund = {"payment": paid["id"], "amount": 1_005}
    problem(await api.post("/v1/refunds", refund), 422, "amount_not_representable")
    assert await count(rt, Refund) == 0
    assert (await api.post(path, {"amount": 1_010})).status_code == 200
    answer = await api.post("/v1/refunds", {**refund, "amount": 1_010})
    assert answer.status_code == 201, answer.text
    await api.runner.drain()
    await check_invariants(rt)


async def test_a_payment_that_is_being_worked_on_takes_no_second_capture(
    api: Api, rt: Runtime
) -> None:
    held = await api.create(5_000, capture_method="manual", payment_method="pm_card_visa")
    path = f"{PATH}/{held['id']}/capture"
    problem(await api.post(path), 409, "payment_busy")
    await api.runner.drain()
    assert (await api.post(path)).status_code == 200
    problem(await api.post(path), 409, "payment_busy")
    await api.runner.drain()
    problem(await api.post(path), 409, "payment_wrong_state")
    found = (await api.get(f"{PATH}/{held['id']}")).json()
    assert (found["status"], found["amount_captured"]) == ("succeeded", 5_000)
    await check_invariants(rt)


async def test_who_asks_for_more_than_is_known_brings_the_next_look_forward(
    api: Api, psp: BookPsp, rt: Runtime
) -> None:
    held = await api.create(5_000, capture_method="manual", payment_method="pm_card_visa")
    await api.runner.drain()
    path = f"{PATH}/{held['id']}"
    psp.script.append("lost")
    await api.post(f"{path}/capture")
    await api.runner.drain()
    await api.runner.drain()
    assert not _looks(psp)  # The first is due in a few seconds.
    problem(await api.post(f"{path}/capture"), 409, "payment_busy")
    await api.runner.drain()
    assert _looks(psp) == 1
    assert (await api.get(path)).json()["status"] == "succeeded"
    await check_invariants(rt)


async def test_reading_what_is_being_canceled_brings_the_next_look_forward(
    api: Api, psp: BookPsp, rt: Runtime
) -> None:
    psp.script.extend(["ok", "lost"])
    made = await api.create(5_000, payment_method="pm_card_visa")
    path = f"{PATH}/{made['id']}"
    await api.runner.drain()
    psp.looks.append("lost")
    assert (await api.post(f"{path}/cancel")).json()["status_reason"] == "canceling"
    await api.runner.drain()
    assert _looks(psp) == 1  # Which nobody answered.
    async with rt.sessions.begin() as session:  # It was a minute ago.
        back = rt.clock() - timedelta(minutes=1)
        await session.execute(update(PspCall).values(started_at=back))
    await api.get(path)
    await api.runner.drain()
    assert _looks(psp) == 2
    assert (await api.get(path)).json()["status"] == "succeeded"
    await check_invariants(rt)


async def test_reading_or_making_a_refund_brings_the_look_at_an_unknown_one_forward(
    api: Api, psp: BookPsp, rt: Runtime
) -> None:
    paid = await api.create(5_000, payment_method="pm_card_visa")
    await api.runner.drain()
    psp.script.append("lost")
    first = (await api.post("/v1/refunds", {"payment": paid["id"], "amount": 1_000})).json()
    await api.runner.drain()
    await api.runner.drain()
    assert not _looks(psp)  # The first is due in a few seconds.
    psp.looks.append("lost")
    await api.get(f"/v1/refunds/{first['id']}")
    await api.runner.drain()
    assert _looks(psp) == 1  # Which nobody answered.
    second = await api.post("/v1/refunds", {"payment": paid["id"], "amount": 1_000})
    await api.runner.drain()
    assert _looks(psp) == 2
    for refund_id in (first["id"], second.json()["id"]):
        assert (await api.get(f"/v1/refunds/{refund_id}")).json()["status"] == "succeeded"
    await check_invariants(rt)


async def test_a_refusal_is_told_also_when_the_look_cannot_be_hurried(
    api: Api, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: Any, **__: Any) -> None:
        raise OperationalError("UPDATE jobs", {}, Exception("lock timeout"))

    held = await api.create(5_000, capture_method="manual", payment_method="pm_card_visa")
    monkeypatch.setattr(janitor, "hurry", busy)
    problem(await api.post(f"{PATH}/{held['id']}/capture"), 409, "payment_busy")


def _looks(psp: BookPsp) -> int:
    return [step for step, _, _ in psp.requests].count("lookup")
