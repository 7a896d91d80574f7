"""`counterfoil change-user`: close an account, ending its sessions at once, or open it again."""

import argparse
from typing import Any

from app.accounts import operations, queries
from app.audit.operations import command
from app.cli import console
from app.errors import NotFound
from app.runtime import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil change-user`."""
    console.add_arguments(parser)
    parser.add_argument("email", metavar="EMAIL", help="the address that the account signs in with")
    switch = parser.add_mutually_exclusive_group(required=True)
    switch.add_argument("--disable", action="store_true", help="end its sessions, refuse sign-in")
    switch.add_argument("--enable", action="store_true", help="let it sign in again")


def main(arguments: argparse.Namespace) -> int:
    """Close or open the account and print what was and what is now."""

    async def work(rt: Runtime) -> dict[str, Any]:
        return await _change(rt, arguments)

    return console.run(arguments, work, _tell)


async def _change(rt: Runtime, arguments: argparse.Namespace) -> dict[str, Any]:
    email = operations.checked_email(arguments.email)
    async with rt.sessions.begin() as session:
        # Locked, so that nobody else's change comes between what was and what is now.
        user = await queries.user_by_email(session, email=email, lock=True)
        if user is None:
            raise NotFound(f"There is no account of {email}.")
        was_disabled = user.disabled_at is not None
        await operations.set_disabled(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=command("change-user"),
            user_id=user.id,
            disabled=arguments.disable,
        )
    return {
        "user_id": user.id,
        "email": email,
        "was_disabled": was_disabled,
        "disabled": arguments.disable,
    }


def _tell(made: dict[str, Any]) -> str:
    before, after = _word(made["was_disabled"]), _word(made["disabled"])
    if before == after:
        return f"{made['email']}: nothing changed, it is {after} already"
    ended = "; all its sessions have ended" if made["disabled"] else ""
    return f"{made['email']}: {before} -> {after}{ended}"


def _word(disabled: bool) -> str:
    return "disabled" if disabled else "enabled"
