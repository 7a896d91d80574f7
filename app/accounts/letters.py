"""The letters that people get; plain text, and no secret but the link itself."""

import msgspec

ENROL, RESET, UNLOCK = "enrol", "reset", "unlock"
LINK_SECONDS = {ENROL: 24 * 3600, RESET: 15 * 60, UNLOCK: 30 * 60}


class Letter(msgspec.Struct, frozen=True):
    """A subject and a text."""

    subject: str
    text: str


def link(public_url: str, purpose: str, token: str) -> str:
    """Return the address of a one-time link; opening it changes nothing, its form does."""
    return f"{public_url}/link/{purpose}/{token}"


def invitation(address: str, *, where: str) -> Letter:
    """Ask somebody to choose a password and set up a second factor."""
    return Letter(
        "Your Counterfoil account",
        f"You have been given access to {where} in Counterfoil.\n\n"
        f"Choose a password and set up your second factor within 24 hours:\n\n{address}\n\n"
        "The link works once. If you expected no invitation, ignore this letter.\n",
    )


def added(*, where: str, role: str) -> Letter:
    """Tell somebody who has an account that one more shop is open to them."""
    return Letter(
        f"You have access to {where}",
        f"You are now {role} of {where} in Counterfoil. Sign in as usual to see it.\n",
    )


def reset(address: str) -> Letter:
    """Let somebody choose a new password; the second factor stays."""
    return Letter(
        "Choose a new password",
        "Somebody asked for a new password of your Counterfoil account. If it was you, choose "
        f"one within 15 minutes:\n\n{address}\n\n"
        "You will need your second factor as usual. If it was not you, do nothing.\n",
    )


def unlock(address: str) -> Letter:
    """Tell somebody that their password is refused for a while, and offer a way around it."""
    return Letter(
        "Sign-in by password is paused",
        "After ten wrong passwords, Counterfoil takes no password for your account for 30 "
        f"minutes. If it was you, you need not wait:\n\n{address}\n\n"
        "If it was not you, your password held. There is nothing that you must do.\n",
    )


def notice(what: str, *, when: str, address: str | None) -> Letter:
    """Tell somebody that their account has changed, so that a thief cannot do it unseen."""
    return Letter(
        f"Your Counterfoil account: {what}",
        f"{what[:1].upper()}{what[1:]} on {when} (UTC), from {address or 'an unknown address'}.\n\n"
        "If this was not you, ask for a new password at once and tell the platform's admin.\n",
    )
