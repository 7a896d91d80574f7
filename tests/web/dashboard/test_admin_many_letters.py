"""The admins' decisions about many dead letters at once, and those that need a second admin."""

from typing import Any
from unittest import mock

import pytest
from litestar import Litestar

from app.deadletters import processing
from app.deadletters.processing import look_at
from app.runtime import Runtime
from tests.deadletters.letters import discard, killed, refused_charge
from tests.payments.story import Story
from tests.support.browser import Browser
from tests.support.cast import make_person
from tests.support.psp import BookPsp
from tests.web.dashboard.test_admin_letters import BASE, WHY, choose, dead, looked


async def test_many_are_previewed_then_retried_and_what_changed_is_left(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["rejected"] * 3)
    for amount in (1_000, 2_000, 4_000):
        await story.charge(amount)
    ids = [job.id for job in await story.dead()]
    first = await ada.get(choose(await ada.get(BASE), ids))
    assert "0 will run, 3 are left out" in first.words
    assert "3 are being looked up" in first.words
    await story.work()
    psp.script.extend(["ok", "lost"])
    unknown = await story.charge(500)
    ids.append((await killed(rt, unknown.id, "payments.charge")).id)
    page = await ada.get(choose(await ada.get(BASE), ids))
    assert "Retry 4 dead letters: 3 will run, 1 is left out" in page.words
    assert "70.00 EUR" in page.words
    assert "Ledger lines 9" in page.words
    assert await dead(rt) == 4
    wrong = await ada.submit(page, "/retry", why="why")
    assert wrong.status == 422
    assert ">why</textarea>" in wrong.text
    assert await dead(rt) == 4
    await discard(rt, ids[1])
    done = await ada.submit(wrong, "/retry", why="The outage is over by now.")
    assert (done.status, done.location) == (303, BASE)
    assert "2 retried, 2 left out." in (await ada.get(BASE)).words
    await story.work()
    assert psp.total() == 1_000 + 4_000 + 500
    again = await ada.submit(wrong, "/retry", why="The outage is over by now.")
    assert again.status == 303
    await story.work()
    assert psp.total() == 1_000 + 4_000 + 500
    gone = await ada.get(f"{BASE}/retry?letter={ids[0]}")
    assert "None of these waits any more" in gone.words
    assert (await ada.get(f"{BASE}/retry?letter=nonsense")).status == 303
    await story.end()


async def test_a_look_up_that_ends_meanwhile_brings_no_letter_past_the_limit(
    rt: Runtime, psp: BookPsp, ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F59: only what was weighed is done; the dear one was still being looked up then."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["rejected"] * 2)
    for amount in (1_000, 150_000):
        await story.charge(amount)
    cheap, dear = (job.id for job in await story.dead())
    await look_at(rt, job_id=cheap)
    page = await ada.get(choose(await ada.get(BASE), [cheap, dear]))
    assert "1 will run, 1 is left out" in page.words
    decide_many = processing.decide_many

    async def later(*arguments: Any, **options: Any) -> processing.Decided:
        await story.work()  # The look-up of the dear one.
        return await decide_many(*arguments, **options)

    monkeypatch.setattr(processing, "decide_many", later)
    assert (await ada.submit(page, "/retry", why=WHY)).status == 303
    assert "1 retried, 1 left out." in (await ada.get(BASE)).words
    await story.work()
    assert psp.total() == 1_000
    assert [one.id for one in await story.dead()] == [dear]
    await story.end()


async def test_above_the_limit_a_second_admin_reads_the_same_and_agrees_once(
    rt: Runtime, psp: BookPsp, ada: Browser, app: Litestar
) -> None:
    """F59, F69: pressed twice, by either, it is asked once and done once."""
    story, payment_id, job = await refused_charge(rt, psp, amount=150_000)
    page = await looked(story, ada, f"{BASE}/{job.id}")
    assert "a second one must agree" in page.words
    assert not [one for one in page.forms if one.action.endswith("/retry")]
    alone = {"form_key": rt.ids.token(16)}
    assert (await ada.post(f"{BASE}/{job.id}/retry", alone)).status == 409
    preview = await ada.get(f"{BASE}/retry?letter={job.id}")
    assert "Ask a second admin to retry 1" in preview.words
    waits = await ada.submit(preview, "/retry", why=WHY)
    assert (await ada.submit(preview, "/retry", why=WHY)).location == waits.location
    assert "asks to retry 1 dead letter" in (await ada.get(BASE)).words
    mine = await ada.get(waits.location)
    assert not [one for one in mine.forms if one.action.endswith("/agree")]
    forced = await ada.post(f"{waits.location}/agree", {"form_key": rt.ids.token(16)})
    assert forced.status == 409
    await story.work()
    assert psp.total() == 0
    async with rt.sessions.begin() as session:
        bea = await make_person(rt, session, "bea")
    async with Browser(app, bea) as second:
        page = await second.get(waits.location)
        assert "ada@example.com asks you to agree." in page.words
        with mock.patch.object(processing, "carry_out", return_value="") as cut_off:
            assert (await second.submit(page, "/agree")).status == 303
        cut_off.assert_awaited_once()
        words = (await second.get(waits.location)).words
        assert "It was agreed to. It is being carried out." in words
        assert (await second.submit(page, "/agree")).status == 303
        late = await second.submit(page, "/refuse")
        assert late.status == 409
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 150_000
    assert "1 retried." in (await ada.get(waits.location)).words
    await story.end()


async def test_many_are_given_up_with_one_reason(rt: Runtime, psp: BookPsp, ada: Browser) -> None:
    story = await Story.begin(rt, psp)
    psp.script.extend(["rejected"] * 2)
    made = [await story.charge(amount) for amount in (1_000, 2_000)]
    ids = [job.id for job in await story.dead()]
    path = choose(await ada.get(BASE), ids).replace("/retry?", "/discard?")
    page = await looked(story, ada, path)
    assert "Discard 2 dead letters: 2 will be given up" in page.words
    assert "Given up 30.00 EUR" in page.words
    done = await ada.submit(page, "/discard", why=WHY)
    assert (done.status, done.location) == (303, BASE)
    assert "2 discarded." in (await ada.get(BASE)).words
    assert {(await story.get(one.id)).status for one in made} == {"failed"}
    assert (psp.total(), await dead(rt)) == (0, 0)
    await story.end()
