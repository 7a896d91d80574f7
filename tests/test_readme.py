"""The README names what exists, all of it, and nothing else."""

import base64
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.__main__ import ROOT
from app.cli.main import COMMANDS
from app.merchants.keys import SCOPES
from app.settings import Deadlines, Settings, SettingsError, from_environment
from web.api.openapi import document, routes
from web.api.router import api

README = (ROOT / "README.md").read_text(encoding="utf-8")
# What the struct has and no variable sets by itself.
INNER = {"sealing_key_id", "argon2_memory_kib", "deadlines"}
# Capitals that are no settings: variables of the shell and of the test command, and a file.
OTHERS = {"CHROMIUM", "CI", "KEY", "LICENSE"}
LARGEST_PICTURE = 150_000
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]*) \|", re.MULTILINE)


def settings() -> Settings:
    key = base64.b64encode(bytes(32)).decode()
    return from_environment(
        {
            "DATABASE_URL": "sqlite+aiosqlite:///x.db",
            "REDIS_URL": "redis://127.0.0.1",
            "DATA_DIR": "var",
            "PUBLIC_URL": "http://localhost:8000",
            "SEALING_KEYS": f"k1:{key}",
            "PEPPER": key,
        }
    )


def variables() -> set[str]:
    plain = {name.upper() for name in Settings.__struct_fields__ if name not in INNER}
    return plain | {f"DEADLINE_{name.upper()}" for name in Deadlines.__struct_fields__}


def default_of(name: str) -> str:
    """Return a variable's default as the table writes it."""
    if name.startswith("DEADLINE_"):
        value: Any = getattr(Deadlines(), name.removeprefix("DEADLINE_").lower())
    elif name.lower() in required():
        return "required"
    else:
        value = getattr(settings(), name.lower())
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def required() -> set[str]:
    with pytest.raises(SettingsError) as caught:
        from_environment({})
    return {name.lower() for name in re.findall(r"([A-Z_]+) is missing", str(caught.value))}


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    found = {name: default.strip() for name, default in ROW.findall(README)}
    assert found == {name: default_of(name) for name in variables()}
    assert len(ROW.findall(README)) == len(found)


def test_the_readme_names_no_variable_that_nothing_reads() -> None:
    named = set(re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", README))
    named |= set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", README))
    named |= set(re.findall(r"\$([A-Z_]+)\b", README))
    assert named
    assert named - variables() - OTHERS == set()


def test_every_command_is_named_and_no_other() -> None:
    # Words of prose follow as well, so only what stands in code counts.
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", README, re.DOTALL))
    named = re.findall(r"(?:\bcounterfoil|python3 -m app) ([a-z][a-z-]+)", code)
    assert set(named) == set(COMMANDS)


def test_every_option_in_the_readme_exists() -> None:
    places = ("app/cli", "tests/simulation", "tests/kills")
    files = sorted(path for place in places for path in (ROOT / place).rglob("*.py"))
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    # A command may also build its options from names, as create-merchant does.
    declared = set(re.findall(r"\"(--[a-z-]+)\"", source))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README))
    assert named
    assert named - declared - {"--help"} == set()


def test_every_scope_is_named_and_no_other() -> None:
    named = set(re.findall(r"`([a-z]+:(?:read|write))`", README))
    assert named == set(SCOPES)


def scopes_served() -> dict[tuple[str, str], str]:
    paths = document(routes(api), "https://localhost")["paths"]
    return {
        (method.upper(), path): operation["x-scope"]
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def test_every_address_of_the_api_is_named_with_its_scope() -> None:
    table = re.findall(r"^\| (`[^|]*/v1/[^|]*) \|[^|]*\| `([a-z:]+)` \|$", README, re.MULTILINE)
    named = {
        (method, path): scope
        for cell, scope in table
        for method, path in re.findall(r"`(GET|POST) (/v1/[^`]+)`", cell)
    }
    served = scopes_served()
    assert named.items() <= served.items()
    below = "/v1/webhook_endpoints"
    rest = {key: scope for key, scope in served.items() if key not in named}
    assert {scope for (_, path), scope in rest.items() if path.startswith(below)} == {
        "webhooks:write"
    }
    assert [key for key in rest if not key[1].startswith(below)] == []


def test_links_and_pictures_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    inner = [target for target in targets if not target.startswith("https://")]
    broken = [
        target
        for target in inner
        if (target[1:] not in headings if target[0] == "#" else not (ROOT / target).exists())
    ]
    assert inner
    assert broken == []


def test_pictures_are_small_and_all_shown() -> None:
    pictures = sorted((ROOT / "e2e" / "pictures").iterdir())
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size > LARGEST_PICTURE] == []
    shown = re.findall(r"!\[[^\]]+\]\(e2e/pictures/([^)]+)\)", README)
    assert sorted(shown) == [path.name for path in pictures]


def test_the_snippet_for_shops_takes_a_true_message_and_no_other() -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    space: dict[str, Any] = {}
    exec(snippet, space)  # noqa: S102 - it is the README's own text that is tried.
    secret = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
    body, now = b'{"type":"payment.succeeded"}', datetime.now(UTC)
    headers = {
        "Webhook-Id": "evt_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("evt_1", now, body.decode()),
    }
    assert space["message_of"](secret, body, headers) == {"type": "payment.succeeded"}
    with pytest.raises(WebhookVerificationError):
        space["message_of"](secret, body.replace(b"succeeded", b"failed"), headers)
