"""Applying received events: the PSP's object is asked for, so their order does not matter."""

from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.inbox.models import ReceivedEvent
from app.inbox.operations import bury
from app.inbox.refunding import follow_refunds
from app.jobs import Claim, Postpone
from app.payments import processing, resolving
from app.payments.attempts import installation_of
from app.payments.change import attempts_of
from app.payments.models import Attempt, Payment
from app.payments.ruling import DONE, Ruling
from app.payments.states import ATTEMPT_FINAL, FINAL, RETURNED, SAYS_TWICE
from app.psp.port import FAILED_LOOKS
from app.runtime import Runtime

_PARKED_FOR = timedelta(hours=24)  # Then an event of a row that never came is ignored.
_TELLS_OF_MONEY = frozenset(
    {
        "payment_intent.succeeded",
        "payment_intent.amount_capturable_updated",
        "payment_intent.processing",
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
    }
)
_NO_EFFECT = "The PSP tells of money from an attempt that was held to have had no effect."


async def apply(rt: Runtime, job: Claim) -> None:
    """Bring about what a received event tells of, once.

    Not ours: noted as foreign. Ours but unknown (our own commit may still be under way):
    parked and tried again.
    """
    async with rt.sessions.read() as session:
        event = await session.get(ReceivedEvent, job.args["event_id"])
        if event is None or event.state not in {"received", "parked"}:
            return None
        attempt, over = await _attempt(session, event)
        ours = await installation_of(session, rt)
    if event.about == "other":
        return await _note(rt, job, event, "ignored", "Nothing that we act on.")
    if attempt is None:
        if event.installation != ours and not await _may_become_ours(rt, event):
            return await _note(rt, job, event, "foreign", "Of another system.")
        return await _park(rt, job, event)
    ruling = await _bring_about(rt, job, event, attempt, over=over)
    if ruling.action == "look":
        seconds = ruling.seconds or 0.0
        raise Postpone(processing.backoff(rt, job.tries, cap=60.0, at_least=seconds), ruling.reason)
    await _note(rt, job, event, "applied", None, attempt, ruling)
    return None


async def _may_become_ours(rt: Runtime, event: ReceivedEvent) -> bool:
    """Tell whether an event without a mark may be of a charge that we have yet to hear of.

    A refund made by hand carries none. Of a checkout we know the page alone until the customer's
    payment is found, and if its own event was lost, the refund's comes first.
    """
    if event.installation is not None or event.about != "refund":
        return False
    async with rt.sessions.read() as session:
        found = await session.scalar(
            select(Attempt.id)
            .where(
                Attempt.connection_id == event.connection_id,
                Attempt.livemode == event.livemode,
                Attempt.kind == "checkout",
                Attempt.created_at <= event.received_at,
                Attempt.state.in_(("created", "sent", "unknown", "open")),
            )
            .limit(1)
        )
    return found is not None


async def _bring_about(
    rt: Runtime, job: Claim, event: ReceivedEvent, attempt: Attempt, *, over: bool
) -> Ruling:
    if event.about == "refund" or event.type == "charge.refunded":
        await follow_refunds(rt, job, event, attempt)
        return DONE
    if attempt.state == "needs_review":
        return await _goes_on(rt, job, attempt)
    if attempt.state == "succeeded":
        # What is paid holds nothing back any more; that is never undone, so no lock is needed.
        return DONE if over else await resolving.look_at_hold(rt, attempt_id=attempt.id)
    news = event.type in _TELLS_OF_MONEY and attempt.code != RETURNED
    if attempt.state in {"rejected", "not_sent"} and news:
        return await _after_all(rt, job, attempt)
    if attempt.state in ATTEMPT_FINAL:
        return DONE
    ruling = await resolving.resolve(rt, attempt_id=attempt.id)
    failed = event.type == "payment_intent.payment_failed" and attempt.kind == "checkout"
    if failed and event.object_reference and ruling.action == "done":
        reference = event.object_reference
        await resolving.look_at_decline(rt, attempt_id=attempt.id, reference=reference)
    return ruling


