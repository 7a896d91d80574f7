"""A payment that the PSP refuses waits for an admin, who reads why, has it mended and retries."""

from playwright.sync_api import Page, expect

from e2e.conftest import Counterfoil, wait
from e2e.person import sign_in


def test_an_admin_reads_why_mends_the_cause_and_retries_with_one_effect(
    counterfoil: Counterfoil, page: Page
) -> None:
    body = {
        "amount": 19_900,
        "currency": "eur",
        "payment_method": "pm_fault_poison",
        "reference": "DEMO-POISON",
    }
    made = counterfoil.api("POST", "/v1/payments", body).body
    wait(lambda: counterfoil.payment(made["id"])["status_reason"] == "held_for_operator")

    sign_in(page, counterfoil, "admin")
    page.goto(f"{counterfoil.web}/admin/dead-letters")
    page.get_by_role("link", name="DEMO-POISON").first.click()
    # Opening it has a worker ask the PSP; until it has answered, nothing can be decided.
    expect(page.get_by_text("The PSP refused the request").first).to_be_visible()
    expect(page.get_by_text("We asked the PSP: it has not done this.").first).to_be_visible()
    letter = page.url

    page.goto(f"{counterfoil.sandbox}/_sandbox")
    page.get_by_role("button", name="Cure it").click()
    expect(page.get_by_role("button", name="Poison it again")).to_be_visible()

    page.goto(letter)
    retry = page.get_by_role("button", name="199.00 EUR")
    expect(retry).to_be_enabled()
    retry.click()
    paid = counterfoil.settled(made["id"])
    assert (paid["status"], paid["amount_captured"]) == ("succeeded", 19_900)
    page.goto(letter)
    expect(page.get_by_role("button", name="199.00 EUR")).to_have_count(0)

    book = counterfoil.psp("GET", "/book")["by_metadata"]
    charges = [book.get(attempt, {}).get("charged_count", 0) for attempt in paid["attempts"]]
    assert (len(charges), sum(charges)) == (2, 1)
    story = counterfoil.api("GET", f"/v1/payments/{made['id']}/timeline").body
    assert "admin@counterfoil.example" in str(story)
    counterfoil.psp("POST", "/poison", {"cured": False})
    counterfoil.verify()
