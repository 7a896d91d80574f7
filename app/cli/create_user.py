"""`counterfoil create-user`: make an account and print the link that its person begins with."""

import argparse
from typing import Any

from app.accounts import letters, operations, queries, roles
from app.accounts.members import operations as members
from app.audit.operations import command
from app.cli import console
from app.merchants import queries as merchants
from app.runtime import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `counterfoil create-user`."""
    console.add_arguments(parser)
    parser.add_argument("--email", required=True)
    parser.add_argument("--name")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--admin", action="store_true", help="a platform admin")
    what.add_argument("--merchant", metavar="ID", help="a member of this shop")
    parser.add_argument("--role", choices=roles.ROLES, default=roles.OWNER)


def main(arguments: argparse.Namespace) -> int:
    """Make the account and print its enrolment link; somebody enrolled only joins the shop."""

    async def work(rt: Runtime) -> dict[str, Any]:
        return await _make(rt, arguments)

    return console.run(arguments, work, _tell)


async def _make(rt: Runtime, arguments: argparse.Namespace) -> dict[str, Any]:
    now, actor = rt.clock(), command("create-user")
    async with rt.sessions.begin() as session:
        email = operations.checked_email(arguments.email)
        user = None
        if arguments.merchant:
            await merchants.merchant(session, merchant_id=arguments.merchant)
            user = await queries.user_by_email(session, email=email, lock=True)
        if user is None:
            user = await operations.create_user(
                session,
                ids=rt.ids,
                now=now,
                actor=actor,
                email=email,
                name=arguments.name,
                is_admin=arguments.admin,
            )
        if arguments.merchant:
            await members.add(
                session,
                ids=rt.ids,
                now=now,
                actor=actor,
                merchant_id=arguments.merchant,
                user=user,
                role=arguments.role,
            )
        link = None
        if user.password_hash is None:
            token = await operations.make_link(
                session, ids=rt.ids, now=now, user_id=user.id, purpose=letters.ENROL
            )
            link = letters.link(rt.settings.public_url, letters.ENROL, token)
    return {"user_id": user.id, "email": email, "enrolment_link": link}


def _tell(made: dict[str, Any]) -> str:
    if made["enrolment_link"] is None:
        return f"{made['email']} is enrolled already and belongs to the shop now."
    return f"Open within 24 hours, once:\n{made['enrolment_link']}"
