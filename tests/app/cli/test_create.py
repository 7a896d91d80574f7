"""A shop, its key and the first people can be made from the command line."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from app.accounts import queries
from app.accounts.identity import Origin
from app.accounts.letters import ENROL
from app.accounts.processing import use_link
from app.audit import queries as audit
from app.cli import console, local_keys
from app.merchants import queries as merchants
from app.runtime import Runtime
from app.settings import SettingsError

HERE = Origin("192.0.2.1", "Tests", "req_1")


async def test_from_nothing_to_a_shop_with_an_owner_and_a_key(
    counterfoil: Any, rt: Runtime
) -> None:
    code, out, _ = await counterfoil(
        "create-merchant",
        "--name",
        "Book shop",
        "--currency",
        "chf",
        "--fee-fixed",
        "30",
        "--fee-return",
        "no",
        "--step-up-limit",
        "7",
        "--json",
    )
    assert code == 0
    shop = json.loads(out)["merchant_id"]
    code, out, _ = await counterfoil(
        "create-user", "--email", "Owner@Example.com", "--merchant", shop, "--json"
    )
    assert code == 0
    made = json.loads(out)
    assert made["email"] == "owner@example.com"
    prefix, _, token = made["enrolment_link"].rpartition("/")
    assert prefix == "https://pay.example.com/link/enrol"
    opened = await use_link(
        rt, purpose=ENROL, token=token, password="lantern quarry mosaic fjord", origin=HERE
    )
    assert opened.stage == "enrol"
    code, secret, _ = await counterfoil(
        "create-key", "--merchant", shop, "--scope", "ledger:read", "--live", "--days", "3"
    )
    assert code == 0
    async with rt.sessions.read() as session:
        identity = await merchants.authenticate(session, secret=secret.strip(), now=rt.clock())
        kept = await merchants.merchant(session, merchant_id=shop)
        rows, _ = await audit.page(session, merchant_id=shop, livemode=True)
    assert (identity.livemode, identity.scopes) == (True, frozenset({"ledger:read"}))
    assert (kept.currency, kept.fee_fixed, kept.fee_return) == ("chf", 30, False)
    assert (kept.step_up_limit, kept.overdraft_limit) == (7, 0)
    assert {(row.action, row.actor_name) for row in rows} == {
        ("merchant.created", "create-merchant"),
        ("member.added", "create-user"),
        ("key.created", "create-key"),
    }


async def test_the_first_admin_gets_a_link(counterfoil: Any, rt: Runtime) -> None:
    code, out, _ = await counterfoil("create-user", "--email", "ada@example.com", "--admin")
    assert code == 0
    assert "/link/enrol/" in out
    async with rt.sessions.read() as session:
        user = await queries.user_by_email(session, email="ada@example.com")
    assert user is not None
    assert user.is_admin
    assert user.password_hash is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["create-merchant", "--name", "x", "--currency", "zzz"], "currency must be"),
        (["create-key", "--merchant", "mer_none"], "There is no such object"),
        (["create-user", "--email", "not an address", "--admin"], "no e-mail address"),
        (["create-user", "--email", "a@example.com", "--merchant", "mer_none"], "no such object"),
    ],
)
async def test_a_refusal_is_one_sentence(counterfoil: Any, words: list[str], sentence: str) -> None:
    code, out, err = await counterfoil(*words)
    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


async def test_the_same_admin_twice_is_refused(counterfoil: Any) -> None:
    words = ("create-user", "--email", "ada@example.com", "--admin")
    assert (await counterfoil(*words))[0] == 0
    code, _, err = await counterfoil(*words)
    assert code == 1
    assert "There is an account" in err


async def test_missing_settings_are_all_named(
    counterfoil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "PEPPER"):
        monkeypatch.delenv(name)
    code, _, err = await counterfoil(
        "create-merchant", "--name", "x", "--data", str(tmp_path / "none")
    )
    assert code == 2
    assert "DATABASE_URL" in err
    assert "PEPPER" in err
    assert not (tmp_path / "none").exists()


async def test_a_database_that_is_not_there_is_told(
    counterfoil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/no/folder.db")
    code, _, err = await counterfoil("create-merchant", "--name", "x")
    assert code == 1
    assert "the database cannot be used" in err


def test_the_folder_of_up_completes_the_settings(tmp_path: Path) -> None:
    (tmp_path / "counterfoil.db").touch()
    made = local_keys.fill_in({}, tmp_path / "keys")
    found = console.settings({"PORT": "8123"}, tmp_path)
    assert found.database_url == f"sqlite+aiosqlite:///{tmp_path}/counterfoil.db"
    assert found.public_url == "http://localhost:8123"
    assert base64.b64encode(found.pepper).decode() == made["PEPPER"]


def test_keys_on_this_machine_serve_no_address_that_others_reach(tmp_path: Path) -> None:
    local_keys.fill_in({}, tmp_path / "keys")
    with pytest.raises(SettingsError, match="PEPPER is missing"):
        console.settings({"BIND_HOST": "0.0.0.0"}, tmp_path)  # noqa: S104 - compared, not bound
