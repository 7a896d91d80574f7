"""A shop in the middle of its day: payments in every state, a refund, failing messages."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from e2e.conftest import Counterfoil, wait

_LONG = (
    "Demo customer with a name that a form would have to cut: Wolfeschlegelsteinhausenbergerdorff "
    "the Younger, of the demo shop's mailing list"
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a shop and its customers write; the defaults are long, as people's words are."""

    description: str = "Demo order of 3 items, gift-wrapped, to be left with the neighbours " * 3
    reference: str = "DEMO-ORDER-2026-11-22-WITH-A-REFERENCE-AS-LONG-AS-PLUGINS-LIKE-TO-MAKE-THEM"
    customer: str = _LONG
    email: str = "a.customer.whose.address.is.longer.than.most@mail.demo-shop.example"
    metadata: Mapping[str, str] = field(
        default_factory=lambda: {"a_name_of_metadata_with_no_space_in_it": "1f0c9a5be0d84a3b" * 8}
    )
    endpoint: str = "Demo warehouse, which prints the parcel labels and is often switched off"
    path: str = "/with/a/path/that/a/plugin/made/and/nobody/ever/cut/short"
    answer: str = "<h1>Internal Server Error</h1> " * 20


@dataclass
class Scene:
    """What was made, by name: ids of payments, the endpoint, the customer's addresses."""

    at: Counterfoil
    words: Words
    payments: dict[str, Any] = field(default_factory=dict)
    more: list[str] = field(default_factory=list)
    endpoint: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def id(self, name: str) -> str:
        """Return the id of a payment of the scene."""
        return str(self.payments[name]["id"])


class BrokenShop:
    """A shop's server that answers every message with 500 and the same text."""

    def __init__(self, answer: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(500)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name.
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}/hooks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()


@contextmanager
def furnished(
    at: Counterfoil, words: Words, more: Sequence[Words] | None = None
) -> Iterator[Scene]:
    """Fill a new installation with a day of business, and keep its broken shop listening.

    `more` are the words of further payments, all of them paid or declined.
    """
    shop = BrokenShop(words.answer)
    scene = Scene(at, words)
    _endpoint(scene, f"{shop.url}{words.path}")
    for name, amount, extra in _PAYMENTS:
        scene.payments[name] = _pay(scene, name, amount, **extra)
    for number, other in enumerate(more if more is not None else [words] * 26, 1):
        card = "pm_card_insufficientFunds" if number % 9 == 0 else "pm_card_visa"
        currency = ("eur", "eur", "usd", "jpy")[number % 4]
        amount = 1_250 * number + 99
        made = _pay(scene, "more", amount, card=card, currency=currency, words=other)
        scene.more.append(made["id"])
    for payment in scene.more:
        at.settled(payment)
    _reach_the_states(scene)
    try:
        yield scene
    finally:
        shop.stop()


_PAYMENTS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("paid", 12_840, {"card": "pm_card_visa"}),
    ("refunded", 8_990, {"card": "pm_card_visa"}),
    ("partly refunded", 1_820_455, {"card": "pm_card_visa"}),
    ("declined", 4_999, {"card": "pm_card_chargeDeclined"}),
    ("authorised", 25_000, {"card": "pm_card_visa", "capture": "manual"}),
    ("held", 6_600, {"card": "pm_fault_wrong_amount"}),
    ("dead", 19_900, {"card": "pm_fault_poison"}),
    ("dead too", 3_050, {"card": "pm_fault_poison"}),
    ("to review", 31_500, {"card": "pm_card_visa", "card_country": "NG"}),
    ("dead and large", 250_000, {"card": "pm_fault_poison"}),
    ("open", 4_000, {"card": None}),
    ("canceled", 5_500, {"card": None}),
)


