"""The keys that `up` makes for a machine of its own, so that a first start needs no settings."""

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path


def _random() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


_MAKERS: dict[str, Callable[[], str]] = {
    "SEALING_KEYS": lambda: f"local:{_random()}",
    "PEPPER": _random,
    "SANDBOX_SECRET_KEY": lambda: f"sk_test_sandbox_{secrets.token_hex(24)}",
    "SANDBOX_WEBHOOK_SECRET": lambda: f"whsec_{secrets.token_urlsafe(32)}",
    "METRICS_TOKEN": lambda: secrets.token_urlsafe(32),
}


def fill_in(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the keys that `environment` lacks, from `folder`; the missing are made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return {
        name: _read_or_make(folder / name.lower(), make)
        for name, make in _MAKERS.items()
        if not environment.get(name)
    }


def _read_or_make(path: Path, make: Callable[[], str]) -> str:
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    value = make()
    # A half-written key would seal data that nobody can open again: write aside, then move.
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return value
