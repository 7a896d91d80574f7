"""`counterfoil change-merchant`: change a shop's terms, or switch it off or on again."""

import argparse
import sys
from typing import Any

from app.audit.operations import command
from app.cli import console, terms
from app.errors import NotFound
from app.merchants import operations, queries
from app.merchants.models import Merchant
from app.runtime import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil change-merchant`."""
    console.add_arguments(parser)
    parser.add_argument("merchant", metavar="ID", help="the shop, mer_...")
    terms.add_arguments(parser)
    switch = parser.add_mutually_exclusive_group()
    switch.add_argument("--disable", action="store_true", help="its API keys stop working")
    switch.add_argument("--enable", action="store_true", help="its API keys work again")


def main(arguments: argparse.Namespace) -> int:
    """Make the changes, all of them or none, and print what was and what is now."""
    changes = terms.given(arguments)
    if not changes and not arguments.disable and not arguments.enable:
        print(
            "counterfoil: nothing to change: name a term, --disable or --enable.", file=sys.stderr
        )
        return 2

    async def work(rt: Runtime) -> dict[str, Any]:
        return await _change(rt, arguments, changes)

    return console.run(arguments, work, _tell)


async def _change(
    rt: Runtime, arguments: argparse.Namespace, changes: dict[str, Any]
) -> dict[str, Any]:
    acting: dict[str, Any] = {
        "ids": rt.ids,
        "now": rt.clock(),
        "actor": command("change-merchant"),
        "merchant_id": arguments.merchant,
    }
    async with rt.sessions.begin() as session:
        try:
            # Locked, so that nobody else's change comes between what was and what is now.
            shop = await queries.merchant(session, merchant_id=arguments.merchant, lock=True)
        except NotFound:
            raise NotFound(f"There is no shop {arguments.merchant}.") from None
        before = _state(shop)
        if changes:
            await operations.change_terms(session, **acting, changes=changes)
        if arguments.disable or arguments.enable:
            await operations.set_disabled(session, **acting, disabled=arguments.disable)
        after = _state(shop)
    changed = {
        name: {"before": value, "after": after[name]}
        for name, value in before.items()
        if value != after[name]
    }
    return {"merchant_id": shop.id, "name": shop.name, "changed": changed}


def _state(shop: Merchant) -> dict[str, Any]:
    values = {name: getattr(shop, name) for name in operations.TERMS}
    return {**values, "disabled": shop.disabled_at is not None}


def _tell(made: dict[str, Any]) -> str:
    parts = [
        f"{name} {_word(change['before'])} -> {_word(change['after'])}"
        for name, change in made["changed"].items()
    ]
    shop = f"{made['name']} ({made['merchant_id']})"
    return f"{shop}: {', '.join(parts) or 'nothing changed, it is like this already'}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
