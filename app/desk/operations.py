"""What people decide at the review desk, and how an item is closed; in the caller's transaction."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.audit import operations as audit
from app.audit.operations import SYSTEM, Actor
from app.desk.finding import answers
from app.errors import Conflict, NotFound, Refused
from app.payments.models import Attempt
from app.reviews.models import Review
from app.runtime import Runtime

SETTLE, LOOK, ONCE_MORE = "desk.settle", "desk.look", "desk.once_more"
SHORTEST_REASON, LONGEST_REASON, LONGEST_ID = 10, 1000, 255
_NEEDS_ID = frozenset({"happened", "otherwise", "refunded"})


class ReviewUnknown(NotFound):
    """No such review item."""

    code = "review_not_found"


class ReviewChanged(Conflict):
    """The item is closed, or somebody has decided meanwhile."""

    code = "review_changed"


class SamePerson(Conflict):
    """The second person must be another one."""

    code = "second_person_is_the_first"


class DecisionWrong(Refused):
    """A decision that this item cannot have, or without its evidence or reason."""

    code = "review_decision_wrong"


async def decide(
    session: AsyncSession,
    *,
    rt: Runtime,
    actor: Actor,
    review_id: str,
    version: int,
    decision: str,
    evidence: str,
    reason: str,
    confirmed: bool,
) -> Review:
    """Note what a person says; a worker asks the PSP and compares before anything follows.

    `evidence` is the PSP's id of the object; `confirmed` says that it was searched for there and
    not found. Raises ReviewUnknown, ReviewChanged, DecisionWrong.
    """
    review = await _open(session, review_id, version, stage=None)
    reason, evidence = " ".join(reason.split()), evidence.strip()
    attempt = await session.get(Attempt, review.attempt_id)
    if attempt is None or decision not in answers(review.kind, attempt.kind):
        raise DecisionWrong("Choose what is so.", param="decision")
    if decision in _NEEDS_ID and not 3 <= len(evidence) <= LONGEST_ID:
        raise DecisionWrong("Write the PSP's id of it; a worker looks it up.", param="evidence")
    if decision == "did_not_happen" and not confirmed:
        raise DecisionWrong("Search at the PSP first, then confirm it here.", param="confirmed-on")
    if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        raise DecisionWrong(
            f"Write {SHORTEST_REASON} to {LONGEST_REASON} characters.", param="reason"
        )
    review.decision, review.reason = decision, reason
    review.evidence = evidence or None
    review.decided_by, review.decided_name = actor.id, actor.name[:200]
    review.decided_at = rt.clock()
    review.second_by = review.second_name = review.second_at = review.finding = None
    await _on_its_way(session, rt, review)
    await _audit(session, rt, actor, "review.decide", review, reason)
    return review


async def agree(
    session: AsyncSession, *, rt: Runtime, actor: Actor, review_id: str, version: int
) -> Review:
    """Agree as a second person; the PSP is asked once more. Raises as `decide`, SamePerson."""
    review = await _open(session, review_id, version, stage="second")
    if review.decided_by == actor.id:
        raise SamePerson("You decided this yourself; somebody else has to agree.")
    review.second_by, review.second_name = actor.id, actor.name[:200]
    review.second_at = rt.clock()
    await _on_its_way(session, rt, review)
    await _audit(session, rt, actor, "review.agree", review, None)
    return review


async def take_back(
    session: AsyncSession, *, rt: Runtime, actor: Actor, review_id: str, version: int
) -> Review:
    """Refuse what waits for a second person, or take it back. Raises as `decide`."""
    review = await _open(session, review_id, version, stage="second")
    review.stage, review.version = None, review.version + 1
    review.finding = f"Not agreed to by {actor.name}."[:500]
    await _audit(session, rt, actor, "review.refuse", review, None)
    return review


async def close(session: AsyncSession, *, rt: Runtime, review: Review, how: str) -> None:
    """Close an item with its effects, in their transaction."""
    review.state, review.stage = "closed", None
    review.closed_at, review.closed_how = rt.clock(), how[:200]
    review.version += 1
    await _audit(session, rt, SYSTEM, "review.close", review, how)


async def look(session: AsyncSession, *, rt: Runtime, review_id: str) -> None:
    """Have a worker ask the PSP now. Raises ReviewUnknown, ReviewChanged."""
    review = await session.get(Review, review_id)
    if review is None:
        raise ReviewUnknown("There is no such review item.")
    if review.state != "open":
        raise ReviewChanged("This is closed; nothing is left to ask.")
    await _enqueue(session, rt, review, LOOK, {"attempt_id": review.attempt_id}, review.id)


async def current(session: AsyncSession, review_id: str) -> Review | None:
    """Return an item as it is now, locked."""
    query = select(Review).where(Review.id == review_id).with_for_update()
    return await session.scalar(query.execution_options(populate_existing=True))


async def _open(
    session: AsyncSession, review_id: str, version: int, *, stage: str | None
) -> Review:
    review = await current(session, review_id)
    if review is None:
        raise ReviewUnknown("There is no such review item.")
    if review.state != "open" or review.version != version or review.stage != stage:
        raise ReviewChanged("This has changed since the page was shown; look at it again.")
    return review


async def _on_its_way(session: AsyncSession, rt: Runtime, review: Review) -> None:
    review.stage, review.version = "looking", review.version + 1
    args = {"review_id": review.id, "version": review.version}
    await _enqueue(session, rt, review, SETTLE, args, f"{review.id}:{review.version}")


async def _enqueue(
    session: AsyncSession, rt: Runtime, review: Review, kind: str, args: Any, key: str
) -> None:
    await session.flush()
    await jobs.enqueue(
        session,
        id=rt.ids("job"),
        kind=kind,
        args=args,
        queue="janitor",
        now=rt.clock(),
        merchant_id=review.merchant_id,
        livemode=review.livemode,
        payment_id=review.payment_id,
        unique_key=f"{kind}:{key}",
    )


async def _audit(
    session: AsyncSession,
    rt: Runtime,
    actor: Actor,
    action: str,
    review: Review,
    reason: str | None,
) -> None:
    await audit.record(
        session,
        ids=rt.ids,
        now=rt.clock(),
        actor=actor,
        action=action,
        object_id=review.id,
        merchant_id=review.merchant_id,
        livemode=review.livemode,
        before={"payment_id": review.payment_id, "kind": review.kind},
        after={
            "decision": review.decision,
            "evidence": review.evidence,
            "state": review.state,
            "decided_by": review.decided_name,
            "second": review.second_name,
        },
        reason=reason,
    )