async def _goes_on(rt: Runtime, job: Claim, attempt: Attempt) -> Ruling:
    """See what became of what waits for a person: it may be taken at the PSP, or end there."""
    result = await resolving.look_back(rt, attempt_id=attempt.id)
    if result is not None and result.cls in FAILED_LOOKS:
        why = result.message or "The PSP did not answer."
        processing.give_up(job, rt, why)
        return Ruling("look", why, 5.0)
    async with rt.sessions.read() as session:
        found = await session.get(Attempt, attempt.id)
    if found is None or found.state != "needs_review":
        return DONE
    return Ruling("bury", found.message or "The PSP did something else than we asked for.")


async def _after_all(rt: Runtime, job: Claim, attempt: Attempt) -> Ruling:
    """Find out about an attempt that was held to have had no effect, and of which money came.

    A request that was given up may have arrived late, after its own replay had been refused.
    """
    result = await resolving.look_back(rt, attempt_id=attempt.id)
    if result is None or result.cls in {"closed", "declined"}:
        return DONE  # What the event told of is over, and moved nothing.
    async with rt.sessions.read() as session:
        found = await session.get(Attempt, attempt.id)
        held_twice = any(row.pays for row in await attempts_of(session, attempt.payment_id))
    unchanged = found is not None and found.state == attempt.state
    if unchanged and held_twice and result.cls == "authorized":
        return Ruling("bury", SAYS_TWICE)
    if unchanged and held_twice and result.cls in {"pending", "open", "mismatch"}:
        return DONE  # Another hold carries the payment; should money come, that is told anew.
    if unchanged:
        # The PSP does not show it yet, or another call about this payment is under way.
        processing.give_up(job, rt, _NO_EFFECT)
        return Ruling("look", _NO_EFFECT, 5.0)
    if found is not None and found.state == "needs_review":
        return Ruling("bury", found.message or _NO_EFFECT)
    return DONE


async def _attempt(session: AsyncSession, event: ReceivedEvent) -> tuple[Attempt | None, bool]:
    """Find what an event is about, by our own id in its metadata, else by the object.

    The second value tells whether what it says of money is known: its payment is paid, or has
    ended otherwise and this event brings none.
    """
    query = select(Attempt, Payment.status).join(Payment, Payment.id == Attempt.payment_id)
    if event.attempt_id is not None:
        found = (await session.execute(query.where(Attempt.id == event.attempt_id))).first()
        if found is not None and found[0].connection_id == event.connection_id:
            return found[0], _is_over(found[1], event)
    if event.psp_reference is None:
        return None, False
    by_object = query.where(
        Attempt.connection_id == event.connection_id,
        Attempt.livemode == event.livemode,
        Attempt.kind.in_(("checkout", "charge")),
        or_(
            Attempt.psp_reference == event.psp_reference,
            Attempt.session_reference == event.psp_reference,
        ),
    ).limit(1)
    found = (await session.execute(by_object)).first()
    return (None, False) if found is None else (found[0], _is_over(found[1], event))


def _is_over(status: str, event: ReceivedEvent) -> bool:
    return status == "succeeded" or (status in FINAL and event.type not in _TELLS_OF_MONEY)


async def _park(rt: Runtime, job: Claim, event: ReceivedEvent) -> None:
    # One without a mark waits as long as there is a page that it may be about, which ends by itself
    # (after an outage of a day a time would be over before anything was looked at).
    marked = event.installation is not None
    if marked and rt.clock() - event.received_at > _PARKED_FOR:
        await _note(rt, job, event, "ignored", "What it is about never appeared here.")
        return
    async with rt.sessions.begin() as session:
        await session.execute(
            update(ReceivedEvent).where(ReceivedEvent.id == event.id).values(state="parked")
        )
    raise Postpone(
        processing.backoff(rt, job.tries, cap=300.0), "What it is about is not here yet."
    )


async def _note(
    rt: Runtime,
    job: Claim,
    event: ReceivedEvent,
    state: str,
    note: str | None,
    attempt: Attempt | None = None,
    ruling: Ruling = DONE,
) -> None:
    values: dict[str, Any] = {"state": state, "note": note, "applied_at": rt.clock()}
    if attempt is not None:
        values |= {"merchant_id": attempt.merchant_id, "payment_id": attempt.payment_id}
    async with rt.sessions.begin() as session:
        await session.execute(
            update(ReceivedEvent).where(ReceivedEvent.id == event.id).values(**values)
        )
        if attempt is not None and ruling.action == "bury":
            await bury(session, rt, attempt, ruling.reason)
        await jobs.finish(session, job=job, now=rt.clock())
