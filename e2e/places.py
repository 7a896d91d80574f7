"""Every page that somebody can open, with the addresses that a scene gives them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from playwright.sync_api import Page, expect

from e2e.person import next_code
from e2e.scene import Scene


@dataclass(frozen=True)
class Place:
    """A page: what it is called here, its address, and the status that it answers with."""

    name: str
    url: str
    status: int = 200


def of_the_shop(page: Page, scene: Scene) -> Iterator[Place]:
    """Give the owner's pages; `page` is signed in and finds out the ids that only pages know."""
    home = scene.at.home
    yield Place("overview", f"{home}/overview")
    yield from _money(home, scene)
    yield from _messages(page, home, scene)
    yield from _people(page, home, scene)
    live = f"{home.removesuffix('test')}live"
    money, others = ("overview", "payments", "reviews", "wallets"), ("webhooks", "keys")
    for name in (*money, *others, "audit", "settings", "settings/risk"):
        yield Place(f"live mode, {name}", f"{live}/{name}")


def _money(home: str, scene: Scene) -> Iterator[Place]:
    yield Place("payments", f"{home}/payments")
    yield Place("payments filtered", f"{home}/payments?status=succeeded&currency=eur")
    yield Place("payments none found", f"{home}/payments?q=nothing+is+called+so")
    for name in scene.payments:
        yield Place(f"payment {name}", f"{home}/payments/{scene.id(name)}")
    yield Place("refund", f"{home}/payments/{scene.id('paid')}/refund")
    yield Place("capture", f"{home}/payments/{scene.id('authorised')}/capture")
    yield Place("cancel", f"{home}/payments/{scene.id('open')}/cancel")
    yield Place("reviews", f"{home}/reviews")
    yield Place("review", f"{home}/reviews/{scene.id('to review')}")
    yield Place("risk settings", f"{home}/settings/risk")
    yield Place("payment not there", f"{home}/payments/pay_{'0' * 33}", 404)
    yield Place("wallets", f"{home}/wallets")
    yield Place("wallet in yen", f"{home}/wallets?currency=jpy&part=available")


def _messages(page: Page, home: str, scene: Scene) -> Iterator[Place]:
    endpoint = f"{home}/webhooks/{scene.endpoint}"
    yield Place("webhooks", f"{home}/webhooks")
    yield Place("webhook new", f"{home}/webhooks/new")
    for name in ("", "/edit", "/secret", "/delete"):
        yield Place(f"webhook{name}", f"{endpoint}{name}")
    yield Place("webhook delivery", _linked(page, endpoint, r"delivery=whd_\w+"))


def _people(page: Page, home: str, scene: Scene) -> Iterator[Place]:
    web = scene.at.web
    yield Place("keys", f"{home}/keys")
    yield Place("key new", f"{home}/keys/new")
    yield Place("key", _linked(page, f"{home}/keys", r"/keys/(?!new)\w+$"))
    yield Place("audit", f"{home}/audit")
    yield Place("audit row", _linked(page, f"{home}/audit", r"/audit/\w+$"))
    yield Place("settings", f"{home}/settings")
    yield Place("member", _linked(page, f"{home}/settings", r"/members/(?!new)\w+$"))
    yield Place("invite", f"{home}/settings/members/new")
    for name in ("", "/password", "/authenticator", "/recovery-codes", "/confirm", "/activity"):
        yield Place(f"account{name}", f"{web}/account{name}")
    yield Place("shops", f"{web}/shops")


def of_the_platform(page: Page, scene: Scene) -> Iterator[Place]:
    """Give the pages of an admin."""
    admin = f"{scene.at.web}/admin"
    yield Place("dead letters", f"{admin}/dead-letters")
    yield Place("dead letters none found", f"{admin}/dead-letters?says=paid")
    letter = _linked(page, f"{admin}/dead-letters", r"/dead-letters/job_\w+$")
    yield Place("dead letter", letter)
    yield Place("discard", f"{letter}/discard")
    for name in ("retry", "discard"):
        chosen = f"letter={letter.rpartition('/')[2]}"
        yield Place(f"{name} many", f"{admin}/dead-letters/{name}?{chosen}")
    yield Place("second admin", _asked_of_a_second_admin(page, scene))
    yield Place("reviews", f"{admin}/reviews")
    yield Place("reviews closed", f"{admin}/reviews?state=closed")
    yield Place("review", _linked(page, f"{admin}/reviews", r"/reviews/rev_\w+$"))
    yield Place("health", f"{admin}/health")
    yield Place("mail", _linked(page, f"{admin}/health", r"/health/mail/[^/]+$"))
    yield Place("merchants", f"{admin}/merchants")
    yield Place("merchant new", f"{admin}/merchants/new")
    yield Place("merchant", f"{admin}/merchants/{scene.at.ready['merchant_id']}")
    yield Place("platform's audit", f"{admin}/audit")
    yield Place("platform's audit, none found", f"{admin}/audit?actor=nobody")
    yield Place("platform's audit row", _linked(page, f"{admin}/audit", r"/audit/aud_\w+$"))
    yield Place("admin's account", f"{scene.at.web}/account")


def _asked_of_a_second_admin(page: Page, scene: Scene) -> str:
    """Ask a second admin to agree to a retry that is above the limit; returns where that waits."""
    page.goto(f"{scene.at.web}/admin/dead-letters")
    page.get_by_role("link", name="dead and large").first.click()
    ask = page.get_by_role("link", name="2,500.00 EUR")
    expect(ask).to_be_visible(timeout=20_000)
    ask.click()
    page.get_by_label("Why do you retry these?").fill("The PSP says that the cause is mended.")
    if page.get_by_label("Your password").count():
        admin = scene.at.user("admin")
        page.get_by_label("Your password").fill(admin["password"])
        page.get_by_label("Code of your authenticator app").fill(next_code(admin["totp_secret"]))
    page.get_by_role("button", name="Ask a second admin").click()
    page.wait_for_url("**/admin/approvals/apr_*")
    return page.url


def of_everybody(scene: Scene) -> Iterator[Place]:
    """Give the pages that ask for no sign-in, the customer's and the PSP's among them."""
    web = scene.at.web
    yield Place("sign-in", f"{web}/sign-in")
    yield Place("forgotten", f"{web}/forgotten")
    yield Place("link over", f"{web}/link/reset/nothing", 404)
    yield Place("docs", f"{web}/docs")
    yield Place("docs errors", f"{web}/docs/errors")
    yield Place("nowhere", f"{web}/nowhere", 404)
    yield Place("PSP's page", scene.payments["open"]["checkout_url"])
    yield Place("PSP's control page", f"{scene.at.sandbox}/_sandbox")
    yield Place("checkout wait", scene.payments["waiting"]["checkout_url"])
    yield Place("checkout result", scene.payments["canceled"]["checkout_url"])


def _linked(page: Page, url: str, pattern: str) -> str:
    """Return the first address on a page that a pattern finds."""
    page.goto(url)
    found = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
    fitting = [one for one in found if re.search(pattern, one)]
    assert fitting, f"{url} links to nothing like {pattern}"
    return str(fitting[0])
