"""A payment that looks risky: its money is held, a person looks, and only then it is taken."""

from functools import partial

from playwright.sync_api import Page, expect

from e2e.conftest import Counterfoil, wait
from e2e.person import pay, sign_in


def _is_held(at: Counterfoil, payment_id: str) -> bool:
    return bool(at.payment(payment_id)["status_reason"] == "held_for_review")


def test_a_held_payment_is_approved_and_another_is_refused(
    counterfoil: Counterfoil, page: Page
) -> None:
    at = counterfoil
    body = {
        "amount": 45_000,
        "currency": "eur",
        "customer": {"country": "DE", "card_country": "NG"},
    }
    hosted = at.api("POST", "/v1/payments", body).body
    saved = at.api("POST", "/v1/payments", body | {"payment_method": "pm_card_visa"}).body
    pay(page, hosted["checkout_url"])
    for made in (hosted, saved):
        wait(partial(_is_held, at, made["id"]))
    assert at.payment(hosted["id"])["amount_captured"] == 0
    page.goto(hosted["checkout_url"])
    expect(page.get_by_text("who looks at your order first")).to_be_visible()

    sign_in(page, at, "owner")
    page.goto(f"{at.home}/overview")
    page.get_by_role("link", name="Review", exact=True).first.click()
    expect(page.get_by_role("heading", name="Reviews")).to_be_visible()
    for made, button, ends in (
        (hosted, "Approve and take", "succeeded"),
        (saved, "Refuse the payment", "failed"),
    ):
        page.goto(f"{at.home}/reviews/{made['id']}")
        page.get_by_label("Why").fill("I called the customer.")
        page.get_by_role("button", name=button).click()
        page.wait_for_url("**/reviews")
        assert at.settled(made["id"])["status"] == ends
    page.goto(f"{at.home}/payments/{hosted['id']}")
    expect(page.get_by_text("approved the payment")).to_be_visible()
    assert "hold" in at.verify()
