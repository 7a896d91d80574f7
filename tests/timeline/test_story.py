"""A payment's story in plain words, merged from what each part keeps of it."""

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, insert, select

from app import idempotency, jobs
from app.inbox.models import ReceivedEvent
from app.payments import schemas
from app.payments.change import PaymentUnknown
from app.payments.models import Customer
from app.runtime import Runtime
from app.timeline import queries
from app.timeline.schemas import Moment
from app.webhooks.models import Delivery, Event
from tests.payments.story import Story
from tests.support.gates import OpenGates
from tests.support.psp import BookPsp
from tests.webhooks.shop import add_endpoint


async def told(story: Story, payment_id: str, **who: Any) -> list[Moment]:
    async with story.rt.sessions.read() as session:
        return await queries.story(session, rt=story.rt, payment_id=payment_id, **(story.who | who))


def titles(moments: list[Moment]) -> list[str]:
    return [moment.title for moment in moments]


async def test_a_plain_charge_is_told_in_order(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge(12_840)
    moments = await told(story, paid.id)
    assert titles(moments) == [
        "Your shop asked for a payment",
        "payment.created noted",
        "The risk check let it pass",
        "We told the PSP to prepare a charge of 128.40 EUR. Done",
        "We told the PSP to charge 128.40 EUR. It did",
        "Succeeded",
        "payment.succeeded noted",
        "Wallet: 126.35 EUR pending",
    ]
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)
    assert "API key cf_test_…" in moments[0].text
    assert "Request req_test." in moments[0].text
    wallet = moments[-1]
    # The PSP's fee is another posting of the same moment; either may come first.
    position = r"128\.40 EUR payment less 2\.05 EUR fee\. Positions \d to \d\."
    assert re.fullmatch(position, wallet.text)


