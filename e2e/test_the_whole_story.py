"""The main job, as a shop, its customer and its owner live it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import Counterfoil, wait
from e2e.person import pay, sign_in
from e2e.shop import Shop

_TOLD = {"payment.created", "payment.succeeded", "refund.created", "refund.succeeded"}


@pytest.fixture
def shop(counterfoil: Counterfoil) -> Iterator[Shop]:
    """Return the demo shop's server, told of everything that happens."""
    made = Shop()
    answer = counterfoil.api("POST", "/v1/webhook_endpoints", {"url": made.url})
    assert answer.status == 201, answer.body
    made.secret = answer.body["secret"]
    yield made
    counterfoil.api("DELETE", f"/v1/webhook_endpoints/{answer.body['id']}")
    made.stop()


def test_a_customer_pays_and_the_merchant_sees_it_and_refunds_a_part(
    counterfoil: Counterfoil, shop: Shop, page: Page
) -> None:
    sign_in(page, counterfoil, "owner")
    before = _shown_wallet(page, counterfoil)
    assert before == _wallet(counterfoil)
    made = counterfoil.api(
        "POST",
        "/v1/payments",
        {
            "amount": 12_840,
            "currency": "EUR",
            "reference": "DEMO-10482",
            "description": "Demo order of 3 items",
            "customer": {"email": "customer-1042@demo-shop.example", "name": "customer 1042"},
        },
    )
    assert (made.status, made.body["status"]) == (201, "requires_action")

    pay(page, made.body["checkout_url"])
    expect(page.get_by_text("128.40 EUR").first).to_be_visible(timeout=30_000)
    paid = counterfoil.settled(made.body["id"])
    assert (paid["status"], paid["net"]) == ("succeeded", 12_840 - paid["fee"])

    page.goto(f"{counterfoil.home}/payments")
    page.get_by_role("link", name="DEMO-10482").click()
    expect(page.get_by_text("Succeeded").first).to_be_visible()
    expect(page.get_by_text("The customer was charged once").first).to_be_visible()
    address = page.url
    wait(lambda: _wallet(counterfoil) == before + paid["net"])
    assert _shown_wallet(page, counterfoil) == before + paid["net"]

    page.goto(address)
    page.get_by_role("link", name="Refund").click()
    page.get_by_label("A part").check()
    page.get_by_label("Amount in EUR").fill("40.00")
    page.get_by_label("Amount in EUR").blur()
    page.get_by_role("button", name="Refund 40.00 EUR").click()
    expect(page.get_by_text("Partly refunded").first).to_be_visible(timeout=30_000)

    refunds = counterfoil.api("GET", f"/v1/refunds?payment={made.body['id']}").body["data"]
    assert [one["amount"] for one in refunds] == [4_000]
    wait(lambda: _refund(counterfoil, refunds[0]["id"])["status"] == "succeeded")
    after = counterfoil.payment(made.body["id"])
    wait(lambda: _wallet(counterfoil) == before + after["net"])
    assert after["net"] < paid["net"]
    assert _shown_wallet(page, counterfoil) == before + after["net"]
    assert counterfoil.psp("GET", "/book")["by_currency"]["eur"]["charged"] >= 12_840
    counterfoil.verify()

    # Messages may come in any order; the last one to be sent need not be the last one here.
    wait(lambda: len(_told(shop, made.body["id"])) >= len(_TOLD))
    assert {one["type"] for one in _told(shop, made.body["id"])} == _TOLD
    numbers = sorted(one["data"]["sequence"] for one in _told(shop, made.body["id"]))
    assert numbers == list(range(1, len(numbers) + 1))
    assert shop.forged == 0


def _payment_of(message: dict[str, dict[str, dict[str, str]]]) -> str:
    shown = message["data"]["object"]
    return shown["payment"] if shown["object"] == "refund" else shown["id"]


def _told(shop: Shop, payment_id: str) -> list[dict[str, Any]]:
    return [one for one in shop.messages if _payment_of(one) == payment_id]


def _wallet(at: Counterfoil) -> int:
    """Return what the API says is in the wallet, pending or available, in cents."""
    balance = at.api("GET", "/v1/balance").body
    parts = [*balance["pending"], *balance["available"]]
    return sum(one["amount"] for one in parts if one["currency"] == "eur")


def _shown_wallet(page: Page, at: Counterfoil) -> int:
    """Return the same as the merchant reads it on the page of the wallets."""
    page.goto(f"{at.home}/wallets")
    card = page.locator("#wallets a").filter(has_text="Euro")
    expect(card).to_have_count(1)
    available, pending, _reserved = card.locator(".money > span").all_inner_texts()
    return sum(int(re.sub(r"[^0-9]", "", text)) for text in (available, pending))


def _refund(at: Counterfoil, refund_id: str) -> dict[str, str]:
    found: dict[str, str] = at.api("GET", f"/v1/refunds/{refund_id}").body
    return found


def test_a_declined_card_may_be_followed_by_a_good_one(
    counterfoil: Counterfoil, page: Page
) -> None:
    made = counterfoil.api("POST", "/v1/payments", {"amount": 2_500, "currency": "eur"}).body
    pay(page, made["checkout_url"], "4000 0000 0000 0002")
    expect(page.get_by_role("alert")).to_be_visible()
    assert counterfoil.payment(made["id"])["status"] == "requires_action"
    wait(lambda: counterfoil.payment(made["id"])["failure"])
    pay(page, made["checkout_url"])
    paid = counterfoil.settled(made["id"])
    assert (paid["status"], paid["failure"]) == ("succeeded", None)


def test_a_second_step_is_taken_on_the_psps_page(counterfoil: Counterfoil, page: Page) -> None:
    made = counterfoil.api("POST", "/v1/payments", {"amount": 3_000, "currency": "eur"}).body
    pay(page, made["checkout_url"], "4000 0027 6000 3184")
    page.get_by_role("button", name="Confirm the payment").click()
    assert counterfoil.settled(made["id"])["status"] == "succeeded"


def test_checkout_waits_visibly_while_the_psp_is_down_and_goes_on_by_itself(
    counterfoil: Counterfoil, page: Page
) -> None:
    counterfoil.psp("POST", "/settings", {"down": True})
    try:
        made = counterfoil.api("POST", "/v1/payments", {"amount": 4_000, "currency": "eur"})
        assert made.status == 201
        page.goto(made.body["checkout_url"])
        expect(page.get_by_text("You have not been charged")).to_be_visible()
    finally:
        counterfoil.psp("POST", "/settings", {"down": False})
    page.wait_for_url("**/pay/cs_*", timeout=60_000)
