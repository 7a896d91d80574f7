"""The review desk's pages, as a browser without script uses them."""

from datetime import timedelta

import pytest
from litestar import Litestar
from sqlalchemy import select, update

from app.jobs import Job
from app.merchants.models import Merchant
from app.payments.change import lock
from app.payments.models import Attempt
from app.reviews.models import Review
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.browser import Browser, Page
from tests.support.cast import Cast, make_person
from tests.support.psp import BookPsp
from tests.support.runtime import Clock

BASE = "/admin/reviews"
WHY = "Searched for it at the PSP by amount and day."
EVIL = "<script>alert(1)</script>"


async def asked(rt: Runtime, psp: BookPsp, amount: int = 1_000) -> tuple[Story, str, str]:
    """A refund that the PSP never got, and the item about it; returns ids of both."""
    story = await Story.begin(rt, psp)
    paid = await story.charge(max(amount, 10_000), reference="order-9")
    psp.script.append("never")
    refund = await story.refund(paid.id, amount)
    await story.work()
    await story.forget_calls()
    psp.looks.extend(["lost"] * 50)
    attempt = (await story.attempts(paid.id))[0][-1]
    async with rt.sessions.begin() as session:
        await session.execute(
            update(Attempt)
            .where(Attempt.id == attempt.id)
            .values(state="needs_review", code="not_found", next_check_at=None)
        )
        change = await lock(session, rt, payment_id=paid.id)
        change.review(attempt, "unknown_outcome", "The PSP does not know it.")
        await change.save()
        review_id = await session.scalar(select(Review.id))
    assert review_id is not None
    return story, refund.id, review_id


def fields(page: Page, **changes: str) -> dict[str, str]:
    form = page.form("/decide")
    return dict(form.fields) | {"decision": "did_not_happen", "reason": WHY} | changes


