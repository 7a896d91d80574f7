"""Functions that serve a shop cannot be called without saying whose rows, and in which mode."""

import importlib
import inspect

# What a shop has for both modes at once: people, settings, terms, the blocklist.
BOTH_MODES = ("accounts.members.operations", "merchants.operations", "risk.operations")
MODULES = (
    *BOTH_MODES,
    "audit.queries",
    "ledger.queries",
    "merchants.queries",
    "payments.accepting",
    "payments.operations",
    "payments.queries",
    "payments.reviewing",
    "payments.volume",
    "risk.queries",
    "timeline.queries",
    "webhooks.operations",
    "webhooks.queries",
)
MODE = "livemode"
WHOLE = ("merchant_id", "livemode")
FREE = {
    # The platform's own, or over all shops: behind an admin's permission or a command.
    "audit.queries.platform_page": WHOLE,
    "audit.queries.platform_row": WHOLE,
    "ledger.queries.health": WHOLE,
    "merchants.operations.create_merchant": ("merchant_id",),
    "merchants.queries.any_merchant": WHOLE,
    "merchants.queries.merchants": WHOLE,
    "payments.queries.calls_since": WHOLE,
    "risk.queries.provider_state": WHOLE,
    # By the PSP's own id of an object; workers and the desk ask.
    "payments.queries.is_suspended": WHOLE,
    # Of one person, whose account is of no shop: the keyword that it takes is `user_id`.
    "audit.queries.of_person": WHOLE,
    # How the shop and the mode are found out: by the key itself.
    "merchants.queries.authenticate": WHOLE,
    "merchants.operations.note_use": ("merchant_id",),
    # Given rows, a query or a ledger that the shop was asked for already.
    "ledger.queries.position": WHOLE,
    "payments.queries.paged": WHOLE,
    "payments.queries.payment_shapes": WHOLE,
    "payments.queries.positions": WHOLE,
    "risk.queries.check_of": WHOLE,
    # Shop and mode are part of what they take: a question, an event's required values.
    "risk.queries.met_blocks": WHOLE,
    "webhooks.operations.emit": WHOLE,
    # Of the shop in both modes.
    "merchants.queries.merchant": (MODE,),
    "risk.queries.blocks": (MODE,),
    "risk.queries.terms": (MODE,),
}


def test_functions_on_a_shops_rows_take_its_id_and_mode() -> None:
    """S21: as required keywords, so that no caller forgets one."""
    free: dict[str, list[str]] = {}
    seen = 0
    for name in MODULES:
        module = importlib.import_module(f"app.{name}")
        for at, function in inspect.getmembers(module, inspect.iscoroutinefunction):
            if at.startswith("_") or function.__module__ != module.__name__:
                continue
            seen += 1
            takes = inspect.signature(function).parameters
            for wanted in WHOLE:
                found = takes.get(wanted)
                bound = found is not None and (found.kind, found.default) == (
                    found.KEYWORD_ONLY,
                    found.empty,
                )
                if not bound and not (found is None and wanted == MODE and name in BOTH_MODES):
                    free.setdefault(f"{name}.{at}", []).append(wanted)
    assert {name: tuple(missing) for name, missing in free.items()} == FREE
    assert seen > 50
