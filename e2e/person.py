"""What people do in the browser: sign in with a second factor, pay on the PSP's page."""

import time

from playwright.sync_api import Page, expect

from e2e.conftest import Counterfoil, code_of, wait

_used: dict[str, int] = {}


def sign_in(page: Page, at: Counterfoil, role: str) -> None:
    """Sign in with password and code; a code counts once, so a second time waits for the next."""
    user = at.user(role)
    page.goto(f"{at.web}/sign-in")
    page.get_by_label("E-mail").fill(user["email"])
    page.get_by_label("Password", exact=True).fill(user["password"])
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Code", exact=True).fill(next_code(user["totp_secret"]))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("navigation", name="Main")).to_be_attached()


def next_code(secret: str) -> str:
    """Return a code that has not been used; waits for the next one if need be."""
    while int(time.time()) // 30 <= _used.get(secret, 0):
        time.sleep(0.5)
    _used[secret] = int(time.time()) // 30
    return code_of(secret)


def pay(page: Page, checkout_url: str, number: str = "4242 4242 4242 4242") -> None:
    """Follow the shop's link and pay with a card on the PSP's own page."""
    page.goto(checkout_url)
    page.wait_for_url("**/pay/cs_*")
    page.get_by_label("E-mail").fill("customer@demo-shop.example")
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expires").fill("12 / 34")
    page.get_by_label("Security code").fill("123")
    page.get_by_label("Name on the card").fill("Test Person")
    page.get_by_role("button", name="Pay").click()


def ask_for_a_new_password(page: Page, at: Counterfoil, role: str) -> None:
    """Ask for the letter with the link; without a mail server it lies in the data folder."""
    page.goto(f"{at.web}/forgotten")
    page.get_by_label("E-mail").fill(at.user(role)["email"])
    page.get_by_role("button", name="Send the link").click()
    wait(lambda: list((at.folder / "mail").glob("*")))
