"""The admins' pages of dead letters, as a browser without script uses them."""

from typing import Any

import pytest
from litestar import Litestar
from sqlalchemy import select, update

from app.audit.models import AuditRow
from app.jobs import Job
from app.merchants.models import Merchant
from app.runtime import Runtime
from tests.deadletters.letters import discard, killed, refused_charge
from tests.payments.story import Story
from tests.support.browser import Browser, Page
from tests.support.cast import Cast
from tests.support.psp import BookPsp

BASE = "/admin/dead-letters"
WHY = "The shop asked us to stop this one."
EVIL = "<script>alert(1)</script>"


def choose(page: Page, ids: list[str]) -> str:
    """Return the address that the list's form leads to with these letters ticked."""
    assert all(f'name="letter" value="{one}"' in page.text for one in ids)
    return f"{BASE}/retry?" + "&".join(f"letter={one}" for one in ids)


async def looked(story: Story, ada: Browser, path: str) -> Page:
    """Open a page that has the PSP asked, let the worker ask, and show the answer."""
    await ada.get(path)
    await story.work()
    return await ada.get(path)


async def dead(rt: Runtime) -> int:
    async with rt.sessions.read() as session:
        return len(list(await session.scalars(select(Job.id).where(Job.state == "dead"))))


async def test_an_admin_reads_why_and_retries_with_a_button_once(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    story, payment_id, job = await refused_charge(rt, psp, reference="order-77")
    listed = await ada.get(BASE)
    assert "Charge order-77" in listed.words
    assert "100.00 EUR" in listed.words
    assert "Safe to send" in listed.words
    asked = await ada.get(f"{BASE}/{job.id}")
    assert "Asking the PSP what it knows…" in asked.words
    assert not [one for one in asked.forms if one.action.endswith("/retry")]
    page = await looked(story, ada, f"{BASE}/{job.id}")
    assert "The PSP refused the request, so nothing happened." in page.words
    assert "We asked the PSP: it has not done this." in page.words
    assert "It said: “No.”" in page.words
    assert "Retry and charge 100.00 EUR" in page.words
    assert "Sandbox PSP owes us" in page.words
    assert "payment.succeeded" in page.words
    assert "Tries of this work" in page.words
    form = page.form("/retry", method="post")
    first = await ada.post(form.action, form.fields, token="")
    assert (first.status, first.location) == (303, f"{BASE}/{job.id}")
    again = await ada.post(form.action, form.fields, token="")
    assert again.status == 303
    await story.work()
    assert (await story.get(payment_id)).status == "succeeded"
    assert psp.total() == 10_000
    after = await ada.get(f"{BASE}/{job.id}")
    assert "It was retried and is done." in after.words
    assert not [one for one in after.forms if "/retry" in one.action]
    async with rt.sessions.read() as session:
        rows = list(await session.scalars(select(AuditRow).where(AuditRow.object_id == job.id)))
    assert [(row.action, row.actor_name) for row in rows] == [
        ("dead_letter.retry", "ada@example.com")
    ]
    assert "Nothing has stopped" in (await ada.get(BASE)).words
    await story.end()


async def test_a_second_admin_is_told_nicely_that_the_first_was_faster(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    """F59, F69."""
    story, _, job = await refused_charge(rt, psp)
    page = await looked(story, ada, f"{BASE}/{job.id}")
    await discard(rt, job.id)
    late = await ada.submit(page, "/retry")
    assert late.status == 409
    assert "retried or discarded meanwhile" in late.words
    assert "It was given up." in late.words
    late = await ada.submit(page, "/discard", reason=WHY)
    assert late.status == 409
    assert psp.total() == 0
    await story.end()


async def test_a_discard_needs_its_reason_and_keeps_what_was_written(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    story, payment_id, job = await refused_charge(rt, psp)
    await looked(story, ada, f"{BASE}/{job.id}")
    form = await ada.get(f"{BASE}/{job.id}/discard")
    assert "The payment becomes Failed" in form.words
    assert '<dialog class="sheet" id="discard" aria-labelledby="h-discard" open' in form.text
    wrong = await ada.submit(form, "/discard", reason="too few")
    assert wrong.status == 422
    assert 'role="alert"' in wrong.text
    assert ">too few</textarea>" in wrong.text
    assert (await story.get(payment_id)).status == "processing"
    done = await ada.submit(wrong, "/discard", reason=WHY)
    assert (done.status, done.location) == (303, f"{BASE}/{job.id}")
    assert (await story.get(payment_id)).status == "failed"
    after = await ada.get(f"{BASE}/{job.id}")
    assert WHY in after.words
    await story.end()


async def test_an_unknown_outcome_offers_to_look_again_and_nothing_else(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    """F68."""
    story = await Story.begin(rt, psp)
    psp.script.extend(["ok", "lost"])
    unknown = await story.charge()
    job = await killed(rt, unknown.id, "payments.charge")
    page = await ada.get(f"{BASE}/{job.id}")
    assert "Nobody can say yet whether the customer was charged." in page.words
    actions = [one.action for one in page.forms if job.id in one.action]
    assert actions == [f"{BASE}/{job.id}/look"]
    key = rt.ids.token(16)
    forced = await ada.post(f"{BASE}/{job.id}/retry", {"form_key": key})
    assert forced.status == 409
    forced = await ada.post(f"{BASE}/{job.id}/discard", {"form_key": key, "reason": WHY})
    assert forced.status == 409
    assert (await ada.submit(page, "/look")).status == 303
    await story.work()
    after = await ada.get(f"{BASE}/{job.id}")
    assert "It has happened already." in after.words
    assert "It said It happened" in after.words
    assert (await ada.post(f"{BASE}/{job.id}/look")).status == 409
    assert (await ada.submit(after, "/retry")).status == 303
    await story.work()
    assert (psp.total(), await dead(rt)) == (10_000, 0)
    await story.end()


async def test_filters_stand_in_the_address_and_htmx_gets_the_list_alone(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    _, _, job = await refused_charge(rt, psp)
    other = await Story.begin(rt, psp)
    psp.script.append("rejected")
    await other.charge()
    mine = f"{BASE}?merchant={other.who['merchant_id']}"
    part = await ada.get(mine, fragment=True)
    assert part.text.lstrip().startswith('<div id="letters">')
    assert job.id not in part.text
    assert "Remove filter:" in part.words
    for query in ("says=unknown", "kind=refunds", "psp=stripe", "age=day", "cause=none"):
        assert "No dead letter fits" in (await ada.get(f"{BASE}?{query}")).words
    for query in ("says=bogus", "kind=bogus", "age=bogus", "merchant=bogus", "x=1", "after=zzz"):
        assert job.id in (await ada.get(f"{BASE}?{query}")).text
    live = await ada.get(f"{BASE}/{job.id}", fragment=True)
    assert live.text.lstrip().startswith('<div class="stack" id="letter"')


async def test_live_says_what_changed_and_is_silent_otherwise(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    story, _, job = await refused_charge(rt, psp)
    for path, name in ((BASE, "letters"), (f"{BASE}/{job.id}", "letter")):
        page = await ada.get(path)
        asked = page.text.partition('id="live" hx-get="')[2].partition('"')[0]
        asked = asked.replace("&amp;", "&")
        assert asked.startswith("/admin/live?page=dead-letters")
        assert (await ada.get(asked, background=True)).status == 204
        psp.script.append("rejected")
        await story.charge()
        await killed_again(rt, job.id)
        changed = await ada.get(asked, background=True)
        assert changed.status == 200
        assert changed.response.headers["HX-Trigger"] == name
    assert "have come or gone" in (await ada.get(f"{BASE}/news", fragment=True)).words
    unknown = await ada.get(f"/admin/live?seen={rt.ids('job')}~x", background=True)
    assert unknown.status == 204


async def killed_again(rt: Runtime, job_id: str) -> None:
    async with rt.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(fence=Job.fence + 1))


async def test_names_and_reasons_stay_text(rt: Runtime, psp: BookPsp, ada: Browser) -> None:
    _, _, job = await refused_charge(rt, psp, reference=EVIL)
    async with rt.sessions.begin() as session:
        await session.execute(update(Merchant).values(name=EVIL))
        await session.execute(update(Job).values(reason=EVIL))
    for path in (
        BASE,
        f"{BASE}/{job.id}",
        f"{BASE}/{job.id}/discard",
        f"{BASE}/retry?letter={job.id}",
        f"{BASE}/discard?letter={job.id}",
    ):
        page = await ada.get(path)
        assert page.status == 200
        assert EVIL not in page.text
        assert "&lt;script&gt;" in page.text


async def test_work_without_a_shop_is_shown_and_run_again(rt: Runtime, ada: Browser) -> None:
    async with rt.sessions.begin() as session:
        now = rt.clock()
        session.add(
            Job(
                id=rt.ids("job"),
                kind="mail.send",
                args={"letter": "sealed"},
                queue="mail",
                state="dead",
                run_at=now,
                created_at=now,
                finished_at=now,
                reason="the mail server refuses the recipient ([550])",
                history=[],
            )
        )
    listed = await ada.get(BASE)
    assert "The platform" in listed.words
    assert "Safe to run" in listed.words
    job_id = listed.text.partition('name="letter" value="')[2].partition('"')[0]
    page = await ada.get(f"{BASE}/{job_id}")
    assert "No money is moved by this." in page.words
    assert "sealed" not in page.text
    assert (await ada.submit(page, "/retry")).status == 303


@pytest.mark.parametrize("name", ["alice", "bob", "vera", "charlie"])
async def test_nobody_but_admins_sees_or_decides_anything(
    rt: Runtime, psp: BookPsp, app: Litestar, cast: Cast, name: str
) -> None:
    _, _, job = await refused_charge(rt, psp)
    asked: list[Any] = []
    async with Browser(app, getattr(cast, name)) as browser:
        paths = (BASE, f"{BASE}/{job.id}", f"{BASE}/retry?letter={job.id}", "/admin/live")
        asked += [await browser.get(path) for path in paths]
        for way in ("retry", "discard", "look"):
            fields = {"form_key": rt.ids.token(16), "reason": WHY}
            asked.append(await browser.post(f"{BASE}/{job.id}/{way}", fields))
        asked.append(await browser.post(f"{BASE}/retry", {"letter": job.id, "why": WHY}))
    assert {page.status for page in asked} == {403}
    assert all(job.id not in page.words for page in asked)
    assert await dead(rt) == 1


async def test_a_forged_form_changes_nothing(rt: Runtime, psp: BookPsp, ada: Browser) -> None:
    _, _, job = await refused_charge(rt, psp)
    key = rt.ids.token(16)
    for way in (f"{job.id}/retry", f"{job.id}/discard", f"{job.id}/look", "retry"):
        page = await ada.post(f"{BASE}/{way}", {"form_key": key}, token="")
        assert page.status == 403
        page = await ada.post(
            f"{BASE}/{way}", {"form_key": key}, headers={"Sec-Fetch-Site": "cross-site"}
        )
        assert page.status == 403
    assert await dead(rt) == 1


async def test_what_is_no_letter_reads_as_not_there(rt: Runtime, ada: Browser) -> None:
    for job_id in ("nonsense", rt.ids("job"), "job_0"):
        assert (await ada.get(f"{BASE}/{job_id}")).status == 404
        fields = {"form_key": rt.ids.token(16)}
        for way, more in (("retry", {}), ("discard", {"reason": WHY}), ("look", {})):
            assert (await ada.post(f"{BASE}/{job_id}/{way}", fields | more)).status == 404
