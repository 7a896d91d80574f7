"""The PSP took another amount than was asked for: the desk has it until all of it has gone back."""

from playwright.sync_api import Locator, Page, expect

from e2e.conftest import Counterfoil, wait
from e2e.person import sign_in

ASKED = 66_614  # The sandbox takes one minor unit more of this amount.


def test_what_does_not_fit_is_held_apart_until_the_psp_shows_that_it_went_back(
    counterfoil: Counterfoil, page: Page
) -> None:
    body = {"amount": ASKED, "currency": "eur", "payment_method": "pm_card_visa"}
    made = counterfoil.api("POST", "/v1/payments", body | {"reference": "DEMO-OTHER"}).body
    wait(lambda: counterfoil.payment(made["id"])["status_reason"] == "held_for_review")

    sign_in(page, counterfoil, "admin")
    page.goto(f"{counterfoil.web}/admin/reviews")
    _item(page, "666.15").click()
    expect(page.get_by_role("heading", name="The PSP did something else")).to_be_visible()
    expect(page.get_by_text("666.15 EUR").first).to_be_visible()

    # Somebody refunds it at the PSP in two parts; the page that is open follows by itself.
    charge = _charge(counterfoil)
    counterfoil.psp("POST", "/refund", {"charge": charge, "amount": 40_000})
    expect(page.get_by_text("266.15 EUR").first).to_be_visible(timeout=30_000)
    rest = counterfoil.psp("POST", "/refund", {"charge": charge})
    expect(page.get_by_role("heading", name="It is closed.")).to_be_visible(timeout=30_000)
    failed = counterfoil.settled(made["id"])
    assert (failed["status"], failed["failure"]["code"]) == ("failed", "refunded_at_psp")
    assert (failed["amount_captured"], failed["amount_refunded"]) == (0, 0)

    # Days later the customer's bank sends the second part back.
    counterfoil.psp("POST", "/refund_fail", {"refund": rest["id"]})
    page.goto(f"{counterfoil.web}/admin/reviews")
    wait(lambda: page.reload() is not None and _item(page, "266.15").count())
    _item(page, "266.15").click()
    expect(page.get_by_role("heading", name="Refund it at the PSP.")).to_be_visible()
    counterfoil.psp("POST", "/refund", {"charge": charge})
    expect(page.get_by_role("heading", name="It is closed.")).to_be_visible(timeout=30_000)
    assert counterfoil.payment(made["id"])["status"] == "failed"
    counterfoil.verify()


def _item(page: Page, amount: str) -> Locator:
    return page.get_by_role("row").filter(has_text=amount).get_by_role("link")


def _charge(at: Counterfoil) -> str:
    charges = at.psp("GET", "/book")["charges"]
    return next(str(one["id"]) for one in charges if one["amount"] == ASKED + 1)