async def test_a_lost_reply_is_told_with_the_question_that_settled_it(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    unknown = await story.charge()
    before = await told(story, unknown.id)
    assert "Outcome unknown" in titles(before)
    assert before[-1].kind == "next"
    assert before[-1].title == "Next: we ask the PSP again"
    await story.hurry()
    after = await told(story, unknown.id)
    assert not [moment for moment in after if moment.kind == "next"]
    words = titles(after)
    assert words.index("Outcome unknown") < words.index("We asked the PSP. It had done it, once")
    assert "Succeeded" in words


async def test_what_we_kept_back_is_not_said_to_have_been_told(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    rt.made_gates = gates = OpenGates(rt)
    gates.keeps = 1
    made = await story.create(12_840, payment_method="pm_card_visa")
    await story.work()
    kept = "We were about to tell the PSP to prepare a charge of 128.40 EUR. We kept it back"
    assert kept in titles(await told(story, made.id))
    psp.script.extend(["ok", "lost"])
    await story.hurry()
    gates.keeps = 1
    await story.hurry()
    looked = "We meant to ask the PSP. We had to leave it alone"
    assert looked in titles(await told(story, made.id))
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_a_credential_that_the_psp_does_not_accept_is_named(
    rt: Runtime, psp: BookPsp
) -> None:
    """F25: the request had left us, and nothing came of it."""
    story = await Story.begin(rt, psp)
    psp.script.append("unauthorized")
    made = await story.create(12_840, payment_method="pm_card_visa")
    await story.work()
    said = "We told the PSP to prepare a charge of 128.40 EUR. It does not accept our credential"
    assert said in titles(await told(story, made.id))
    psp.script.extend(["ok", "lost"])
    psp.looks.append("unauthorized")
    for _ in range(2):
        await story.hurry()
    asked = "We asked the PSP. It does not accept our credential"
    assert asked in titles(await told(story, made.id))
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    await story.end()


async def test_the_answer_is_opened_and_shut_again_when_the_customer_is_erased(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    _, calls = await story.attempts(paid.id)
    async with rt.sessions.begin() as session:
        customer = await session.get(Customer, paid.id)
        assert customer is not None
        place = f"psp_calls:{calls[0].id}:answer"
        row = await session.merge(calls[0])
        row.answer_sealed = schemas.data_sealer(customer, rt.sealer).seal(b'{"id": "pi_1"}', place)
    (call, *_) = [one for one in await told(story, paid.id) if one.kind == "psp_call"]
    assert '"id": "pi_1"' in call.details[0].text
    assert calls[0].key is not None
    installation = calls[0].key.partition(":")[0]
    assert installation not in call.details[0].text
    async with rt.sessions.begin() as session:
        await session.execute(delete(Customer).where(Customer.payment_id == paid.id))
    (call, *_) = [one for one in await told(story, paid.id) if one.kind == "psp_call"]
    assert "pi_1" not in call.details[0].text
    assert "erased" in call.details[0].text


async def test_the_idempotency_key_is_known_by_its_hash_alone(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create()
    hashed = idempotency.key_hash("order-10482")
    async with rt.sessions.begin() as session:
        await session.execute(
            insert(idempotency.KeyRow).values(
                **idempotency.row(
                    scope="m:mer:test",
                    hashed=hashed,
                    fingerprint="f",
                    status=201,
                    resource_id=made.id,
                    now=rt.clock(),
                )
            )
        )
    first = (await told(story, made.id))[0]
    assert f"SHA-256 {hashed[:12]}" in first.text
    assert "order-10482" not in first.text


async def test_a_refund_is_told_from_the_wish_to_the_wallet(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge(12_840)
    await story.refund(paid.id, 4_000, reason="requested_by_customer")
    await story.work()
    words = titles(await told(story, paid.id))
    assert words.index("Your shop asked for a refund of 40.00 EUR") < words.index(
        "40.00 EUR set aside for the refund"
    )
    assert "We told the PSP to refund 40.00 EUR. It did" in words
    assert "Refund of 40.00 EUR done" in words
    assert "40.00 EUR left the wallet for the customer" in words
    moments = await told(story, paid.id)
    aside = next(m for m in moments if m.title.endswith("set aside for the refund"))
    assert "39.37 EUR from pending, 0.63 EUR of the fee given back." in aside.text


async def test_a_refund_that_the_wallet_does_not_cover_is_told(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp, settle_delay_seconds=0)
    paid = await story.charge(10_000)
    async with rt.sessions.begin() as session:
        row = await session.merge(await story.row(paid.id))
        row.amount_pending = 0  # As after settling, with the money spent elsewhere.
    await story.refund(paid.id)
    await story.work()
    moments = await told(story, paid.id)
    failed = next(m for m in moments if m.title == "Refund of 100.00 EUR failed")
    assert (failed.tone, failed.text) == (
        "bad",
        "Your wallet did not cover it. Nothing was sent to the PSP.",
    )
    assert "The wallet does not cover this" in titles(moments)


async def test_captures_and_cancels_name_who_asked(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    held = await story.charge(10_000, capture_method="manual")
    moments = await told(story, held.id)
    assert "Authorised" in titles(moments)
    assert "Succeeded" not in titles(moments)
    await story.capture(held.id, 6_000)
    await story.work()
    words = titles(await told(story, held.id))
    assert "Your shop asked to take 60.00 EUR of what is held" in words
    assert "Captured" in words
    other = await story.charge(10_000, capture_method="manual")
    await story.cancel(other.id)
    await story.work()
    words = titles(await told(story, other.id))
    assert "Your shop asked to cancel the payment" in words
    assert "Ended" in words


async def test_dead_letters_tell_what_people_decided(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "rejected"])
    stuck = await story.charge()
    assert stuck.status_reason == "held_for_operator"
    (letter,) = await story.dead()
    async with rt.sessions.begin() as session:
        await jobs.revive(session, job_id=letter.id, now=rt.clock(), why="fixed in the sandbox")
    await story.work()
    moments = await told(story, stuck.id)
    letters = [moment for moment in moments if moment.kind == "dead_letter"]
    assert titles(letters) == [
        "Charging the customer has stopped: a person has to decide",
        "Charging the customer was started again by a person",
    ]
    assert letters[1].text == "Fixed in the sandbox."
    assert titles(moments)[-1].startswith("Wallet: ")


async def _endpoint_and_delivery(story: Story, payment_id: str, **delivery: Any) -> None:
    rt, now = story.rt, story.rt.clock()
    endpoint = await add_endpoint(rt, merchant_id=story.who["merchant_id"])
    async with rt.sessions.begin() as session:
        event_id = await session.scalar(
            select(Event.id).where(Event.payment_id == payment_id, Event.type == "payment.created")
        )
        values = {
            "id": rt.ids("whd"),
            **story.who,
            "endpoint_id": endpoint,
            "event_id": event_id,
            "payment_id": payment_id,
            "state": "queued",
            "tries": 0,
            "log": [],
            "created_at": now,
        }
        await session.execute(insert(Delivery).values(**values | delivery))


async def test_each_try_at_the_shop_is_told(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create()
    now = rt.clock()
    log = [
        {"at": now.isoformat(), "status": 500, "ms": 12, "error": "it answered 500"},
        {"at": (now + timedelta(seconds=5)).isoformat(), "status": 200, "ms": 84},
        {"at": (now + timedelta(seconds=9)).isoformat(), "status": 200, "ms": 1, "manual": True},
    ]
    await _endpoint_and_delivery(story, made.id, state="delivered", tries=2, log=log)
    tries = [moment for moment in await told(story, made.id) if moment.kind == "delivery"]
    assert titles(tries) == [
        "payment.created: your shop answered 500",
        "payment.created: your shop answered 200",
        "payment.created: your shop answered 200",
    ]
    assert [one.text for one in tries] == [
        "First try, 12 ms. It answered 500. Tried again after 5 seconds.",
        "Second try, 84 ms.",
        "Sent by hand, 1 ms.",
    ]
    assert [one.tone for one in tries] == ["wait", "ok", "ok"]


@pytest.mark.parametrize(
    ("state", "says", "tone"),
    [("queued", "It waits for its turn.", "quiet"), ("exhausted", "Switched off.", "bad")],
)
async def test_a_message_that_was_never_tried_is_told(
    rt: Runtime, psp: BookPsp, state: str, says: str, tone: str
) -> None:
    story = await Story.begin(rt, psp)
    made = await story.create()
    error = "switched off" if state == "exhausted" else None
    await _endpoint_and_delivery(story, made.id, state=state, last_error=error)
    (only,) = [moment for moment in await told(story, made.id) if moment.kind == "delivery"]
    assert (only.text, only.tone) == (says, tone)


@pytest.mark.parametrize(
    ("state", "kind", "says"),
    [
        ("applied", "payment_intent.succeeded", "Already recorded, so nothing was done twice."),
        ("applied", "payment_intent.payment_failed", "the customer may try another card"),
        ("received", "payment_intent.succeeded", "about to be read"),
        ("parked", "payment_intent.succeeded", "It waits until"),
        ("ignored", "plan.created", "Nothing that we act on."),
    ],
)
async def test_the_psps_own_messages_are_told(
    rt: Runtime, psp: BookPsp, state: str, kind: str, says: str
) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    (attempt,), _ = await story.attempts(paid.id)
    unread = state in {"received", "parked"}
    async with rt.sessions.begin() as session:
        session.add(
            ReceivedEvent(
                id=rt.ids("pev"),
                connection_id=attempt.connection_id,
                psp_event_id="evt_1",
                livemode=False,
                type=kind,
                about="intent",
                attempt_id=attempt.id,
                merchant_id=None if unread else paid_by(story),
                payment_id=None if unread else paid.id,
                state=state,
                psp_created_at=rt.clock(),
                received_at=rt.clock(),
            )
        )
    (only,) = [one for one in await told(story, paid.id) if one.kind == "psp_event"]
    assert says in only.text
    assert f"Message {kind}." in only.text


def paid_by(story: Story) -> str:
    return str(story.who["merchant_id"])


async def test_another_shop_and_the_other_mode_see_nothing(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    charlie = await Story.begin(rt, psp)
    for who in (charlie.who, {"livemode": True}):
        with pytest.raises(PaymentUnknown):
            await told(story, paid.id, **who)


async def test_the_public_shape_is_plain_json(rt: Runtime, psp: BookPsp) -> None:
    story = await Story.begin(rt, psp)
    paid = await story.charge()
    async with rt.sessions.read() as session:
        answer = await queries.timeline(session, rt=rt, payment_id=paid.id, **story.who)
    body = msgspec.json.decode(msgspec.json.encode(answer))
    assert (body["object"], body["payment"]) == ("timeline", paid.id)
    assert body["data"][0]["kind"] == "accepted"
