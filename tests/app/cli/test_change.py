"""A shop's terms change, and shops and people are switched off, from the command line."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from app.accounts.identity import Opened, Origin, SessionEnded, SignInFailed
from app.accounts.sessions import processing
from app.audit import operations as audit
from app.audit.models import AuditRow
from app.cli.main import main
from app.errors import Conflict
from app.merchants import queries
from app.merchants.models import Merchant
from app.merchants.queries import MerchantDisabled
from app.runtime import Runtime
from tests.support.cast import Cast, Person, Shop, identity_of


async def rows_by(rt: Runtime, name: str) -> list[AuditRow]:
    """Return what a command left in the audit log, by action."""
    async with rt.sessions.read() as session:
        found = await session.scalars(
            select(AuditRow).where(AuditRow.actor_name == name).order_by(AuditRow.action)
        )
        rows = list(found)
    assert {row.actor_kind for row in rows} <= {"command"}
    return rows


async def shop_now(rt: Runtime, shop: Shop) -> Merchant:
    async with rt.sessions.read() as session:
        return await queries.merchant(session, merchant_id=shop.id)


async def use_key(rt: Runtime, shop: Shop) -> str:
    """Return the shop that its key proves to be now. Raises MerchantDisabled."""
    async with rt.sessions.read() as session:
        identity = await queries.authenticate(session, secret=shop.secret, now=rt.clock())
    return identity.merchant_id


async def sign_in(rt: Runtime, person: Person) -> Opened:
    """Give the right password. Raises SignInFailed."""
    here = Origin("192.0.2.1", "Tests", "req_1")
    return await processing.sign_in(rt, email=person.email, password=person.password, origin=here)


async def test_terms_of_a_shop_change(counterfoil: Any, rt: Runtime, cast: Cast) -> None:
    code, out, _ = await counterfoil(
        *("change-merchant", cast.shop.id, "--fee-basis-points", "90", "--fee-fixed", "0"),
        *("--fee-return", "no", "--settle-delay-seconds", "60", "--overdraft-limit", "500"),
    )
    assert code == 0
    assert out == (
        f"Alice's demo shop ({cast.shop.id}): fee_basis_points 140 -> 90, fee_fixed 25 -> 0, "
        "fee_return yes -> no, settle_delay_seconds 172800 -> 60, overdraft_limit 0 -> 500\n"
    )
    shop = await shop_now(rt, cast.shop)
    assert (shop.fee_basis_points, shop.fee_fixed, shop.fee_return) == (90, 0, False)
    assert (shop.settle_delay_seconds, shop.overdraft_limit) == (60, 500)
    assert shop.disabled_at is None
    assert (await shop_now(rt, cast.other_shop)).fee_fixed == 25
    [row] = await rows_by(rt, "change-merchant")
    assert (row.action, row.merchant_id) == ("merchant.terms_changed", cast.shop.id)
    assert row.before["fee_basis_points"] == 140
    assert row.after["fee_basis_points"] == 90


async def test_what_changed_can_be_read_by_a_program(counterfoil: Any, cast: Cast) -> None:
    words = ("change-merchant", cast.shop.id, "--fee-fixed", "30", "--fee-return", "yes", "--json")
    code, out, _ = await counterfoil(*words)
    assert code == 0
    assert json.loads(out) == {
        "merchant_id": cast.shop.id,
        "name": cast.shop.name,
        "changed": {"fee_fixed": {"before": 25, "after": 30}},
    }


async def test_the_keys_of_a_disabled_shop_are_refused(
    counterfoil: Any, rt: Runtime, cast: Cast
) -> None:
    code, out, _ = await counterfoil("change-merchant", cast.shop.id, "--disable")
    assert (code, out) == (0, f"Alice's demo shop ({cast.shop.id}): disabled no -> yes\n")
    with pytest.raises(MerchantDisabled):
        await use_key(rt, cast.shop)
    assert await use_key(rt, cast.other_shop) == cast.other_shop.id
    code, out, _ = await counterfoil("change-merchant", cast.shop.id, "--enable")
    assert (code, out) == (0, f"Alice's demo shop ({cast.shop.id}): disabled yes -> no\n")
    assert await use_key(rt, cast.shop) == cast.shop.id
    rows = await rows_by(rt, "change-merchant")
    assert [row.action for row in rows] == ["merchant.disabled", "merchant.enabled"]


async def test_terms_and_the_switch_change_together_or_not_at_all(
    counterfoil: Any, rt: Runtime, cast: Cast
) -> None:
    words = ("change-merchant", cast.shop.id, "--disable", "--fee-basis-points")
    code, out, err = await counterfoil(*words, "10001")
    assert (code, out) == (1, "")
    assert err == "counterfoil: fee_basis_points must be a whole number from 0 to 10000\n"
    assert (await shop_now(rt, cast.shop)).disabled_at is None
    assert await rows_by(rt, "change-merchant") == []
    code, out, _ = await counterfoil(*words, "0")
    assert code == 0
    assert out.endswith(": fee_basis_points 140 -> 0, disabled no -> yes\n")
    rows = await rows_by(rt, "change-merchant")
    assert [row.action for row in rows] == ["merchant.disabled", "merchant.terms_changed"]


async def test_without_its_audit_row_nothing_changes(
    counterfoil: Any, rt: Runtime, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = audit.record

    async def record(*positional: Any, **values: Any) -> str:
        if values["action"] in {"merchant.disabled", "user.disabled"}:
            raise Conflict("The log is full.")
        return await written(*positional, **values)

    monkeypatch.setattr(audit, "record", record)
    refused = (1, "", "counterfoil: The log is full.\n")
    words = ("change-merchant", cast.shop.id, "--fee-fixed", "1", "--disable")
    assert await counterfoil(*words) == refused
    shop = await shop_now(rt, cast.shop)
    assert (shop.fee_fixed, shop.disabled_at) == (25, None)
    assert await rows_by(rt, "change-merchant") == []
    assert await counterfoil("change-user", cast.alice.email, "--disable") == refused
    await identity_of(rt, cast.alice)


async def test_an_account_that_is_closed_is_signed_out_at_once(
    counterfoil: Any, rt: Runtime, cast: Cast
) -> None:
    await identity_of(rt, cast.alice)
    code, out, _ = await counterfoil("change-user", "Alice@Example.com", "--disable")
    assert code == 0
    assert out == "alice@example.com: enabled -> disabled; all its sessions have ended\n"
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)
    await identity_of(rt, cast.bob)
    with pytest.raises(SignInFailed):
        await sign_in(rt, cast.alice)
    code, out, _ = await counterfoil("change-user", cast.alice.email, "--enable", "--json")
    assert code == 0
    assert json.loads(out) == {
        "user_id": cast.alice.id,
        "email": cast.alice.email,
        "was_disabled": True,
        "disabled": False,
    }
    # The session stays ended; only a new sign-in leads in again.
    with pytest.raises(SessionEnded):
        await identity_of(rt, cast.alice)
    await sign_in(rt, cast.alice)
    rows = await rows_by(rt, "change-user")
    assert [(row.action, row.object_id) for row in rows] == [
        ("user.disabled", cast.alice.id),
        ("user.enabled", cast.alice.id),
    ]


@pytest.mark.parametrize("words", [("--enable",), ("--fee-fixed", "25", "--fee-return", "yes")])
async def test_a_shop_that_is_like_this_already_is_left_alone(
    counterfoil: Any, rt: Runtime, cast: Cast, words: tuple[str, ...]
) -> None:
    code, out, _ = await counterfoil("change-merchant", cast.shop.id, *words)
    assert code == 0
    assert "nothing changed" in out
    assert await rows_by(rt, "change-merchant") == []


async def test_an_account_that_is_like_this_already_is_left_alone(
    counterfoil: Any, rt: Runtime, cast: Cast
) -> None:
    code, out, _ = await counterfoil("change-user", cast.alice.email, "--enable")
    assert (code, out) == (0, "alice@example.com: nothing changed, it is enabled already\n")
    await identity_of(rt, cast.alice)
    assert await rows_by(rt, "change-user") == []


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["change-merchant", "mer_none", "--disable"], 1, "There is no shop mer_none."),
        (["change-merchant", "mer_none", "--fee-fixed", "1"], 1, "There is no shop mer_none."),
        (
            ["change-merchant", "mer_none"],
            2,
            "nothing to change: name a term, --disable or --enable.",
        ),
        (
            ["change-user", "Nobody@example.com", "--disable"],
            1,
            "There is no account of nobody@example.com.",
        ),
        (["change-user", "nobody", "--enable"], 1, "This is no e-mail address."),
    ],
)
async def test_a_refusal_is_one_sentence(
    counterfoil: Any, words: list[str], code: int, sentence: str
) -> None:
    assert await counterfoil(*words) == (code, "", f"counterfoil: {sentence}\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["change-user", "a@example.com"], "one of the arguments --disable --enable is required"),
        (["change-user", "a@example.com", "--disable", "--enable"], "not allowed with argument"),
        (["change-merchant", "mer_x", "--disable", "--enable"], "not allowed with argument"),
        (["change-merchant", "mer_x", "--fee-return", "maybe"], "invalid choice: 'maybe'"),
    ],
)
def test_wrong_words_end_with_2(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err
