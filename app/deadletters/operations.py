"""What an admin decides about a dead letter: retry, discard, look again; one transaction each."""

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.audit import operations as audit
from app.audit.operations import Actor
from app.deadletters import bulk, queries, work
from app.deadletters.bulk import Action, Plan
from app.deadletters.models import Approval
from app.deadletters.verdict import Letter, Verdict, asks_psp, is_fresh, judge, weigh
from app.errors import Conflict, Refused
from app.janitor import processing as janitor
from app.jobs import Job, NotRetryable
from app.payments.change import Change, lock
from app.payments.refunding import fail_refund
from app.runtime import Runtime

SHORTEST_REASON = 10
LONGEST_REASON = 1000
_CUT_OFF = 300.0  # Seconds: much more than a request needs for all that one may ask for.
_CODE = "discarded"


class RetryRefused(Conflict):
    """What is known about the letter does not allow a retry."""

    code = "dead_letter_not_retryable"


class DiscardRefused(Conflict):
    """What is known about the letter does not allow to give it up."""

    code = "dead_letter_not_discardable"


class SecondNeeded(Conflict):
    """It is about more than one person may decide."""

    code = "second_person_needed"


class ApprovalOver(Conflict):
    """Somebody has answered this request already."""

    code = "approval_over"


class SamePerson(Conflict):
    """Whoever asks for a second person is not that person."""

    code = "second_person_is_the_first"


class LookRefused(Conflict):
    """There is nothing to ask the PSP about."""

    code = "dead_letter_nothing_to_look_up"


class ReasonTooShort(Refused):
    """A discard is explained to those who read the audit log later."""

    code = "reason_too_short"


async def retry(
    session: AsyncSession,
    *,
    rt: Runtime,
    actor: Actor,
    job_id: str,
    why: str | None = None,
    approved: bool = False,
) -> Job:
    """Make a dead letter due again, if sending it can have one effect at most.

    The PSP must have been asked within five minutes; the job asks once more before it sends.
    Raises LetterUnknown, NotRetryable (somebody was first), RetryRefused, SecondNeeded.
    """
    _, letter, verdict = await _judged(session, rt, job_id)
    if not verdict.retry:
        raise RetryRefused(verdict.no_retry)
    _check_second(rt, letter, verdict, approved=approved)
    before = _seen(letter)
    told = f"By {actor.name}." + (f" {why}" if why else "")
    job = await jobs.revive(session, job_id=job_id, now=rt.clock(), why=told)
    attempt = letter.attempt
    if job.kind == "janitor.resolve" and attempt is not None and verdict.says == "safe":
        # The question is answered: nothing happened. What is left to do is the work itself.
        job.kind, job.args = work.work_again(attempt)
        job.queue, job.version = "psp", 1
        await session.flush()
        db.wake(session, [job.queue])
    await _audit(session, rt, actor, "dead_letter.retry", job, before, {"state": "due"}, why)
    return job


async def discard(
    session: AsyncSession,
    *,
    rt: Runtime,
    actor: Actor,
    job_id: str,
    why: str,
    approved: bool = False,
) -> Job:
    """Give a dead letter up: its payment or refund fails, if surely nothing happened.

    `why`: at least 10 characters. Raises LetterUnknown, NotRetryable (somebody was first),
    ReasonTooShort, DiscardRefused, SecondNeeded.
    """
    reason = checked_reason(why, param="reason")
    change, letter, verdict = await _judged(session, rt, job_id)
    if not verdict.discard:
        raise DiscardRefused(verdict.no_discard)
    _check_second(rt, letter, verdict, approved=approved)
    before = _seen(letter)
    told = f"By {actor.name}. {reason}"
    job = await jobs.discard(session, job_id=job_id, now=rt.clock(), why=told)
    after = {"state": "discarded"}
    if change is not None:
        after |= _end(change, letter, verdict)
        await change.save()
    await _audit(session, rt, actor, "dead_letter.discard", job, before, after, reason)
    return job


def checked_reason(why: str, *, param: str) -> str:
    """Return a reason that the audit log can keep. Raises ReasonTooShort."""
    reason = " ".join(why.split())
    if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        raise ReasonTooShort(
            f"Write {SHORTEST_REASON} to {LONGEST_REASON} characters.", param=param
        )
    return reason


def _check_second(rt: Runtime, letter: Letter, verdict: Verdict, *, approved: bool) -> None:
    money = bulk.in_question(letter, verdict)
    if not approved and money and bulk.needs_second([money], 1, rt.settings):
        raise SecondNeeded("This is about so much that a second admin must agree.")


async def look_again(session: AsyncSession, *, rt: Runtime, job_id: str) -> None:
    """Have the PSP asked now what became of the request; a worker asks.

    Raises LetterUnknown, LookRefused.
    """
    letter = await queries.letter(session, job_id=job_id)
    if not await ask_psp(session, rt=rt, letter=letter, always=True):
        raise LookRefused("Nothing about this is unknown, so there is nothing to ask the PSP.")


async def ask_psp(
    session: AsyncSession, *, rt: Runtime, letter: Letter, always: bool = False
) -> bool:
    """Have a worker look a letter up, unless the PSP's word is fresh (`always`: in any case).

    Tells whether there was something to ask.
    """
    job, said = letter.job, judge(letter).says
    if job.state != "dead" or job.payment_id is None:
        return False
    if said == "unknown":
        await janitor.hurry(session, ids=rt.ids, rt=rt, payment_id=job.payment_id)
        return True
    if said in {"paid", "declined"} or not asks_psp(letter):
        return False
    if letter.looking or (is_fresh(letter, rt.clock()) and not always):
        return True
    return await jobs.enqueue(
        session,
        id=rt.ids("job"),
        kind=queries.LOOK,
        args={"job_id": job.id},
        queue="janitor",
        now=rt.clock(),
        merchant_id=job.merchant_id,
        livemode=job.livemode,
        payment_id=job.payment_id,
        unique_key=f"{queries.LOOK}:{job.id}",
    )