def _pay(
    scene: Scene,
    name: str,
    amount: int,
    *,
    card: str | None,
    currency: str = "eur",
    capture: str = "automatic",
    card_country: str = "DE",
    words: Words | None = None,
) -> Any:
    words = words or scene.words
    body = {
        "amount": amount,
        "currency": currency,
        "capture_method": capture,
        "reference": f"{next(scene.numbers)} {name} {words.reference}"[:200],
        "description": words.description[:500],
        "customer": {
            "email": words.email,
            "name": words.customer[:200],
            "country": "DE",
            "card_country": card_country,
        },
        "metadata": dict(words.metadata),
    }
    if card is not None:
        body["payment_method"] = card
    made = scene.at.api("POST", "/v1/payments", body)
    assert made.status == 201, made.body
    return made.body


def _endpoint(scene: Scene, url: str) -> None:
    body = {"url": url, "description": scene.words.endpoint}
    made = scene.at.api("POST", "/v1/webhook_endpoints", body)
    assert made.status == 201, made.body
    scene.endpoint = made.body["id"]


def _never_answer(at: Counterfoil) -> None:
    """From now on the PSP charges cards but its answers do not arrive, and it makes no pages."""
    lost = {"when": "after", "kind": "drop_response"}
    for method, path in (("POST", "/confirm"), ("GET", "/v1/payment_intents")):
        at.psp("POST", "/faults", {"fault": lost, "method": method, "path": path, "count": 9_999})
    busy = {"when": "before", "kind": "status", "status": 503}
    at.psp("POST", "/faults", {"fault": busy, "path": "/v1/checkout/sessions", "count": 9_999})


def _answer_all_but(scene: Scene, name: str) -> None:
    """Let the PSP answer look-ups again, but those about one charge: others can be decided."""
    attempts = scene.at.payment(scene.id(name))["attempts"]
    charges = scene.at.psp("GET", "/book")["charges"]
    (intent,) = {
        charge["payment_intent"]
        for charge in charges
        if charge["metadata"].get("attempt_id") in attempts
    }
    scene.at.psp("POST", "/faults", [])
    lost = {"when": "after", "kind": "drop_response"}
    one = {"fault": lost, "method": "GET", "path": intent, "count": 9_999}
    scene.at.psp("POST", "/faults", one)
    busy = {"when": "before", "kind": "status", "status": 503}
    path = "/v1/checkout/sessions"
    scene.at.psp("POST", "/faults", {"fault": busy, "path": path, "count": 9_999})


def _reach_the_states(scene: Scene) -> None:
    at = scene.at
    for name in ("paid", "refunded", "partly refunded", "declined"):
        at.settled(scene.id(name))
    for name, body in (("refunded", {}), ("partly refunded", {"amount": 123_400})):
        made = at.api("POST", "/v1/refunds", {"payment": scene.id(name), **body})
        assert made.status == 201, made.body
    at.api("POST", f"/v1/payments/{scene.id('canceled')}/cancel", {})
    at.settled(scene.id("canceled"))
    wait(lambda: at.payment(scene.id("to review"))["status_reason"] == "held_for_review")
    wait(lambda: at.payment(scene.id("authorised"))["status"] == "requires_capture")
    dead = ("dead", "dead too", "dead and large")
    wait(lambda: all(_waits_for_an_admin(scene, name) for name in dead))
    _never_answer(at)
    scene.payments["unknown"] = _pay(scene, "unknown", 19_900, card="pm_card_visa")
    scene.payments["waiting"] = _pay(scene, "waiting", 4_200, card=None)
    wait(lambda: "unknown" in str(_story(scene, "unknown")).lower())
    _answer_all_but(scene, "unknown")


def _waits_for_an_admin(scene: Scene, name: str) -> bool:
    found = scene.at.payment(scene.id(name))
    return bool(found["status_reason"] == "held_for_operator")


def _story(scene: Scene, name: str) -> Any:
    return scene.at.api("GET", f"/v1/payments/{scene.id(name)}/timeline").body
