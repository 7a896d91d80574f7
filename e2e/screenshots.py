"""The README's pictures: `python -m e2e.screenshots` plays its tour and photographs each step.

All data is demo data, made through the API, the sandbox PSP and the pages, never in the database.
"""

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.cli import browser
from e2e.conftest import Counterfoil, code_of, started, wait
from e2e.palette import reduced
from e2e.shop import Shop

PICTURES = Path(__file__).parent / "pictures"
_LARGEST = 150_000  # Bytes of a picture: a README is read over slow lines too.
_WIDTH = 1280
_BROWSER = ["--disable-gpu", "--disable-quic", "--no-first-run", "--no-sandbox"]
# Amount in minor units, currency, the sandbox's token: a day of a small shop, not all of it good.
_SOLD: Sequence[tuple[int, str, str]] = (
    (4_990, "eur", "pm_card_visa"),
    (12_500, "eur", "pm_card_visa"),
    (2_450, "eur", "pm_card_chargeDeclined"),
    (8_900, "usd", "pm_card_visa"),
    (31_900, "eur", "pm_card_visa"),
    (1_599, "eur", "pm_card_visa"),
    (6_780, "eur", "pm_card_insufficientFunds"),
    (24_000, "usd", "pm_card_visa"),
    (3_300, "eur", "pm_card_visa"),
    (5_450, "eur", "pm_fault_500_then_ok"),
    (9_990, "eur", "pm_card_visa"),
    (7_250, "eur", "pm_card_visa"),
)


