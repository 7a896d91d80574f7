"""The demo shop's credentials: kept in one file of the data folder, shown when `up` is ready."""

import json
import os
from pathlib import Path
from typing import Any

_ISSUER = "Counterfoil demo"
_ROLES = {"owner": "owns the demo shop", "admin": "platform admin"}


def path(folder: Path) -> Path:
    """Return the file that keeps the credentials."""
    return folder / "demo.json"


def aside_of(folder: Path) -> Path:
    """Return the file that holds the credentials until their users are committed."""
    return path(folder).with_suffix(".new")


def write_aside(folder: Path, story: dict[str, Any]) -> Path:
    """Write the credentials next to their place (0600), to be moved there after the commit."""
    aside = aside_of(folder)
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(story, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    return aside


def read(folder: Path) -> dict[str, Any] | None:
    """Return the credentials, or None when there is no demo shop."""
    try:
        story = json.loads(path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return story if isinstance(story, dict) else None


def show(story: dict[str, Any] | None) -> None:
    """Print how to sign in, with the second factor as text and as a QR code."""
    if story is None:
        print("\n  There is no demo shop here. `counterfoil create-user` makes the first admin.\n")
        return
    from app.accounts import totp

    print(f"  Demo shop     {story['merchant_id']}")
    print(f"  Its test key  {story['api_key']}")
    for user in story["users"]:
        print(f"\n  Sign in       {user['email']} ({_ROLES.get(user['role'], user['role'])})")
        print(f"  Password      {user['password']}")
        print(f"  Second factor {user['totp_secret']}")
        address = totp.address(user["totp_secret"], email=user["email"], issuer=_ISSUER)
        print(_qr(address))


def _qr(uri: str) -> str:
    import io

    import segno

    output = io.StringIO()
    segno.make(uri, error="l", micro=False).terminal(output, border=2, compact=True)
    return "\n".join(f"  {line}" for line in output.getvalue().splitlines())
