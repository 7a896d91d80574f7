"""Pages run our own files only, say a hostile shop's words as words, and work without script."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from e2e import places
from e2e.conftest import Counterfoil, started, wait
from e2e.hostile import MARKUP, PAYLOADS, hostile
from e2e.look import NARROW, Reader
from e2e.person import ask_for_a_new_password, sign_in
from e2e.scene import Scene, furnished

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return an installation whose shop means harm with all that it may write."""
    folder = tmp_path_factory.mktemp("hostile") / "data"
    more = [hostile(number) for number in range(len(PAYLOADS) // 5)]
    with started(folder) as at, furnished(at, hostile(1), more) as made:
        _psp_says(at, PAYLOADS[11])
        yield made


def _psp_says(at: Counterfoil, text: str) -> None:
    """Let what the PSP said about each refused attempt be hostile as well."""
    with closing(sqlite3.connect(at.folder / "counterfoil.db", timeout=30)) as book, book:
        book.execute("UPDATE attempts SET message = ? WHERE message IS NOT NULL", (text,))
        book.execute(
            "UPDATE payments SET failure_message = ? WHERE failure_code IS NOT NULL", (text,)
        )


@pytest.fixture(scope="module")
def people(scene: Scene, browser: Browser) -> dict[str, StorageState]:
    """Sign everybody in, once and without script, in a browser with a hostile name."""
    states = {}
    for role in ("owner", "admin"):
        context = browser.new_context(java_script_enabled=False, user_agent=PAYLOADS[0])
        sign_in(context.new_page(), scene.at, role)
        states[role] = context.storage_state()
        context.close()
    return states


def _visit(reader: Reader, place: places.Place) -> None:
    reader.go(place)
    if found := reader.page.evaluate(MARKUP):
        reader.wrong.append(f"{place.name}: markup came through: {found}")


def _writes_everywhere(page: Page, scene: Scene) -> None:
    """Write payloads into the forms that a shop's people fill in."""
    home = scene.at.home
    page.goto(f"{home}/settings")
    page.get_by_label("Name", exact=True).fill(PAYLOADS[1][:120])
    page.get_by_role("button", name="Keep the changes").click()
    page.goto(f"{home}/keys/new")
    page.get_by_label("Name", exact=True).fill(PAYLOADS[18])
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("heading", name="The key is made")).to_be_visible()


def test_words_stay_words_on_every_page(
    scene: Scene, people: dict[str, StorageState], browser: Browser
) -> None:
    """Without the policy, which would stop a script even if the text became markup."""
    at = scene.at
    owner = Reader(browser, at.web, at.sandbox, storage_state=people["owner"], bypass_csp=True)
    _writes_everywhere(owner.page, scene)
    for place in places.of_the_shop(owner.context.new_page(), scene):
        _visit(owner, place)
    for number, payment in enumerate(scene.more):
        words = hostile(number)
        _visit(owner, places.Place(f"payment {number}", f"{at.home}/payments/{payment}"))
        said = owner.page.evaluate("document.body.textContent")
        for text in (*PAYLOADS, words.description, words.reference, words.customer, words.email):
            assert text in said, f"the page hides {text}"
        _visit(owner, places.Place("search", f"{at.home}/payments?q={quote(words.reference)}"))
    assert owner.wrong == []

    admin = Reader(browser, at.web, storage_state=people["admin"], bypass_csp=True)
    ask_for_a_new_password(admin.page, at, "owner")
    _discards(admin.page, scene)
    for place in places.of_the_platform(admin.context.new_page(), scene):
        _visit(admin, place)
    assert admin.wrong == []
    nobody = Reader(browser, at.web, at.sandbox, bypass_csp=True)
    for place in places.of_everybody(scene):
        _visit(nobody, place)
    assert nobody.wrong == []


def _discards(page: Page, scene: Scene) -> None:
    """Give a dead letter up for a hostile reason."""
    page.goto(f"{scene.at.web}/admin/dead-letters?says=safe")
    page.locator("a.row-link").last.click()
    page.get_by_role("link", name="Discard").click()
    page.get_by_label("Why?").fill(PAYLOADS[24])
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("It was given up.")).to_be_visible()
    assert page.evaluate(MARKUP) == []