async def ask_second(
    session: AsyncSession, *, rt: Runtime, actor: Actor, action: Action, plan: Plan, why: str
) -> Approval:
    """Write down what a first admin wants, for a second one to agree to. Raises ReasonTooShort."""
    found = Approval(
        id=rt.ids("apr"),
        action=action,
        job_ids=[letter.job.id for letter, _ in plan.runs],
        sums=[list(one) for one in plan.sums],
        reason=checked_reason(why, param="why"),
        state="waiting",
        asked_by=actor.id or "",
        asked_name=actor.name[:200],
        asked_at=rt.clock(),
    )
    session.add(found)
    await session.flush()
    after = {"action": action, "letters": len(found.job_ids), "sums": found.sums}
    await _audit_approval(session, rt, actor, "dead_letter.ask", found, after)
    return found


async def answer_second(
    session: AsyncSession, *, rt: Runtime, actor: Actor, approval_id: str, agrees: bool
) -> Approval:
    """Answer a first admin's request, once and as another person.

    Raises ApprovalUnknown, ApprovalOver, SamePerson.
    """
    query = select(Approval).where(Approval.id == approval_id).with_for_update()
    found = await session.scalar(query.execution_options(populate_existing=True))
    if found is None:
        raise queries.ApprovalUnknown("There is no such request.")
    if found.state != "waiting":
        raise ApprovalOver("Somebody has answered this meanwhile.")
    if agrees and found.asked_by == actor.id:
        raise SamePerson("You asked for this yourself; somebody else has to agree.")
    found.state = "approved" if agrees else "refused"
    found.decided_by, found.decided_name = actor.id, actor.name[:200]
    found.decided_at = rt.clock()
    word = "dead_letter.approve" if agrees else "dead_letter.refuse"
    await _audit_approval(session, rt, actor, word, found, {"state": found.state})
    if agrees:
        # Whoever agreed carries it out at once; should that be cut off, a worker does.
        await jobs.enqueue(
            session,
            id=rt.ids("job"),
            kind=queries.CARRY_OUT,
            args={"approval_id": found.id},
            queue="janitor",
            now=rt.clock(),
            after=_CUT_OFF,
        )
    return found


async def _audit_approval(
    session: AsyncSession, rt: Runtime, actor: Actor, action: str, found: Approval, after: Any
) -> None:
    await audit.record(
        session,
        ids=rt.ids,
        now=rt.clock(),
        actor=actor,
        action=action,
        object_id=found.id,
        merchant_id=None,
        livemode=None,
        after=after,
        reason=found.reason,
    )


async def _judged(
    session: AsyncSession, rt: Runtime, job_id: str
) -> tuple[Change | None, Letter, Verdict]:
    """Lock the payment, as every change of it does, and judge what is so under the lock."""
    letter = await queries.letter(session, job_id=job_id)
    if letter.job.state != "dead":
        raise NotRetryable("This item has been retried or discarded meanwhile.")
    if letter.payment is None:
        return None, letter, weigh(letter, now=rt.clock())
    change = await lock(session, rt, payment_id=letter.payment.id)
    letter = await queries.letter(session, job_id=job_id)
    return change, letter, weigh(letter, now=rt.clock())


def _end(change: Change, letter: Letter, verdict: Verdict) -> dict[str, str]:
    """Bring about what a discard ends; returns it for the audit log."""
    payment, attempt, refund = change.payment, letter.attempt, letter.refund
    never = verdict.ends != "close" or verdict.says == "declined"
    if never and attempt is not None and attempt.state == "created":
        attempt.state, attempt.next_check_at = "not_sent", None
        attempt.updated_at = attempt.finished_at = change.now
    if verdict.ends == "fail_refund" and refund is not None and refund.status == "pending":
        fail_refund(change, refund, code=_CODE, message="Given up by the platform.", reserved=True)
        return {"refund": refund.status}
    if verdict.ends == "keep_hold" and payment.status == "processing":
        change.move("requires_capture")
        return {"payment": payment.status}
    if verdict.ends == "fail_payment":
        if payment.status == "requires_action":
            # The graph has no direct edge; shops hear of the failure alone.
            change.move("processing", tell=False)
        payment.failure_code, payment.failure_decline_code = _CODE, None
        payment.failure_message = "Given up by the platform. Nothing was charged."
        change.move("failed")
        return {"payment": payment.status}
    return {}


def _seen(letter: Letter) -> dict[str, str | None]:
    seen = {"state": letter.job.state, "kind": letter.job.kind, "reason": letter.job.reason}
    if letter.payment is not None:
        seen["payment_id"] = letter.payment.id
    return seen


async def _audit(
    session: AsyncSession,
    rt: Runtime,
    actor: Actor,
    action: str,
    job: Job,
    before: dict[str, str | None],
    after: dict[str, str],
    reason: str | None,
) -> None:
    await audit.record(
        session,
        ids=rt.ids,
        now=rt.clock(),
        actor=actor,
        action=action,
        object_id=job.id,
        merchant_id=job.merchant_id,
        livemode=job.livemode,
        before=before,
        after=after,
        reason=reason or None,
    )


async def note_outcome(session: AsyncSession, *, approval_id: str, outcome: str) -> None:
    """Write down what came of an approved request; the first word stays."""
    await session.execute(
        update(Approval)
        .where(Approval.id == approval_id, Approval.outcome.is_(None))
        .values(outcome=outcome[:200])
    )
