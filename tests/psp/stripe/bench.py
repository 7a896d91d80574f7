"""The Stripe adapter on the real sandbox, for the contract that every adapter holds."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from app.psp.port import Adapter
from app.psp.stripe.adapter import StripeAdapter
from app.settings import Deadlines
from tests.support.sandbox import SandboxHandle, start_sandbox


class Bench:
    """A PSP with a book to compare with, a customer at its page, and its faults."""

    charges = "pm_card_visa"
    declines = "pm_card_insufficientFunds"
    decides_later = "pm_usBankAccount_success"
    refuses = "pm_fault_poison"
    reply_lost = "pm_fault_reply_lost"
    never_arrives = "pm_fault_not_charged_timeout"
    garbled = "pm_fault_garbage"
    another_amount = "pm_fault_wrong_amount"
    busy_twice = "pm_fault_429"
    breaks_charged = "pm_fault_500_charged"
    unwritable: ClassVar = {"currency": "kwd", "amount": 5124}

    def __init__(self, folder: Path) -> None:
        self._sandbox: SandboxHandle = start_sandbox(folder)

    def adapter(self, clock: Callable[[], datetime], deadlines: Deadlines) -> Adapter:
        """Return a new adapter."""
        return StripeAdapter(
            name="sandbox",
            livemode=False,
            secret_key=self._sandbox.secret_key,
            webhook_secret=self._sandbox.webhook_secret,
            base_url=self._sandbox.url,
            deadlines=deadlines,
            clock=clock,
        )

    def pay(self, page_url: str) -> None:
        """Pay on the PSP's page as a customer."""
        answer = self._sandbox.pay(page_url)
        if answer.status >= 400:
            raise RuntimeError(f"{answer.status} {answer.body}")

    def fail_to_pay(self, page_url: str) -> None:
        """Try to pay on the PSP's page with a card that has no money."""
        self._sandbox.pay(page_url, number="4000 0000 0000 9995")

    def can_pay(self, page_url: str) -> bool:
        """Tell whether the page takes money."""
        before = self.moved("charged")
        self._sandbox.pay(page_url)
        return self.moved("charged") != before

    def moved(self, what: str = "charged") -> int:
        """Return how much was `charged` or `refunded` in all, from the PSP's own book."""
        sums: dict[str, int] = self._sandbox.book()["by_currency"].get("eur", {})
        return sums.get(what, 0)

    def refund_by_hand(self, reference: str, amount: int) -> None:
        """Refund at the PSP, past us."""
        self._sandbox.post("/refund", {"payment_intent": reference, "amount": amount})

    def slow(self) -> None:
        """Let the answer to the next change take a moment."""
        self._sandbox.fault("after", "delay", method="POST", seconds=1.0)

    def down(self) -> None:
        """Answer nothing but errors."""
        self._sandbox.settings(down=True)

    def gone(self) -> None:
        """Stop the PSP."""
        self._sandbox.stop(kill=True)

    def events_to(self, url: str) -> None:
        """Send events to an address."""
        self._sandbox.add_endpoint(url)

    def keys(self) -> list[str | None]:
        """Return the idempotency key of each change that was asked for, in order."""
        log: list[dict[str, Any]] = self._sandbox.requests(path="/v1/")
        return [entry["key"] for entry in log if entry["method"] == "POST"]

    def bodies(self, key: str) -> set[str]:
        """Return the different bodies that came with a key."""
        return {entry["body"] for entry in self._sandbox.requests(key=key)}

    def stop(self) -> None:
        """Stop what is still running."""
        if self._sandbox.process.poll() is None:
            self._sandbox.stop(kill=True)