def test_the_policy_stops_and_reports_a_script_in_a_page(scene: Scene, browser: Browser) -> None:
    """So that a silent console, as every journey here asks for, means that nothing was tried."""
    reader = Reader(browser, scene.at.web)
    reader.go(places.Place("sign-in", f"{scene.at.web}/sign-in"))
    reader.page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.ran = true';
          document.body.append(script);
        }"""
    )
    assert reader.page.evaluate("window.ran") is None
    assert "Content Security Policy" in " ".join(reader.wrong)


def test_the_work_is_done_without_script(
    scene: Scene, people: dict[str, StorageState], browser: Browser
) -> None:
    """Sign in (the fixture), list, filter, refund; an admin retries a dead letter."""
    at = scene.at
    owner = Reader(browser, storage_state=people["owner"], java_script_enabled=False)
    page = owner.page
    page.goto(f"{at.home}/payments")
    page.get_by_role("link", name="Refunded", exact=True).click()
    expect(page.locator("a.row-link", has_text="2 refunded")).to_be_visible()
    expect(page.locator("a.row-link", has_text="3 partly refunded")).to_be_visible()
    expect(page.locator("a.row-link", has_text="1 paid")).to_have_count(0)
    page.get_by_role("button", name="Amount").click()
    page.get_by_label("From, in").fill("9999.00")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("a.row-link")).to_have_count(1)
    page.goto(f"{at.home}/payments/{scene.id('paid')}")
    page.get_by_role("link", name="Refund").click()
    page.get_by_label("A part").check()
    page.get_by_label("Amount in EUR").fill("28.40")
    page.get_by_role("button", name=re.compile("^Refund")).click()
    expect(page.get_by_text("Refund of 28.40 EUR").first).to_be_visible()

    admin = Reader(browser, storage_state=people["admin"], java_script_enabled=False)
    page = admin.page
    page.goto(f"{at.web}/admin/dead-letters?says=safe")
    # The large one needs a second admin. A worker asks the PSP when the letter is opened; without
    # script it is the reader who asks for the page again.
    page.locator("a.row-link", has_text=re.compile("dead(?! and large)")).first.click()
    retry = page.get_by_role("button", name="Retry and charge")

    def may_retry() -> bool:
        page.reload()
        return retry.count() == 1 and retry.is_enabled()

    wait(may_retry)
    retry.click()
    expect(page.get_by_text("It was retried")).to_be_visible()
    assert owner.wrong + admin.wrong == []


def test_the_keyboard_reaches_everything(
    scene: Scene, people: dict[str, StorageState], browser: Browser
) -> None:
    reader = Reader(browser, storage_state=people["owner"])
    page = reader.page
    page.goto(f"{scene.at.home}/payments/{scene.id('partly refunded')}")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search payments")).to_be_focused()

    opener = page.get_by_role("link", name="Refund…")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Everything that is left")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search payments")).not_to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()

    page.set_viewport_size(NARROW)
    menu = page.get_by_role("button", name="Menu")
    menu.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    expect(menu).to_be_focused()
    assert reader.wrong == []


def test_an_open_payment_page_follows_what_happens(
    scene: Scene, people: dict[str, StorageState], browser: Browser
) -> None:
    """From unknown to succeeded without a reload; a colleague asks the PSP meanwhile."""
    at = scene.at
    reader = Reader(browser, storage_state=people["owner"])
    page = reader.page
    address = f"{at.home}/payments/{scene.id('unknown')}"
    page.goto(address)
    expect(page.get_by_text("Outcome unknown").first).to_be_visible()
    page.evaluate("window.untouched = true")
    colleague = reader.context.new_page()
    colleague.goto(address)
    ask = colleague.get_by_role("button", name="Ask the PSP now")
    expect(ask).to_be_visible()
    at.psp("POST", "/faults", [])
    ask.click()
    page.bring_to_front()
    expect(page.locator("#payment-head").get_by_text("Succeeded")).to_be_visible(timeout=30_000)
    assert page.evaluate("window.untouched")
    assert reader.wrong == []
