"""What a retry says that it would do, against what it then does."""

from sqlalchemy import select

from app.deadletters import queries
from app.deadletters.effect import Effect, of_retry
from app.deadletters.verdict import judge
from app.ledger.models import PostingRow
from app.runtime import Runtime
from app.webhooks.models import Event
from tests.deadletters.letters import killed, refused_charge, retry
from tests.payments.story import Story
from tests.support.psp import BookPsp


async def told(rt: Runtime, job_id: str) -> Effect:
    async with rt.sessions.read() as session:
        letter = await queries.letter(session, job_id=job_id)
    return of_retry(letter, judge(letter), psp="Sandbox PSP")


async def types(rt: Runtime) -> list[str]:
    async with rt.sessions.read() as session:
        return list(await session.scalars(select(Event.type).order_by(Event.id)))


async def test_a_page_that_was_refused_once_tells_the_shop_when_it_opens(
    rt: Runtime, psp: BookPsp
) -> None:
    story, payment_id, job = await Story.with_refused_page(rt, psp)
    before = await types(rt)
    said = await told(rt, job.id)
    await retry(rt, job.id)
    await story.work()
    assert (await story.get(payment_id)).status == "requires_action"
    after = (await types(rt))[len(before) :]
    assert list(said.events) == after == ["payment.requires_action"]
    await story.end()


async def test_a_page_that_the_payment_has_waited_for_all_along_tells_nothing_new(
    rt: Runtime, psp: BookPsp
) -> None:
    story = await Story.begin(rt, psp)
    psp.pages_end = True
    made = await story.create()
    job = await killed(rt, made.id, "payments.open_checkout")
    before = await types(rt)
    assert (await told(rt, job.id)).events == ()
    await retry(rt, job.id)
    await story.work()
    assert await types(rt) == before
    await story.end()


async def test_a_charge_shows_every_line_that_it_would_bring_to_the_ledger(
    rt: Runtime, psp: BookPsp
) -> None:
    """The PSP's own fee has no number before; a line without one says that it follows."""
    story, _, job = await refused_charge(rt, psp)
    said = await told(rt, job.id)
    assert said.lines[-1].words == "PSP's fee"
    assert [line.minor for line in said.lines if line.minor is None] == [None]
    await retry(rt, job.id)
    for _ in range(2):
        await story.hurry()
    async with rt.sessions.read() as session:
        query = select(PostingRow.kind, PostingRow.transfers).order_by(PostingRow.id)
        rows = (await session.execute(query)).all()
    moved = [(kind, int(minor)) for kind, transfers in rows for _, _, minor in transfers]
    assert {kind for kind, _ in moved} == {"capture", "psp_fee"}
    known = [line.minor for line in said.lines if line.minor is not None]
    assert known == [minor for kind, minor in moved if kind == "capture"]
    assert len(said.lines) == len(moved)
    await story.end()