async def test_an_admin_closes_an_item_with_evidence_and_once(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    """F69: the form sent twice, and an old page, change nothing more."""
    story, refund_id, review_id = await asked(rt, psp)
    listed = await ada.get(BASE)
    assert "Refund order-9" in listed.words
    assert "Outcome unknown" in listed.words
    page = await ada.get(f"{BASE}/{review_id}")
    assert "Nobody can say yet what became of this." in page.words
    assert "Key at the PSP" in page.words
    wrong = await ada.post(f"{BASE}/{review_id}/decide", fields(page))
    assert wrong.status == 422
    assert "Search at the PSP first, then confirm it here." in wrong.words
    assert WHY in wrong.text
    async with rt.sessions.begin() as session:
        await session.execute(update(Attempt).values(first_sent_at=rt.clock() - timedelta(days=2)))
    psp.looks.clear()
    sent = fields(page, confirmed="on")
    for _ in range(2):
        done = await ada.post(f"{BASE}/{review_id}/decide", sent)
        assert (done.status, done.location) == (303, f"{BASE}/{review_id}")
    assert "Comparing with the PSP…" in (await ada.get(f"{BASE}/{review_id}")).words
    await story.work()
    closed = await ada.get(f"{BASE}/{review_id}")
    assert "It is closed." in closed.words
    assert WHY in closed.words
    assert (await story.get_refund(refund_id)).status == "failed"
    stale = fields(page, confirmed="on", form_key=rt.ids.token(16))
    assert (await ada.post(f"{BASE}/{review_id}/decide", stale)).status == 409
    assert "Nothing waits for you" in (await ada.get(BASE)).words
    assert "Refund order-9" in (await ada.get(f"{BASE}?state=closed")).words
    await story.end()


async def test_the_psp_is_asked_when_somebody_presses_the_button(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    story, _, review_id = await asked(rt, psp)
    psp.looks.clear()
    page = await ada.get(f"{BASE}/{review_id}")
    assert (await ada.submit(page, "/look")).status == 303
    assert "Show the answer" in (await ada.get(f"{BASE}/{review_id}")).words
    await story.work()
    assert "It said Not found" in (await ada.get(f"{BASE}/{review_id}")).words
    await story.end()


async def test_asking_about_an_item_that_was_closed_meanwhile_leads_back_to_it(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    _, _, review_id = await asked(rt, psp)
    page = await ada.get(f"{BASE}/{review_id}")
    async with rt.sessions.begin() as session:
        await session.execute(update(Review).values(state="closed", closed_how="Settled."))
    answer = await ada.submit(page, "/look")
    assert (answer.status, answer.location) == (303, f"{BASE}/{review_id}")
    async with rt.sessions.read() as session:
        assert (await session.scalars(select(Job).where(Job.kind == "desk.look"))).all() == []


async def test_a_decision_is_told_in_the_words_that_it_was_chosen_by(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    _, _, review_id = await asked(rt, psp)
    async with rt.sessions.begin() as session:
        review = await session.get_one(Review, review_id)
        review.kind, review.stage = "mismatch", "second"
        review.decision, review.decided_at, review.decided_name = "otherwise", rt.clock(), "ada"
    words = (await ada.get(f"{BASE}/{review_id}")).words
    assert "ada found: It happened with another amount." in words
    assert "Finding It happened with another amount" in words


async def test_a_decision_needs_password_and_code_again(
    rt: Runtime, psp: BookPsp, ada: Browser, clock: Clock
) -> None:
    _, _, review_id = await asked(rt, psp)
    page = await ada.get(f"{BASE}/{review_id}")
    clock.forward(minutes=6)
    late = await ada.get(f"{BASE}/{review_id}")
    assert "Your password" in late.words
    refused = await ada.post(
        f"{BASE}/{review_id}/decide",
        fields(page, confirmed="on", confirm_password="wrong", confirm_code="000000"),
    )
    assert refused.status == 422
    async with rt.sessions.read() as session:
        found = await session.get(Review, review_id)
    assert found is not None
    assert found.decision is None


async def test_above_the_limit_the_first_admin_cannot_agree_and_a_second_can(
    rt: Runtime, psp: BookPsp, ada: Browser, app: Litestar, cast: Cast
) -> None:
    story, refund_id, review_id = await asked(rt, psp, amount=100_001)
    async with rt.sessions.begin() as session:
        bea = await make_person(rt, session, "bea")
        decided = {"decision": "did_not_happen", "reason": WHY, "decided_by": cast.ada.id}
        await session.execute(update(Review).values(stage="second", version=4, **decided))
    page = await ada.get(f"{BASE}/{review_id}")
    assert "A second person must agree." in page.words
    assert not [one for one in page.forms if one.action.endswith("/agree")]
    forced = {"form_key": rt.ids.token(16), "version": "4"}
    assert (await ada.post(f"{BASE}/{review_id}/agree", forced)).status == 409
    async with Browser(app, bea) as second:
        page = await second.get(f"{BASE}/{review_id}")
        assert (await second.submit(page, "/agree")).status == 303
    assert (await ada.post(f"{BASE}/{review_id}/refuse", forced)).status == 409
    async with rt.sessions.read() as session:
        found = await session.get(Review, review_id)
    assert found is not None
    assert (found.second_name, found.stage) == ("bea@example.com", "looking")
    assert (await story.get_refund(refund_id)).status == "pending"


async def test_names_and_reasons_stay_text(rt: Runtime, psp: BookPsp, ada: Browser) -> None:
    _, _, review_id = await asked(rt, psp)
    async with rt.sessions.begin() as session:
        await session.execute(update(Merchant).values(name=EVIL))
        await session.execute(update(Review).values(why=EVIL, finding=EVIL, reference=EVIL))
    for path in (BASE, f"{BASE}/{review_id}"):
        page = await ada.get(path)
        assert page.status == 200
        assert EVIL not in page.text
    part = await ada.get(f"{BASE}/{review_id}", fragment=True)
    assert part.text.lstrip().startswith('<div class="stack" id="review"')


@pytest.mark.parametrize("name", ["alice", "bob", "vera", "charlie"])
async def test_nobody_but_admins_sees_or_decides_anything(
    rt: Runtime, psp: BookPsp, app: Litestar, cast: Cast, name: str
) -> None:
    _, _, review_id = await asked(rt, psp)
    async with Browser(app, getattr(cast, name)) as browser:
        pages = [await browser.get(path) for path in (BASE, f"{BASE}/{review_id}")]
        for way in ("decide", "agree", "refuse", "look"):
            form = {"form_key": rt.ids.token(16), "version": "0"}
            pages.append(await browser.post(f"{BASE}/{review_id}/{way}", form))
    assert {page.status for page in pages} == {403}


async def test_what_is_no_item_reads_as_not_there(rt: Runtime, ada: Browser) -> None:
    for review_id in ("nonsense", rt.ids("rev")):
        assert (await ada.get(f"{BASE}/{review_id}")).status == 404
        for way in ("decide", "agree", "refuse", "look"):
            form = {"form_key": rt.ids.token(16)}
            if way != "look":
                form["version"] = "0"
            assert (await ada.post(f"{BASE}/{review_id}/{way}", form)).status == 404
