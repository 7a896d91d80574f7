"""Faults that a payment asks for itself, by its payment method or by a magic amount."""

from web.sandbox_psp.config import Settings
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.faults import Fault, Stopped
from web.sandbox_psp.work import Work

# What amounts of 666.01 and on do: for a person who has no say in the payment method. Amounts are
# in minor units, whatever the currency's decimals.
MAGIC_AMOUNTS = {
    66_601: "reply_lost",
    66_602: "not_charged_timeout",
    66_603: "500_then_ok",
    66_604: "500_charged",
    66_605: "503",
    66_606: "429",
    66_607: "key_in_use",
    66_608: "slow",
    66_609: "slow_body",
    66_610: "garbage",
    66_611: "html",
    66_612: "truncate",
    66_613: "reset",
    66_614: "wrong_amount",
    66_615: "webhook_first",
    66_616: "webhook_twice",
    66_617: "webhook_late",
    66_618: "webhook_never",
    66_619: "webhook_reordered",
}
_TOKEN = "pm_fault_"  # noqa: S105 - the prefix of a payment method's name.


def fault_of(work: Work, amount: int, token: str = "") -> str:
    """Return the name of the fault that a payment asks for, or an empty text."""
    if token.startswith(_TOKEN):
        return token.removeprefix(_TOKEN)
    return MAGIC_AMOUNTS.get(amount, "") if work.settings.magic_amounts else ""


def before(work: Work, name: str, subject: str) -> None:
    """Let a fault strike before anything has happened; raises Stopped, or 400 for poison."""
    if name == "poison" and not work.settings.poison_cured:
        raise ApiError(
            400,
            "This payment method cannot be confirmed until its cause is cured in the sandbox.",
            param="payment_method",
        )
    fault, times = _before(name, work.settings)
    if fault is not None and work.book.times(subject) < times:
        raise Stopped(fault, subject)


def after(work: Work, name: str, subject: str) -> None:
    """Let a fault strike the answer to what has just happened, once."""
    fault = _after(name, work.settings)
    if fault is not None and work.book.times(subject) < 1:
        work.book.count(subject)
        work.faults.append(fault)


def travel(work: Work, name: str) -> str | None:
    """Return how events about this payment travel: first, twice, late, never or reordered."""
    policy = name.removeprefix("webhook_") if name.startswith("webhook_") else None
    work.waits_for_webhooks = work.waits_for_webhooks or policy == "first"
    return policy


def _before(name: str, settings: Settings) -> tuple[Fault | None, int]:
    """Return what strikes before the effect, and how often."""
    if name == "not_charged_timeout":
        hang = settings.hang_seconds
        return Fault(when="before", kind="drop_request", seconds=hang), 1
    if name == "500_then_ok":
        return Fault(when="before", kind="status", status=500), 1
    if name == "503":
        return Fault(when="before", kind="status", status=503, should_retry=True), 1
    if name == "429":
        return (
            Fault(when="before", kind="status", status=429, retry_after="1", should_retry=True),
            2,
        )
    if name == "key_in_use":
        return Fault(when="before", kind="key_in_use"), 2
    return None, 0


def _after(name: str, settings: Settings) -> Fault | None:
    slow = settings.slow_seconds
    return {
        "reply_lost": Fault(when="after", kind="drop_response"),
        "500_charged": Fault(when="after", kind="status", status=500),
        "slow": Fault(when="after", kind="delay", seconds=slow),
        "slow_body": Fault(when="after", kind="slow_body", seconds=slow),
        "garbage": Fault(when="after", kind="garbage"),
        "html": Fault(when="after", kind="html"),
        "truncate": Fault(when="after", kind="truncate"),
        "reset": Fault(when="after", kind="reset", bytes=200),
    }.get(name)
