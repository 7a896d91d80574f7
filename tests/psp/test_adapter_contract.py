"""What every adapter holds, shown on a PSP with a book of its own (its package's `bench.py`)."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from app.__main__ import ROOT
from app.psp.port import EventRefused, PspEvent, Request, Result
from app.settings import Deadlines
from tests.psp.scene import AMOUNT, Scene, now

PACKAGES = sorted(path.parent.name for path in (ROOT / "app/psp").glob("*/adapter.py"))


@pytest.fixture(params=PACKAGES)
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    bench = importlib.import_module(f"tests.psp.{request.param}.bench").Bench(tmp_path)
    made = Scene(bench)
    yield made
    await made.psp.close()
    bench.stop()


def same(one: Result, other: Result) -> bool:
    """Tell whether two answers say the same; only the name of the request differs."""
    return msgspec.structs.replace(one, request_id=None) == msgspec.structs.replace(
        other, request_id=None
    )


async def test_a_charge_succeeds_once_however_often_it_is_sent(scene: Scene) -> None:
    request = scene.request()
    first, reference = await scene.run(request)
    assert (first.cls, first.amount, first.amount_captured) == ("succeeded", AMOUNT, AMOUNT)
    assert (first.currency, first.attempt_id) == ("eur", request.attempt_id)
    assert first.method == "Visa •••• 4242"
    assert first.fee is not None
    for _ in range(2):
        assert same((await scene.run(request))[0], first)
    for known in (reference, None):
        found = await scene.psp.look_up(request, reference=known)
        assert (found.cls, found.psp_reference, found.fee) == ("succeeded", reference, first.fee)
    assert scene.bench.moved() == AMOUNT


async def test_replays_are_identical_and_every_change_carries_its_key(scene: Scene) -> None:
    attempts = [scene.request(), scene.request("checkout")]
    for request in attempts * 2:
        await scene.run(msgspec.json.decode(msgspec.json.encode(request), type=Request))
    keys = scene.bench.keys()
    assert sorted(keys) == sorted(
        [f"inst_1:{r.attempt_id}:{step}" for r in attempts for step in scene.psp.steps(r.kind)] * 2
    )
    assert {len(scene.bench.bodies(key)) for key in keys} == {1}


async def test_a_key_with_other_parameters_is_a_mismatch(scene: Scene) -> None:
    request = scene.request()
    await scene.run(request, last="create")
    other = msgspec.structs.replace(request, amount=1)
    assert (await scene.run(other))[0].cls == "mismatch"


async def test_a_decline_is_final_and_tells_why(scene: Scene) -> None:
    request = scene.request(payment_method=scene.bench.declines)
    result, reference = await scene.run(request)
    assert (result.cls, result.decline_code) == ("declined", "insufficient_funds")
    found = await scene.psp.look_up(request, reference=reference)
    assert (found.cls, found.decline_code) == ("declined", "insufficient_funds")
    assert scene.bench.moved() == 0


async def test_a_psp_that_decides_later_is_pending(scene: Scene) -> None:
    request = scene.request(payment_method=scene.bench.decides_later)
    result, reference = await scene.run(request)
    assert result.cls == "pending"
    assert (await scene.psp.look_up(request, reference=reference)).cls == "pending"


async def test_a_refused_charge_moved_nothing(scene: Scene) -> None:
    request = scene.request(payment_method=scene.bench.refuses)
    result, reference = await scene.run(request)
    assert (result.cls, scene.bench.moved()) == ("rejected", 0)
    assert (await scene.psp.look_up(request, reference=reference)).cls == "next"


@pytest.mark.parametrize("fault", ["reply_lost", "garbled", "breaks_charged"])
async def test_an_answer_that_was_lost_is_looked_up(scene: Scene, fault: str) -> None:
    request = scene.request(payment_method=getattr(scene.bench, fault))
    result, reference = await scene.run(request)
    assert result.cls == "unknown"
    for known in (reference, None):
        assert (await scene.psp.look_up(request, reference=known)).cls == "succeeded"
    replay, _ = await scene.run(request)
    assert replay.cls in {"succeeded", "unknown"}
    assert scene.bench.moved() == AMOUNT


async def test_a_request_that_never_arrived_may_be_replayed(scene: Scene) -> None:
    request = scene.request(payment_method=scene.bench.never_arrives)
    result, reference = await scene.run(request)
    assert result.cls == "unknown"
    assert (await scene.psp.look_up(request, reference=reference)).cls == "next"
    assert ((await scene.run(request))[0].cls, scene.bench.moved()) == ("succeeded", AMOUNT)


async def test_another_amount_is_a_mismatch(scene: Scene) -> None:
    request = scene.request(payment_method=scene.bench.another_amount)
    result, reference = await scene.run(request)
    assert result.cls == "mismatch"
    assert (await scene.psp.look_up(request, reference=reference)).cls == "mismatch"


async def test_a_busy_psp_says_when_to_come_back(scene: Scene) -> None:
    request = scene.request(payment_method=scene.bench.busy_twice)
    answers = [(await scene.run(request))[0] for _ in range(3)]
    assert [answer.cls for answer in answers] == ["busy", "busy", "succeeded"]
    assert answers[0].retry_after == 1


async def test_the_same_request_twice_at_a_time_is_busy_and_moves_money_once(scene: Scene) -> None:
    request = scene.request()
    created, reference = await scene.run(request, last="create")
    assert created.cls == "next"
    scene.bench.slow()
    key = f"inst_1:{request.attempt_id}:confirm"
    first = asyncio.ensure_future(scene.psp.send("confirm", request, key=key, reference=reference))
    for _ in range(100):
        await asyncio.sleep(0.05)
        if scene.bench.moved():
            break
    second = await scene.psp.send("confirm", request, key=key, reference=reference)
    assert (second.cls, (await first).cls) == ("busy", "succeeded")
    assert scene.bench.moved() == AMOUNT


async def test_money_that_is_held_is_captured_in_part_once(scene: Scene) -> None:
    held = await scene.paid(capture_method="manual")
    assert scene.bench.moved() == 0
    capture = scene.request("capture", psp_reference=held, amount=5000)
    assert (await scene.psp.look_up(capture, reference=None)).cls == "next"
    first, _ = await scene.run(capture)
    assert (first.cls, first.amount) == ("succeeded", 5000)
    assert same((await scene.run(capture))[0], first)
    assert (await scene.psp.look_up(capture, reference=None)).cls == "succeeded"
    # Another key: the PSP refuses by state, and the state tells that it is done.
    again = msgspec.structs.replace(capture, attempt_id="att_again")
    assert (await scene.run(again))[0].cls == "succeeded"
    assert scene.bench.moved() == 5000


async def test_money_that_is_held_is_released_for_good(scene: Scene) -> None:
    held = await scene.paid(capture_method="manual")
    void = scene.request("void", psp_reference=held)
    assert (await scene.psp.look_up(void, reference=None)).cls == "next"
    first, _ = await scene.run(void)
    assert first.cls == "closed"
    assert (await scene.run(void))[0].cls == "closed"
    assert (await scene.psp.look_up(void, reference=None)).cls == "closed"
    capture = scene.request("capture", psp_reference=held)
    assert (await scene.run(capture))[0].cls == "closed"


async def test_a_void_that_comes_too_late_says_so(scene: Scene) -> None:
    paid = await scene.paid()
    assert (await scene.run(scene.request("void", psp_reference=paid)))[0].cls == "succeeded"


async def test_a_page_is_made_once_and_paid_once(scene: Scene) -> None:
    request = scene.request("checkout")
    page, reference = await scene.run(request)
    assert page.cls == "open"
    assert page.page_url
    assert page.page_expires_at == (request.expires_at or now()).replace(microsecond=0)
    assert same((await scene.run(request))[0], page)
    for known in (reference, None):
        found = await scene.psp.look_up(request, reference=known)
        assert (found.cls, found.page_url) == ("open", page.page_url)
    scene.bench.pay(page.page_url)
    done = await scene.psp.look_up(request, reference=reference)
    assert (done.cls, done.amount, done.session_reference) == ("succeeded", AMOUNT, reference)
    assert done.psp_reference != reference
    by_charge = await scene.psp.look_up(request, reference=done.psp_reference)
    assert (by_charge.cls, by_charge.fee) == ("succeeded", done.fee)
    assert not scene.bench.can_pay(page.page_url)
    closing = await scene.psp.close_out(request, key="k:close", reference=reference or "")
    assert (closing.cls, scene.bench.moved()) == ("succeeded", AMOUNT)


async def test_a_decline_on_the_page_leaves_it_open(scene: Scene) -> None:
    request = scene.request("checkout")
    page, reference = await scene.run(request)
    scene.bench.fail_to_pay(page.page_url)
    found = await scene.psp.look_up(request, reference=reference)
    assert (found.cls, found.decline_code) == ("open", "insufficient_funds")
    assert found.page_url == page.page_url
    scene.bench.pay(page.page_url)
    done = await scene.psp.look_up(request, reference=found.psp_reference)
    assert (done.cls, done.decline_code, scene.bench.moved()) == ("succeeded", None, AMOUNT)


async def test_a_page_with_a_decline_on_it_can_be_closed(scene: Scene) -> None:
    request = scene.request("checkout")
    page, reference = await scene.run(request)
    scene.bench.fail_to_pay(page.page_url)
    void = scene.request("void", psp_reference=reference)
    assert (await scene.psp.look_up(void, reference=None)).cls == "next"
    assert (await scene.run(void))[0].cls == "closed"
    assert not scene.bench.can_pay(page.page_url or "")


async def test_a_page_with_manual_capture_holds_the_money(scene: Scene) -> None:
    request = scene.request("checkout", capture_method="manual")
    page, reference = await scene.run(request)
    scene.bench.pay(page.page_url)
    found = await scene.psp.look_up(request, reference=reference)
    assert (found.cls, scene.bench.moved()) == ("authorized", 0)
    void = scene.request("void", psp_reference=reference)
    assert (await scene.run(void))[0].cls == "authorized"


async def test_a_closed_page_takes_no_money(scene: Scene) -> None:
    request = scene.request("checkout")
    page, reference = await scene.run(request)
    void = scene.request("void", psp_reference=reference)
    assert (await scene.run(void))[0].cls == "closed"
    assert not scene.bench.can_pay(page.page_url or "")
    assert (await scene.psp.look_up(request, reference=reference)).cls == "closed"
    closing = await scene.psp.close_out(request, key="k:close", reference=reference or "")
    assert closing.cls == "closed"


async def test_an_unconfirmed_charge_is_closed_out_for_good(scene: Scene) -> None:
    request = scene.request()
    _, reference = await scene.run(request, last="create")
    closing = await scene.psp.close_out(request, key="k:close", reference=reference or "")
    assert closing.cls == "closed"
    late = await scene.psp.send("confirm", request, key="k:late", reference=reference)
    assert (late.cls, scene.bench.moved()) == ("closed", 0)


async def test_closing_out_releases_no_money_that_is_held(scene: Scene) -> None:
    request = scene.request(capture_method="manual")
    _, reference = await scene.run(request)
    closing = await scene.psp.close_out(request, key="k:close", reference=reference or "")
    assert closing.cls == "authorized"
    capture = scene.request("capture", psp_reference=reference)
    assert (await scene.run(capture))[0].cls == "succeeded"


async def test_a_refund_gives_back_once(scene: Scene) -> None:
    paid = await scene.paid()
    refund = scene.request("refund", psp_reference=paid, amount=1000, reason="not as described")
    assert (await scene.psp.look_up(refund, reference=None)).cls == "not_found"
    first, reference = await scene.run(refund)
    assert (first.cls, first.amount) == ("succeeded", 1000)
    assert same((await scene.run(refund))[0], first)
    for known in (reference, None):
        assert (await scene.psp.look_up(refund, reference=known)).cls == "succeeded"
    assert scene.bench.moved("refunded") == 1000


async def test_no_more_is_given_back_than_was_taken(scene: Scene) -> None:
    paid = await scene.paid()
    much = scene.request("refund", psp_reference=paid, amount=AMOUNT + 1)
    assert (await scene.run(much))[0].cls == "rejected"
    whole = scene.request("refund", psp_reference=paid)
    assert (await scene.run(whole))[0].cls == "succeeded"
    more = scene.request("refund", psp_reference=paid, amount=1)
    assert (await scene.run(more))[0].cls == "rejected"
    assert scene.bench.moved("refunded") == AMOUNT


async def test_refunds_by_hand_are_seen(scene: Scene) -> None:
    request = scene.request()
    _, paid = await scene.run(request)
    own = scene.request("refund", psp_reference=paid, amount=1000)
    await scene.run(own)
    scene.bench.refund_by_hand(paid, 700)
    seen = await scene.psp.look_up_refunds(paid or "")
    assert isinstance(seen, list)
    told = {(refund.amount, refund.attempt_id) for refund in seen}
    assert told == {(1000, own.attempt_id), (700, None)}
    found = await scene.psp.look_up(request, reference=paid)
    assert (found.cls, len(found.refunds)) == ("succeeded", 2)


async def test_the_fee_can_be_asked_for(scene: Scene) -> None:
    fee = await scene.psp.fee(await scene.paid())
    assert (fee.cls, fee.fee_currency) == ("succeeded", "eur")
    assert 0 < (fee.fee or 0) < AMOUNT


async def test_nobody_elses_object_is_taken_for_ours(scene: Scene) -> None:
    request = scene.request()
    _, reference = await scene.run(request)
    other = msgspec.structs.replace(request, installation="inst_2")
    assert (await scene.psp.look_up(other, reference=None)).cls == "not_found"
    assert (await scene.psp.look_up(other, reference=reference)).cls == "mismatch"
    nothing = await scene.psp.look_up(request, reference="pi_does_not_exist")
    assert nothing.cls == "not_found"


async def test_an_amount_that_cannot_be_written_is_rejected_unsent(scene: Scene) -> None:
    request = scene.request(**scene.bench.unwritable)
    assert ((await scene.run(request))[0].cls, scene.bench.keys()) == ("rejected", [])
    limits = scene.psp.limits(request.currency)
    assert limits is not None
    assert request.amount % limits.step


async def test_a_psp_that_is_down_is_unknown_and_one_that_is_gone_was_not_reached(
    scene: Scene,
) -> None:
    assert await scene.psp.healthy()
    scene.bench.down()
    assert ((await scene.run(scene.request()))[0].cls, await scene.psp.healthy()) == (
        "unknown",
        False,
    )
    scene.bench.gone()
    fresh = scene.bench.adapter(now, Deadlines())
    request = scene.request()
    step = fresh.steps("charge")[0]
    assert (await fresh.send(step, request, key="k", reference=None)).cls == "not_sent"
    assert (await fresh.look_up(request, reference=None)).cls == "unknown"
    assert not await fresh.healthy()
    await fresh.close()


async def test_the_psps_own_events_verify_and_name_the_attempt(scene: Scene) -> None:
    heard: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
        headers = {k.title(): v for k, _, v in (line.partition(": ") for line in head if line)}
        body = await reader.readexactly(int(headers["Content-Length"]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await heard.put((body, headers))

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    scene.bench.events_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events")
    request = scene.request()
    _, paid = await scene.run(request)
    refund = scene.request("refund", psp_reference=paid, amount=1000)
    _, back = await scene.run(refund)
    wanted = {("intent", paid, request.attempt_id), ("refund", back, refund.attempt_id)}
    told: set[tuple[str, str | None, str | None]] = set()
    async with asyncio.timeout(15):
        while not wanted <= told:
            body, headers = await heard.get()
            event: PspEvent = scene.psp.verify_event(body, headers, now())
            told.add((event.about, event.psp_reference, event.attempt_id))
            with pytest.raises(EventRefused):
                scene.psp.verify_event(body + b" ", headers, now())
    server.close()
