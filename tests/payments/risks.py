"""What tests of the risk check say about a story: limits, blocks, decisions, what came of them."""

from typing import Any

from app.audit.operations import Actor
from app.payments import reviewing
from app.risk import operations as risk
from app.risk import queries
from app.risk.models import RiskCheck
from app.risk.rules import Limits, Terms
from tests.payments.story import ACTOR, Story
from tests.support.psp import Charge

BOB = Actor(kind="user", name="bob@example.com", id="usr_bob")
ALICE = Actor(kind="user", name="alice@example.com", id="usr_alice")
HOLD = {"limits": {"eur": Limits(hold_above=5_000)}}
REFUSE = {"limits": {"eur": Limits(refuse_above=5_000)}}


async def set_terms(story: Story, **terms: Any) -> None:
    async with story.rt.sessions.begin() as session:
        await risk.change_terms(
            session,
            ids=story.rt.ids,
            now=story.rt.clock(),
            actor=ACTOR,
            merchant_id=story.who["merchant_id"],
            terms=Terms(**terms),
        )


async def block(story: Story, kind: str, value: str) -> None:
    async with story.rt.sessions.begin() as session:
        await risk.block(
            session,
            ids=story.rt.ids,
            now=story.rt.clock(),
            actor=ACTOR,
            sealer=story.rt.sealer,
            merchant_id=story.who["merchant_id"],
            kind=kind,
            value=value,
            note="",
        )


async def check(story: Story, payment_id: str) -> RiskCheck:
    async with story.rt.sessions.read() as session:
        found = await queries.check_of(session, payment_id)
    assert found is not None
    return found


async def decide(
    story: Story, payment_id: str, decision: Any, *, by: Actor = BOB, seen: int | None = None
) -> None:
    version = (await check(story, payment_id)).version if seen is None else seen
    async with story.rt.sessions.begin() as session:
        await reviewing.decide(
            session,
            rt=story.rt,
            actor=by,
            payment_id=payment_id,
            decision=decision,
            why="Known customer.",
            seen=version,
            **story.who,
        )


async def authorised(story: Story, **fields: Any) -> tuple[str, Charge]:
    """Create a hosted payment whose customer agrees on the PSP's page."""
    made = await story.create(**fields)
    await story.work()
    (attempt,), _ = await story.attempts(made.id)
    charge = story.psp.pay(attempt.id)
    await story.resolved(made.id)
    return made.id, charge


def sent(story: Story) -> list[str]:
    return [step for step, key, _ in story.psp.requests if key is not None]


async def state(story: Story, payment_id: str) -> tuple[str, str | None]:
    found = await story.get(payment_id)
    return found.status, found.status_reason
