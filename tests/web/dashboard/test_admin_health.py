"""The page of system health, and the letters that lie in files."""

from urllib.parse import quote

import pytest
from litestar import Litestar

from app import mail
from app.mail import Letter
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.browser import Browser
from tests.support.cast import Cast
from tests.support.psp import BookPsp
from workers.runner import Runner

PATH = "/admin/health"


async def written(rt: Runtime, runner: Runner, text: str, subject: str = "Hello") -> str:
    async with rt.sessions.begin() as session:
        await mail.enqueue(
            session,
            ids=rt.ids,
            now=rt.clock(),
            sealer=rt.sealer,
            letter=Letter("new@example.com", subject, text),
        )
    await runner.drain()
    return mail.list_files(rt.settings.data_dir)[0].name


async def test_the_page_answers_in_one_sentence_and_refreshes_its_part(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    story = await Story.begin(rt, psp)
    await story.charge()
    page = await ada.get(PATH)
    assert page.status == 200
    assert "Money moves" in page.words
    assert "Charges and refunds" in page.words
    assert "Sandbox PSP" in page.words
    assert "0.1.0" in page.words
    part = await ada.get(PATH, background=True)
    assert part.text.lstrip().startswith('<div class="stack" id="health" hx-get="/admin/health"')
    psp.script.append("rejected")
    await story.charge()
    page = await ada.get(PATH)
    assert "Something waits for a person." in page.words
    assert 'href="/admin/dead-letters"' in page.text


async def test_a_psp_that_is_left_alone_is_shown_with_the_reason(
    rt: Runtime, psp: BookPsp, ada: Browser
) -> None:
    """F18, F25: state, since when, why, next probe, budget left, calls under way."""
    story = await Story.begin(rt, psp, gates=True)
    psp.script.extend(["not_sent"] * 5)
    for _ in range(6):
        await story.create(payment_method="pm_card_visa")
    await story.work()
    page = await ada.get(PATH)
    assert "A PSP fails and is left alone for a moment." in page.words
    assert "5 calls in a row never left us: not_sent" in page.words
    assert "Left alone" in page.words
    assert "Next probe" in page.words
    assert "Retries left" in page.words
    assert "Calls under way, Sandbox PSP" in page.words


async def test_a_letter_in_a_file_can_be_read_with_its_link(
    rt: Runtime, runner: Runner, ada: Browser
) -> None:
    assert "None so far." in (await ada.get(PATH)).words
    link = f"{rt.settings.public_url}/link/enrol/abc"
    text = f"Open it:\n\n{link}\n\nhttps://elsewhere.example/x <script>alert(1)</script>\n"
    name = await written(rt, runner, text, subject="<b>Your account</b>")
    page = await ada.get(PATH)
    assert f"/admin/health/mail/{quote(name)}" in page.text
    assert "<b>Your account</b>" not in page.text
    letter = await ada.get(f"{PATH}/mail/{name}")
    assert letter.status == 200
    assert f'href="{link}"' in letter.text
    assert 'href="https://elsewhere.example' not in letter.text
    assert "<script>alert(1)" not in letter.text


@pytest.mark.parametrize("name", ["nothing.eml", "..%2F..%2Fdemo.json", "%2e%2e", "x" * 300])
async def test_only_letters_are_shown(ada: Browser, name: str) -> None:
    assert (await ada.get(f"{PATH}/mail/{name}")).status in {404, 400}


async def test_letters_are_hidden_where_a_mail_server_or_the_world_is(
    rt: Runtime, runner: Runner, ada: Browser
) -> None:
    import msgspec

    name = await written(rt, runner, "secret")
    for changes in ({"mail_url": "smtp://mail.example"}, {"bind_host": "0.0.0.0"}):  # noqa: S104 - A setting, nothing listens.
        before = rt.settings
        rt.settings = msgspec.structs.replace(before, **changes)
        assert "E-mail written to files" not in (await ada.get(PATH)).words
        assert (await ada.get(f"{PATH}/mail/{name}")).status == 404
        rt.settings = before
    assert (await ada.get(f"{PATH}/mail/{name}")).status == 200


@pytest.mark.parametrize("name", ["alice", "vera", "charlie"])
async def test_only_admins_see_health(
    rt: Runtime, runner: Runner, app: Litestar, cast: Cast, name: str
) -> None:
    letter = await written(rt, runner, "secret")
    async with Browser(app, getattr(cast, name)) as browser:
        for path in (PATH, f"{PATH}/mail/{letter}"):
            page = await browser.get(path)
            assert page.status == 403
            assert "secret" not in page.text
