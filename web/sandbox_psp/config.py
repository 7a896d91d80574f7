"""How the sandbox is started, and the settings that may change while it runs."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is fixed for the life of the process."""

    data: Path
    public_url: str
    secret_key: str
    webhook_secret: str
    webhook_urls: tuple[str, ...] = ()
    merchant_name: str = "Demo shop"


class Webhooks(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How events travel: shares from 0 to 1, times in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    paused: bool = False
    retry_base: float = 1.0
    retry_cap: float = 300.0
    give_up_after: float = 3 * 86400.0
    timeout: float = 10.0


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What a test may change: times in seconds, amounts in minor units."""

    key_window: float = 86400.0
    list_delay: float = 0.0
    search_delay: float = 1.0
    balance_transaction_delay: float = 0.0
    expires_in_minimum: int = 1
    minimum_amount: int = 1
    authorization_seconds: float = 7 * 86400.0
    settle_seconds: float = 2.0
    slow_seconds: float = 3.0
    hang_seconds: float = 0.2
    late_seconds: float = 10.0
    reorder_seconds: float = 0.5
    magic_amounts: bool = True
    down: bool = False
    down_mode: Literal["503", "drop", "hang"] = "503"
    down_until: float = 0.0  # Epoch seconds; 0 means until somebody brings it up.
    poison_cured: bool = False
    webhooks: Webhooks = msgspec.field(default_factory=Webhooks)


def changed(settings: Settings, change: Mapping[str, Any]) -> Settings:
    """Return settings with a change merged in; raises msgspec.ValidationError for a wrong one."""
    tree = msgspec.to_builtins(settings)
    for name, value in change.items():
        if name == "webhooks" and isinstance(value, dict):
            tree["webhooks"] |= value
        else:
            tree[name] = value
    return msgspec.convert(tree, Settings)


def read_config(environ: Mapping[str, str], *, data: Path, address: str) -> Config:
    """Build the configuration; keys that the environment does not give are made and kept in data.

    Raises OSError when the folder cannot be written.
    """
    data.mkdir(parents=True, exist_ok=True)
    kept = _kept_keys(data / "keys.json")
    urls = environ.get("SANDBOX_WEBHOOK_URL", "").replace(",", " ").split()
    return Config(
        data=data,
        public_url=(environ.get("SANDBOX_PUBLIC_URL") or address).rstrip("/"),
        secret_key=environ.get("SANDBOX_SECRET_KEY") or kept["secret_key"],
        webhook_secret=environ.get("SANDBOX_WEBHOOK_SECRET") or kept["webhook_secret"],
        webhook_urls=tuple(urls),
        merchant_name=environ.get("SANDBOX_MERCHANT_NAME") or "Demo shop",
    )


def _kept_keys(path: Path) -> dict[str, str]:
    if path.exists():
        return dict(json.loads(path.read_text("utf-8")))
    keys = {
        "secret_key": f"sk_test_{secrets.token_hex(24)}",
        "webhook_secret": f"whsec_{secrets.token_hex(24)}",
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(keys, file)
    return keys