class Tour:
    """The tour of the README: the same steps in the same order, one picture each."""

    def __init__(self, at: Counterfoil, shop: Shop, browser: Browser) -> None:
        self.at = at
        self.shop = shop
        self.browser = browser
        self.owner, self.blank = self._page(), self._page()

    def _page(self) -> Page:
        context = self.browser.new_context(
            viewport={"width": _WIDTH, "height": 860},
            device_scale_factor=1,
            color_scheme="light",
            reduced_motion="reduce",
        )
        return context.new_page()

    def take(self, page: Page, name: str, height: int) -> None:
        """Photograph the upper `height` pixels of a page; the window is given that height."""
        page.set_viewport_size({"width": _WIDTH, "height": height})
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)
        picture = reduced(self.blank, page.screenshot(animations="disabled", caret="hide"))
        if len(picture) > _LARGEST:
            raise SystemExit(f"{name}.png has {len(picture)} bytes, more than {_LARGEST}.")
        (PICTURES / f"{name}.png").write_bytes(picture)
        print(f"{name}.png: {len(picture)} bytes", flush=True)  # noqa: T201 - this is a command.

    def create(self, body: dict[str, Any]) -> Any:
        """Create a payment as the shop's plugin does."""
        answer = self.at.api("POST", "/v1/payments", body)
        if answer.status != 201:
            raise SystemExit(f"The API answered {answer.status}: {answer.body}")
        return answer.body

    def sell(self) -> None:
        """Fill the shop: good payments, declines, and one whose answer got lost on the way."""
        for number, (amount, currency, token) in enumerate(_SOLD, start=10_470):
            self.create(
                {
                    "amount": amount,
                    "currency": currency,
                    "payment_method": token,
                    "reference": f"DEMO-{number}",
                    "customer": {"email": f"customer-{number}@demo-shop.example"},
                }
            )

    def checkout(self) -> Any:
        """Create the tour's payment; the customer pays it on the PSP's page."""
        made = self.create(
            {
                "amount": 12_840,
                "currency": "EUR",
                "reference": "DEMO-10482",
                "description": "Demo order of 3 items",
                "customer": {"email": "customer-10482@demo-shop.example", "name": "Demo customer"},
            }
        )
        page = self._page()
        page.goto(made["checkout_url"])
        page.wait_for_url("**/pay/cs_*")
        page.get_by_label("E-mail").fill("customer-10482@demo-shop.example")
        page.get_by_label("Card number").fill("4242 4242 4242 4242")
        page.get_by_label("Expires").fill("12 / 34")
        page.get_by_label("Security code").fill("123")
        page.get_by_label("Name on the card").fill("Demo customer")
        self.take(page, "2-checkout", 760)
        page.get_by_role("button", name="Pay").click()
        return self.at.settled(made["id"])

    def sign_in(self, page: Page, role: str, picture: str | None = None) -> None:
        """Sign in with password and second factor."""
        user = self.at.user(role)
        page.goto(f"{self.at.web}/sign-in")
        page.get_by_label("E-mail").fill(user["email"])
        page.get_by_label("Password", exact=True).fill(user["password"])
        page.get_by_role("button", name="Next").click()
        code = page.get_by_label("Code", exact=True)
        code.fill(code_of(user["totp_secret"]))
        if picture:
            self.take(page, picture, 560)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("navigation", name="Main")).to_be_attached()

    def payment(self, payment_id: str) -> None:
        """Show the payment with its timeline, then refund a part of it with the dialog."""
        page = self.owner
        page.goto(f"{self.at.home}/payments/{payment_id}")
        expect(page.get_by_text("Succeeded").first).to_be_visible()
        self.take(page, "4-payment", 1280)
        page.get_by_role("link", name="Refund").click()
        page.get_by_label("A part").check()
        page.get_by_label("Amount in EUR").fill("40.00")
        page.get_by_label("Amount in EUR").blur()
        refund = page.get_by_role("button", name="Refund 40.00 EUR")
        expect(refund).to_be_visible()
        self.take(page, "5-refund", 760)
        refund.click()
        expect(page.get_by_text("Partly refunded").first).to_be_visible(timeout=30_000)
        wait(lambda: "refund.succeeded" in self.shop.types())

    def webhooks(self) -> None:
        """Show what the shop was told, and that it answered."""
        if self.shop.forged:
            raise SystemExit("The shop got messages whose signature does not hold.")
        page = self.owner
        page.goto(f"{self.at.home}/webhooks")
        page.get_by_role("link", name=self.shop.url).first.click()
        wait(lambda: page.reload() and not page.get_by_text(re.compile("Queued")).count())
        self.take(page, "6-webhooks", 900)

    def dead_letter(self) -> None:
        """Show why a payment has stopped, mend the cause at the PSP, and press retry."""
        made = self.create(
            {
                "amount": 19_900,
                "currency": "eur",
                "payment_method": "pm_fault_poison",
                "reference": "DEMO-10483",
            }
        )
        wait(lambda: self.at.payment(made["id"])["status_reason"] == "held_for_operator")
        page = self._page()
        self.sign_in(page, "admin")
        page.goto(f"{self.at.web}/admin/dead-letters")
        page.get_by_role("link", name="DEMO-10483").first.click()
        self.at.psp("POST", "/poison", {"cured": True})
        page.reload()
        retry = page.get_by_role("button", name="199.00 EUR")
        expect(retry).to_be_enabled()
        self.take(page, "7-dead-letter", 900)
        retry.click()
        if self.at.settled(made["id"])["status"] != "succeeded":
            raise SystemExit("The retried payment did not succeed.")

    def overview(self) -> None:
        """Show the front page, once the first money has become available."""
        wait(self._has_available, 240)
        self.owner.goto(f"{self.at.home}/overview")
        self.take(self.owner, "1-overview", 1000)

    def _has_available(self) -> bool:
        parts = self.at.api("GET", "/v1/balance").body["available"]
        return {one["currency"] for one in parts if one["amount"] > 0} == {"eur", "usd"}

    def play(self) -> None:
        """Play the whole tour."""
        self.sell()
        paid = self.checkout()
        self.sign_in(self.owner, "owner", "3-sign-in")
        self.payment(paid["id"])
        self.webhooks()
        self.create({"amount": 5_900, "currency": "eur", "reference": "DEMO-10484"})
        self.dead_letter()
        self.overview()
        print(self.at.verify().strip())  # noqa: T201 - as above.


def _with_shop(at: Counterfoil, play: Callable[[Shop], None]) -> None:
    shop = Shop()
    try:
        answer = at.api("POST", "/v1/webhook_endpoints", {"url": shop.url})
        shop.secret = answer.body["secret"]
        play(shop)
    finally:
        shop.stop()


def main() -> None:
    """Start an installation in a folder of its own, play the tour and write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    path = browser.find()
    if path is None:
        raise SystemExit("There is no Chromium; install one, or name it in CHROMIUM.")
    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder) / "data") as at,
        sync_playwright() as playwright,
    ):
        window = playwright.chromium.launch(executable_path=path, args=_BROWSER)
        _with_shop(at, lambda shop: Tour(at, shop, window).play())
        window.close()


if __name__ == "__main__":
    main()
