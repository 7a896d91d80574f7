"""Every page, with a day's business in it: axe finds nothing grave in either theme or width."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, StorageState, expect

from e2e import places
from e2e.conftest import Counterfoil, code_of, started
from e2e.look import AXE, NARROW, WIDE, Reader
from e2e.person import ask_for_a_new_password, pay, sign_in
from e2e.scene import Scene, Words, furnished
from web.dashboard.routes import ROUTERS

pytestmark = pytest.mark.timeout(300)
_CHOSEN = {
    "overview",
    "payments",
    "payment paid",
    "refund",
    "webhook delivery",
    "key new",
    "health",
}
_NO_PAGE = re.compile(r"/live$|/news$|\.csv$|^/$")  # Fragments, a file and a redirect.


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return an installation in the middle of its day."""
    with started(tmp_path_factory.mktemp("seen") / "data") as at, furnished(at, Words()) as made:
        yield made


@pytest.fixture(scope="module")
def owner(scene: Scene, browser: Browser) -> StorageState:
    """Return what a browser keeps in which the owner has signed in."""
    reader = Reader(browser)
    sign_in(reader.page, scene.at, "owner")
    return reader.context.storage_state()


def test_the_judge_is_the_one_that_was_vendored() -> None:
    digest = hashlib.sha256(AXE.read_bytes()).hexdigest()
    listed = AXE.with_name("VENDORED.md").read_text().splitlines()
    assert any(AXE.name in line and digest in line for line in listed)


def test_the_shops_pages(scene: Scene, owner: StorageState, browser: Browser) -> None:
    reader = Reader(browser, storage_state=owner)
    seen = []
    for place in places.of_the_shop(reader.context.new_page(), scene):
        reader.go(place)
        reader.look()
        if place.name in _CHOSEN:
            reader.look_as_chosen()
        seen.append(place.url)
    assert reader.wrong == []
    assert _unseen(scene, seen, "/m/", "/account", "/shops") == []


def test_the_platforms_pages(scene: Scene, browser: Browser) -> None:
    reader = Reader(browser)
    ask_for_a_new_password(reader.page, scene.at, "owner")
    sign_in(reader.page, scene.at, "admin")
    seen = []
    for place in places.of_the_platform(reader.context.new_page(), scene):
        reader.go(place)
        reader.look()
        if place.name in _CHOSEN:
            reader.look_as_chosen()
        seen.append(place.url)
    assert reader.wrong == []
    assert _unseen(scene, seen, "/admin") == []


def _unseen(scene: Scene, seen: list[str], *areas: str) -> list[str]:
    """Return the dashboard's pages below `areas` that no address in `seen` shows."""
    pages = [
        route.path
        for router in ROUTERS
        for route in router.routes
        if "GET" in getattr(route, "methods", ()) and route.path.startswith(areas)
    ]
    paths = [url.removeprefix(scene.at.web).partition("?")[0] for url in seen]
    patterns = {page: re.sub(r"\{[^}]+\}", "[^/]+", page) for page in pages}
    return [
        page
        for page, pattern in patterns.items()
        if not _NO_PAGE.search(page) and not any(re.fullmatch(pattern, path) for path in paths)
    ]


def test_the_pages_of_who_is_not_signed_in(scene: Scene, browser: Browser) -> None:
    reader = Reader(browser)
    for place in places.of_everybody(scene):
        reader.go(place)
        reader.look(ours=scene.at.web in reader.page.url, brief="docs" in place.name)
    assert reader.wrong == []


def test_the_psps_page_says_why_and_asks_for_a_second_step(scene: Scene, browser: Browser) -> None:
    reader = Reader(browser)
    address = scene.payments["open"]["checkout_url"]
    reader.go(places.Place("PSP's page", address))
    pay(reader.page, address, "4000 0000 0000 0002")
    expect(reader.page.get_by_role("alert")).to_be_visible()
    reader.look("PSP's page, declined", ours=False)
    pay(reader.page, address, "4000 0027 6000 3184")
    expect(reader.page.get_by_role("button", name="Confirm the payment")).to_be_visible()
    reader.look("PSP's second step", ours=False)
    assert [one for one in reader.wrong if "402" not in one] == []


def test_the_pages_on_the_way_in(scene: Scene, browser: Browser) -> None:
    """Errors, the code, a first sign-in from its link to the recovery codes."""
    reader = Reader(browser)
    page, web = reader.page, scene.at.web
    reader.go(places.Place("sign-in", f"{web}/sign-in"))
    page.get_by_label("E-mail").fill("nobody@demo-shop.example")
    page.get_by_label("Password", exact=True).fill("not the password of anybody")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("alert")).to_be_focused()
    reader.look("sign-in, wrong")

    reader.go(places.Place("first link", _first_link(scene.at)))
    reader.look()
    page.get_by_label("New password").fill("four random words, or more of them")
    page.get_by_role("button", name="Keep this password").click()
    expect(page.get_by_role("heading", name="Set up the second step")).to_be_visible()
    reader.look("set-up")
    secret = str(page.locator("[data-copy]").get_attribute("data-copy"))
    page.get_by_label("The 6 digits").fill(code_of(secret))
    page.get_by_role("button", name="Check the code").click()
    expect(page.get_by_role("heading", name="Keep your recovery codes")).to_be_visible()
    reader.look("recovery codes")

    reader.context.clear_cookies()
    user = scene.at.user("owner")
    page.goto(f"{web}/sign-in")
    page.get_by_label("E-mail").fill(user["email"])
    page.get_by_label("Password", exact=True).fill(user["password"])
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_label("Code", exact=True)).to_be_visible()
    reader.look("sign-in, code")
    # The browser itself says in the console that the wrong password was answered with 4xx.
    assert [one for one in reader.wrong if "Failed to load resource" not in one] == []


def _first_link(at: Counterfoil) -> str:
    """Make a user and return the link that its person begins with."""
    merchant = str(at.ready["merchant_id"])
    email = "operator@demo-shop.example"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "app.cli", "create-user", "--json"),
            *("--data", str(at.folder), "--email", email),
            *("--merchant", merchant, "--role", "operator"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    link = str(next(value for value in json.loads(done.stdout).values() if "/link/" in str(value)))
    return at.web + link[link.index("/link/") :]


def test_open_menus_and_dialogs(scene: Scene, owner: StorageState, browser: Browser) -> None:
    reader = Reader(browser, storage_state=owner)
    page = reader.page
    page.goto(f"{scene.at.home}/payments")
    for opener in ("Your account", "Shop and mode", "Created", "Customer"):
        page.get_by_role("button", name=opener).first.click()
        reader.look(f"menu {opener}", brief=True)
        page.keyboard.press("Escape")
        page.reload()
    page.set_viewport_size(NARROW)
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("link", name="Wallets")).to_be_visible()
    reader.look("drawer", brief=True)
    page.set_viewport_size(WIDE)
    for name, button in (("paid", "Refund"), ("authorised", "Capture"), ("open", "Cancel")):
        page.goto(f"{scene.at.home}/payments/{scene.id(name)}")
        page.get_by_role("link", name=button).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        reader.look(f"dialog {button}", brief=True)
    assert reader.wrong == []
