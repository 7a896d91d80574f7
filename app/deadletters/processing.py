"""Looks before decisions, and decisions about many letters, each in a transaction of its own."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import wraps

import msgspec

from app.audit.operations import Actor
from app.deadletters import operations, queries
from app.deadletters.bulk import Action
from app.deadletters.operations import DiscardRefused, RetryRefused
from app.deadletters.queries import LetterUnknown
from app.deadletters.verdict import asks_psp
from app.jobs import Claim, Job, NotRetryable, Postpone
from app.payments import resolving
from app.payments.processing import backoff, give_up, last_retry
from app.psp.port import FAILED_LOOKS
from app.runtime import Runtime

MOST = 200
_SILENT = "The look-up that comes before a retry has told nothing. Nothing was sent."

Work = Callable[[Runtime, Claim], Awaitable[None]]


class LeftOut(msgspec.Struct, frozen=True):
    """A letter that was not decided, and why."""

    job_id: str
    why: str


class Decided(msgspec.Struct, frozen=True):
    """What became of the chosen letters."""

    done: list[str]
    left_out: list[LeftOut]

    def sentence(self, action: Action) -> str:
        """Say it in a line."""
        word = "retried" if action == "retry" else "discarded"
        left = len(self.left_out)
        return f"{len(self.done)} {word}" + (f", {left} left out." if left else ".")


async def decide_many(
    rt: Runtime,
    *,
    actor: Actor,
    action: Action,
    job_ids: Sequence[str],
    why: str,
    approved: bool = False,
) -> Decided:
    """Retry or discard the chosen letters that still allow it; at most 200, each audited.

    One refusal stops none of the others. `approved`: a second admin has agreed to all of it.
    """
    done, left_out = [], []
    for job_id in dict.fromkeys(job_ids[:MOST]):
        try:
            async with rt.sessions.begin() as session:
                act = operations.retry if action == "retry" else operations.discard
                await act(session, rt=rt, actor=actor, job_id=job_id, why=why, approved=approved)
        except (NotRetryable, RetryRefused, DiscardRefused, LetterUnknown) as refusal:
            left_out.append(LeftOut(job_id, refusal.detail))
        else:
            done.append(job_id)
    return Decided(done, left_out)


async def look(rt: Runtime, job: Claim) -> None:
    """Ask the PSP what became of a letter's attempt; a page asked for it, a worker does it."""
    await look_at(rt, job_id=str(job.args["job_id"]))


async def finish(rt: Runtime, job: Claim) -> None:
    """Carry out what was agreed on and has no outcome: the request that was to do it was cut off.

    What that had done already is left out.
    """
    approval_id = str(job.args["approval_id"])
    async with rt.sessions.read() as session:
        found = await queries.approval(session, approval_id=approval_id)
    second = Actor(kind="user", id=found.decided_by, name=found.decided_name or "")
    await carry_out(rt, actor=second, approval_id=approval_id)


async def look_at(rt: Runtime, *, job_id: str) -> str | None:
    """Look up a letter's attempt and record what is found; nothing is sent.

    Returns the PSP's word (`unknown` when it gave none), None when there is nothing to ask.
    """
    async with rt.sessions.read() as session:
        letter = await queries.letter(session, job_id=job_id)
    if letter.attempt is None or not asks_psp(letter):
        return None
    result = await resolving.look_back(rt, attempt_id=letter.attempt.id)
    return result.cls if result is not None else None


def looking_first(work: Work) -> Work:
    """Return the work of a job that, once a person has retried it, asks the PSP before it sends.

    The verdict that the person saw may be minutes old by then; this one is not.
    """

    @wraps(work)
    async def looked(rt: Runtime, job: Claim) -> None:
        if last_retry(job) is not None:
            said = await look_at(rt, job_id=job.id)
            if said in FAILED_LOOKS:
                give_up(job, rt, _SILENT)
                raise Postpone(backoff(rt, job.tries, cap=300.0, at_least=5.0), _SILENT)
        await work(rt, job)

    return looked


def _retried_since(job: Job, moment: datetime | None) -> bool:
    last = last_retry(job)
    return last is not None and moment is not None and last >= moment


async def carry_out(rt: Runtime, *, actor: Actor, approval_id: str) -> str:
    """Do what two admins agreed on, once, and write down what came of it; returns it in words.

    `actor` is the second of them. What is unknown or changed by now is left out.
    """
    async with rt.sessions.read() as session:
        found = await queries.approval(session, approval_id=approval_id)
        letters = await queries.letters_of(session, job_ids=found.job_ids)
    if found.state != "approved" or found.outcome is not None:
        return found.outcome or "Nothing was done."
    action: Action = "discard" if found.action == "discard" else "retry"
    why = f"{found.reason} (Asked by {found.asked_name}.)"
    # What a request did before it was cut off is done, also where the letter is back again.
    again = {one.job.id for one in letters if _retried_since(one.job, found.decided_at)}
    waiting = [job_id for job_id in found.job_ids if job_id not in again]
    done = await decide_many(
        rt, actor=actor, action=action, job_ids=waiting, why=why, approved=True
    )
    said = done.sentence(action)
    async with rt.sessions.begin() as session:
        await operations.note_outcome(session, approval_id=approval_id, outcome=said)
    return said
